"""Past one machine: `python -m loadtest plan`."""
