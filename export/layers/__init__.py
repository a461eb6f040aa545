"""Parts that more than one paper uses, one idea per file."""
