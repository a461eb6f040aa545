"""make prove: what the scorer survives, measured: load, faults, swaps, ends, fuzz, time."""
