"""`make bench`: latency and CPU at constant rates, as a table and curves; `make bench-check`, `make bench-gpu`."""
