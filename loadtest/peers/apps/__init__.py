"""The systems that `make bench PART=peers` compares with. Run by .venv-peers, whose packages ours know nothing of."""
