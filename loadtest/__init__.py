"""Load on a running scorer: workloads, locust users, and the demo that shows the whole path once."""
