# `make help` lists the targets. Everything happens in .venv; nothing is installed elsewhere.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_VERSION := $(shell sed -n 's/^pip==//p' requirements.lock)
SOURCES := secateur app workers migrations tests benchmarks examples .ci
PYTEST_ARGS ?=
WORKERS ?= 3
MUTATE_ARGS ?=
COSMIC_RAY := 8.7.0
DEMO_ARGS ?=
SCREENSHOTS ?= .cache/screenshots

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install check format test test-all screenshots docs mutate demo lock clean

help: ## Say what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with the pinned dependencies of all extras

$(STAMP): requirements.lock pyproject.toml secateur/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@echo "Installing into $(VENV): some 200 packages, 2 GB with a CPU build of torch and several more with CUDA's. It takes minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==$(PIP_VERSION)
	$(BIN)/python -m pip install --quiet -c requirements.lock --build-constraint requirements.lock \
		-e ./secateur -e '.[worker,embedded,otel,dev]'
	touch $@

check: install ## Lint, check formatting, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: install ## Format the code and apply the linter's safe corrections
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# three files of tests at a time (WORKERS), each with one thread of arithmetic: many wait, so that keeps two cores busy;
# compiled modules are kept, since the tests start some hundred processes that import them
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: install ## Run the tests but for the thorough ones (PYTEST_ARGS="-k name" for some)
	$(PYTEST) -m "not thorough" $(PYTEST_ARGS)

test-all: install ## Run all tests, as CI does
	$(PYTEST) $(PYTEST_ARGS)

# needs chromium and chromedriver, as the tests of the pages do; those that the README shows are renewed in docs/images
screenshots: install ## Take a picture of every page of the dashboard (SCREENSHOTS=FOLDER)
	mkdir -p $(SCREENSHOTS)
	SECATEUR_SCREENSHOTS=$(abspath $(SCREENSHOTS)) $(BIN)/pytest -q tests/app/web/test_every_page.py

# mkdocs is installed here and nowhere else; a page out of the navigation or a link that leads nowhere is an error
docs: install ## Make the documentation's site in .cache/site
	test .cache/docs/.installed -nt .ci/docs-requirements.txt || { rm -rf .cache/docs && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --target .cache/docs -r .ci/docs-requirements.txt && \
		touch .cache/docs/.installed; }
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=.cache/docs $(BIN)/python -m mkdocs build --quiet
	@echo "open .cache/site/index.html, or with its search: $(BIN)/python -m http.server --directory .cache/site 8080"

# cosmic-ray is installed here and nowhere else: neither the tests nor CI need it
mutate: install ## Change the code in small ways and see whether the tests notice (MUTATE_ARGS="gates --survivors")
	test -d .cache/cosmic-ray || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--target .cache/cosmic-ray cosmic-ray==$(COSMIC_RAY)
	$(BIN)/python .ci/mutate.py $(MUTATE_ARGS)

demo: install ## Prune a real language model: service, job, report; then stop it all
	$(BIN)/python examples/demo.py $(DEMO_ARGS)

lock: ## Renew requirements.lock from pyproject.toml (LOCK_ARGS=--upgrade for the newest of everything)
	$(PYTHON) .ci/lock.py $(LOCK_ARGS)

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
