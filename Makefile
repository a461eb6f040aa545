# make            what there is to make
# Everything needs Python >= 3.11 with venv; all else is installed into .venv from locks/.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo serve test check bench bench-check prove bench-gpu stack-test lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.venv/installed: locks/dev.txt locks/torch.txt
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r locks/torch.txt
	@touch $@

install: .venv/installed ## make .venv, from pinned versions

demo: .venv/installed ## real data -> train -> export -> store -> serve -> score -> load test (under 8 minutes on 2 cores)
	$(BIN)/python -m loadtest demo

serve: .venv/installed ## the scorer on the embedded store and the bundles that make demo left
	$(BIN)/python -m service

test: .venv/installed ## the test suite, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/installed ## lint, format, types, layering, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py
	$(BIN)/python locks/audit.py

PART ?= table

bench: .venv/installed ## measure what PART names (table, curves, store, kernels, peers), into loadtest/results/
	$(BIN)/python -m loadtest bench --part $(PART)

bench-check: .venv/installed ## stage times beside those of the speed table's commit; fails beyond 10 % (4 to 8 minutes)
	$(BIN)/python -m loadtest bench-check

bench-gpu: .venv/installed ## the speed table on a GPU, and 1,000 candidates x 10^5 behaviours; needs onnxruntime-gpu
	$(BIN)/python -m loadtest bench-gpu

prove: .venv/installed ## what it survives: load, faults, swaps, ends, fuzz, time; into loadtest/results/ (10 minutes)
	$(BIN)/python -m loadtest prove

stack-test: .venv/installed ## the compose stack built, started, used and removed; needs docker compose, or its name in COMPOSE
	$(BIN)/python -m loadtest stack-test

lock: ## pin the newest versions that pyproject.toml allows (needs uv)
	./locks/update.sh

clean: ## remove what was made: bundles, runs, caches (not .venv)
	rm -rf bundles runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
