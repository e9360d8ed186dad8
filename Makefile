# Everything a developer or a newcomer runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test chaos check fix bench services lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Cellwright needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "This Python cannot make virtual environments (on Debian: apt install python3-venv)."; rm -rf $(VENV); exit 1; }

$(VENV)/run.stamp: requirements/run.txt $(SOURCES) | $(VENV)/bin/python
	@echo "Installing Cellwright and what it needs into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(VENV)/etc/jupyter/jupyter_server_config.d
	@cp etc/jupyter/jupyter_server_config.d/cellwright.json $(VENV)/etc/jupyter/jupyter_server_config.d/
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@echo "Installing the development tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/run.stamp ## Watch the main job: an agent works with a real file on a real kernel
	@mkdir -p demo-workspace
	@cd demo-workspace && ../$(BIN)/cellwright demo

test: $(VENV)/dev.stamp ## Run the tests
	@$(BIN)/python -m pytest

chaos: $(VENV)/dev.stamp ## Break stores, servers and models, many times at random
	@CHAOS_RUNS=$${CHAOS_RUNS:-300} $(BIN)/python -m pytest tests/faults --timeout 3600

check: $(VENV)/dev.stamp .links ## Format, lint, types, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@MYPYPATH=.links $(BIN)/mypy -p cellwright
	@PYTHONPATH=.links $(BIN)/lint-imports

fix: $(VENV)/dev.stamp ## Format, and mend what can be mended by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Peers that need other versions than ours live beside us.
.peers/stamp: requirements/peers.txt
	@$(PYTHON) -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.txt
	@touch $@

bench: $(VENV)/dev.stamp .peers/stamp ## Measure, beside peers in the same run
	@$(BIN)/python -m benchmarks.kernels --peers .peers/bin/python
	@$(BIN)/python -m benchmarks.copies
	@$(BIN)/python -m benchmarks.path

services: $(VENV)/dev.stamp ## Start Postgres, Redis and an S3 server on private ports, until Ctrl-C
	@$(BIN)/python -m tests.services

lock: ## Renew the locks (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra data --extra lab --extra build -o requirements/run.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --all-extras -c requirements/run.txt -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header benchmarks/peers/requirements.in -o requirements/peers.txt

# mypy and import-linter do not see through an editable install's import hook.
.links:
	@mkdir -p .links/cellwright
	@for part in server kernels extension notebooks; do ln -sfn ../../$$part .links/cellwright/$$part; done

clean: ## Remove what was built and installed
	rm -rf $(VENV) .peers .links build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
