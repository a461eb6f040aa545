"""What benchmarks serve: a made-up data set, bundles of it, a store that holds its users."""
