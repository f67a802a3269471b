# `make help` lists what a newcomer can do.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILED := $(VENV)/.compiled

.PHONY: help setup demo test lint types imports unit check bench bench-shard bench-scanner prove clean
.DEFAULT_GOAL := help

WORKERS ?= 4

# All that is published: everything but the environment and the caches.
PUBLISHED = $(wildcard $(filter-out .git .venv,$(shell \
  git ls-files 2>/dev/null | cut -d/ -f1 | sort -u || true) README.md core llm tools tests docs))

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install everything into it

# The mode spares every Python that starts here the import of a finder for our packages.
$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . \
	  --config-settings editable_mode=compat
	@touch $(READY)

demo: setup ## watch the router at work on a dozen simulated keys (20 seconds)
	@$(BIN)/python -m llm demo

test: setup ## lint, types, import contract, all tests
	@$(MAKE) --no-print-directory --jobs=2 types check lint imports $(COMPILED)
	@$(MAKE) --no-print-directory unit

check: setup ## look for leaked credentials in this repository
	@$(BIN)/python tools/secret_scanner.py $(PUBLISHED) --fail-on-found --no-banner

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

# The tests start our programs hundreds of times, and each worker loads all of them: Python may keep
# what it compiled, also where the environment says otherwise.
unit $(COMPILED): export PYTHONDONTWRITEBYTECODE =

# Once, and beside mypy, which takes as long; otherwise each worker compiles every test for itself.
# What cannot be collected is for `unit` to tell.
$(COMPILED): | $(READY)
	@$(BIN)/pytest --collect-only >/dev/null 2>&1 || true
	@touch $@

# Twice as many workers as cores, since many tests wait for a window to pass.
unit: setup
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

bench: setup ## measure the router beside PING, the bare SDK and other limiters
	@$(BIN)/python -m benchmarks.router
	@$(BIN)/python -m benchmarks.tasks
	@$(BIN)/python -m benchmarks.threads
	@$(BIN)/python -m benchmarks.limiter

prove: setup ## show that no limit is passed and nearly all is used (three minutes)
	@$(BIN)/python -m benchmarks.prove

bench-shard: setup ## measure how many requests a second one shard carries
	@$(BIN)/python -m benchmarks.shard

bench-scanner: setup ## score the secret scanner by kind and context, and its speed
	@$(BIN)/python -m benchmarks.scanner

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
