# `make demo` and `make test` need Python 3.11 or newer and nothing else; see README.md.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	command -v $$p >/dev/null 2>&1 && \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && \
	{ echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint format clean

help: ## What there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.demo $(VENV)/.warm ## The main job on real data, on a Kafka that pip alone brings (or RECSYS_BROKER)
	@$(BIN)/recsys demo

test: $(VENV)/.test $(VENV)/.warm lint ## Lint, types, import layers and all tests
	$(BIN)/python -m pytest

lint: $(VENV)/.test ## Lint, formatting, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .recsys

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "recsys needs Python 3.11, 3.12 or 3.13: none was found."; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the packages of the demo (about a minute; no torch) ..."
	@$(PIP) install -c constraints.txt -e '.[worker,local,images]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the packages of the tests (torch among them: some gigabytes) ..."
	@$(PIP) install -c constraints.txt -e '.[worker,local,images,train,parquet,tracing]' --group dev
	@touch $@

# Numba keeps compiled kernels until their own file changes, and sees no change of what they call.
$(VENV)/.warm: $(wildcard models/*.py recsys/*.py) | $(BIN)/python
	@echo "Compiling the kernels, once ..."
	@find models recsys -name '*.nb[ic]' -delete
	@$(BIN)/python -m recsys.warm_up
	@touch $@
