# Everything that is installed comes from requirements.lock, by hash, into .venv; a second run installs nothing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
NODE := tests/clients/node
NODE_STAMP := $(NODE)/node_modules/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint format mutate lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## a simulated outage, end to end, on loopback, no credentials (ARGS=--fast for the short one)
	@$(BIN)/completion-proxy demo $(ARGS)

test: $(STAMP) $(NODE_STAMP) ## the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(STAMP) ## let ruff rewrite the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

mutate: $(STAMP) ## a mutation run over health/ (a quarter of an hour; score and survivors)
	@rm -rf mutants
	@$(BIN)/mutmut run --max-children 2 >/dev/null || { echo "mutmut failed; for why: $(BIN)/mutmut run"; exit 1; }
	@$(BIN)/python -m tests.mutation_score

# The image installs no more than it needs, in the same versions: its two locks are parts of requirements.lock.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header

lock: $(STAMP) ## resolve the newest versions that pyproject.toml allows into requirements.lock
	@$(LOCK) --upgrade --group dev pyproject.toml --output-file requirements.lock
	@$(LOCK) --extra openfeature --constraints requirements.lock pyproject.toml --output-file deploy/runtime.lock
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
		$(LOCK) --constraints requirements.lock - --output-file deploy/build.lock

clean: ## remove what the targets made
	@rm -rf .venv .artefacts .mypy_cache .ruff_cache .import_linter_cache .hypothesis mutants build dist $(NODE)/node_modules

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@echo "installing into .venv, once ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation --editable .
	@touch $(STAMP)

# The client libraries of node, by their lock; without npm the tests that need them are skipped.
$(NODE_STAMP): $(NODE)/package.json $(NODE)/package-lock.json
	@if command -v npm >/dev/null; then \
		echo "installing the client libraries of node, once ..."; \
		cd $(NODE) && npm ci --loglevel=error >/dev/null && touch node_modules/.installed; \
	fi
