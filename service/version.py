"""The version of the scorer, as in pyproject.toml: a test compares."""

VERSION = "0.1.0"
