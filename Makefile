# `make help` says what there is. Every target sets up what it needs; the second time that takes no time.

VENV ?= .venv
PYTHON ?=
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHELL := bash

# While pip works: the package it is at, on one line, where somebody watches.
SHOW_PACKAGES := if [ -t 1 ]; then awk '/^(Collecting|Installing)/ { printf "\r\033[K  %.70s", $$0; fflush() } \
  END { printf "\r\033[K" }'; else cat > /dev/null; fi

# A dependency's own dependencies must keep to the pinned versions too, so pip is told twice: here, and on its command line.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench notebooks structure clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## ?/\1\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY) ## a virtual environment in .venv with everything in it; PYTHON=... names another python

$(READY): pyproject.toml constraints.txt
	@for python in $(PYTHON) $(if $(PYTHON),,python3 python3.13 python3.12 python3.11); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  found=$$("$(or $(PYTHON),python3)" --version 2>/dev/null | grep '^Python'); \
	  echo "error: Glassformer needs Python 3.11 or newer; $(or $(PYTHON),python3) is $${found:-not there}." >&2; \
	  echo "       Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! "$$found" -m venv $(VENV); then \
	  echo "error: '$$found -m venv $(VENV)' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi
	@echo "Installing Glassformer and its tools into $(VENV): a few minutes the first time, most of it PyTorch."
	@set -o pipefail; log=$(VENV)/setup.log; \
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[dev]' 2>&1 | tee $$log | $(SHOW_PACKAGES) \
	  || { echo "error: the installation failed; the end of $$log:" >&2; tail -n 15 $$log >&2; exit 1; }
	@touch $@

demo: $(READY) ## train a small GPT on text that is on this machine, sample from it, check it against NumPy
	@$(BIN)/glassformer demo $(ARGS)

test: $(READY) ## every test, the slow ones too; ARGS='-k mask' for some
	@$(BIN)/python -m pytest -n 2 $(ARGS)

check: $(READY) ## ruff (lint and format), pyright, house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/python -m pytest tests/style

format: $(READY) ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## the benchmarks against the peers, and where we lose
	@$(BIN)/python -m benchmarks $(ARGS)

notebooks: $(READY) ## build and execute the notebook beside each chapter
	@$(BIN)/python tools/notebooks.py $(ARGS)

structure: $(READY) ## write STRUCTURE.md anew
	@$(BIN)/python tools/structure.py

clean: ## remove the virtual environment and what tools left
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
