# Celeriac: `make up` starts everything, `make test` tests everything. Both set themselves up.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
#: Further arguments of `up`, `test` and `bench`: make test ARGS="tests/unit -x"
ARGS   ?=
#: What `up` installs beside the client: `make up EXTRAS=server` leaves ffmpeg and Pillow out.
EXTRAS ?= server,files
#: Test processes at once: three for two processors. Most tests wait for other processes, and these keep the processors busy.
JOBS   ?= $(shell $(PYTHON) -c 'import os; print(max(2, min(3 * (os.cpu_count() or 1) // 2, 12)))')

#: Django 6 needs Python 3.12: the newest one that is there. Another one: make test-django6 DJANGO6_PYTHON=/path/to/python
DJANGO6_PYTHON ?= $(shell for v in 3.14 3.13 3.12; do if python$$v -c "" 2> /dev/null; then echo python$$v; break; fi; done)
DJANGO6_VENV   := $(VENV)/django6

.DEFAULT_GOAL := help
.PHONY: help up check test test-clocks test-stalls test-django6 unit lint types imports proto docs bench speed-table soak failovers celery-suite ci clean

help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Celeriac needs Python 3.11 or later: set PYTHON=/path/to/python3")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	@touch $@

$(VENV)/.celery-suite: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group celery-suite
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

up: $(VENV)/.run ## Start the whole platform on this machine, with an example executor (Ctrl-C stops it)
	$(BIN)/celeriac up --config examples/quickstart.yaml $(ARGS)

check: lint types unit ## Check style and types and run the unit tests: about a minute

unit: $(VENV)/.dev ## Run the unit tests: no servers, half a minute
	$(BIN)/python -m pytest tests/unit -q -n $(JOBS) $(ARGS)

test: $(VENV)/.dev ## Run the whole test suite; it says beforehand how long that takes
	@# Empty means unset: the programs that tests start then find their modules compiled. Not reordered: the files that
	@# take longest are begun first (tests/kit/costs.py), so that no process is left with one of them at the end.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-clocks: $(VENV)/.dev ## Run the tests that depend on the clock at odd hours, days and in other zones (needs libfaketime)
	$(BIN)/python tools/test_clocks.py $(ARGS)

test-stalls: $(VENV)/.dev ## Run tests while their processes stall by a seed: make test-stalls ARGS="--seed 3 tests/integration/store"
	$(BIN)/python tools/test_stalls.py $(ARGS)

test-django6: ## Run the tests of Django and of outboxes with Django 6, in a virtual environment of its own
ifeq ($(DJANGO6_PYTHON),)
	@echo "SKIPPED: Django 6 needs Python 3.12 or later, and there is none: make test-django6 DJANGO6_PYTHON=/path/to/python3.12"
else
	@test -x $(DJANGO6_VENV)/bin/python || $(DJANGO6_PYTHON) -m venv $(DJANGO6_VENV)
	$(DJANGO6_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(DJANGO6_VENV)/bin/python -m pip install --quiet --editable ".[all]" --group dev "django>=6"
	$(DJANGO6_VENV)/bin/python -m pytest -n $(JOBS) tests/integration/django tests/integration/outbox tests/e2e/test_django_progress.py $(ARGS)
endif

lint: $(VENV)/.dev imports ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Check types (mypy --strict)
	$(BIN)/mypy
	$(BIN)/mypy bench tools

imports: $(VENV)/.dev ## Check that dependencies point down
	$(BIN)/lint-imports

proto: $(VENV)/.dev ## Generate the code of the .proto files
	$(BIN)/python tools/generate_proto.py

# Rebuilt if something that it is made from has changed: pages, docstrings, the OpenAPI document, what pages link to.
SITE_SOURCES := mkdocs.yml $(wildcard *.md) $(shell find docs tools/docs_site examples deploy bench proto platform api tasks \
	-type f -not -name '*.pyc' 2> /dev/null)

build/site/index.html: $(VENV)/.dev $(SITE_SOURCES)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@touch $@

docs: build/site/index.html ## Build the documentation as a site: build/site (shown by: python3 -m http.server -d build/site)
	@echo "The site is in build/site. Show it with: python3 -m http.server --directory build/site --bind 127.0.0.1"

bench: $(VENV)/.bench ## Measure everything against peers (ARGS=--quick: five minutes) and write bench/figures.json
	$(BIN)/python bench/run.py $(ARGS)

speed-table: $(VENV)/.dev ## Write the table of speed in the READMEs from bench/figures.json
	$(BIN)/python tools/speed_table.py

soak: $(VENV)/.dev ## Load the platform for HOURS=1 while all its processes are killed and stalled, and count what is lost
	$(BIN)/python -m tests.chaos.soak --hours $(or $(HOURS),1) --nice $(or $(NICE),10) --database $(or $(DATABASE),sqlite) \
		$(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON)) $(ARGS)

failovers: $(VENV)/.dev ## Kill, freeze and cut off the store's primary ROUNDS=200 times under load, and count what is lost
	$(BIN)/python -m tests.chaos.failovers --rounds $(or $(ROUNDS),200) --minutes $(or $(MINUTES),120) \
		--brand $(or $(BRAND),valkey) --nice $(or $(NICE),0) $(if $(TLS),--tls) $(if $(SEED),--seed $(SEED)) $(ARGS)

celery-suite: $(VENV)/.celery-suite ## Run Celery's own integration tests on a stock app and on ours, and compare (half an hour)
	$(BIN)/python -m tests.celery_suite $(ARGS)

ci: lint types ## Run what CI runs
	$(BIN)/python tools/generate_proto.py --check
	$(MAKE) test

clean: ## Remove the virtual environment, caches and the data folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .celeriac dist build
