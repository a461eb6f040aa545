"""The report: train what is missing, evaluate what is not yet evaluated, and write one page about all models."""
