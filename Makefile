# Celeriac: `make up` starts everything, `make test` tests everything. Both set themselves up.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
#: Further arguments of `up`, `test` and `bench`: make test ARGS="tests/unit -x"
ARGS   ?=
#: Test processes at once: one more than processors, since many tests wait for other processes.
JOBS   ?= $(shell $(PYTHON) -c 'import os; print(min((os.cpu_count() or 1) + 1, 8))')

.DEFAULT_GOAL := help
.PHONY: help up check test test-clocks unit lint types imports proto client bench soak ci clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Celeriac needs Python 3.11 or later: set PYTHON=/path/to/python3")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group dev
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

client: $(VENV)/.dev ## Generate the blocking Python client from the one for asyncio
	$(BIN)/python tools/generate_sync_client.py

bench: $(VENV)/.bench ## Measure against peers: submissions per second, CPU per task; history: recording, paging
	$(BIN)/python bench/submit.py $(ARGS)
	$(BIN)/python bench/throughput.py $(ARGS)
	$(BIN)/python bench/dispatch.py $(ARGS)
	$(BIN)/python bench/notify.py $(ARGS)
	$(BIN)/python bench/recorder.py $(ARGS)
	$(BIN)/python bench/history_pages.py $(ARGS)
	$(BIN)/python bench/scheduler.py $(ARGS)

soak: $(VENV)/.dev ## Load the platform for HOURS=1 while all its processes are killed and stalled, and count what is lost
	$(BIN)/python -m tests.chaos.soak --hours $(or $(HOURS),1) --nice $(or $(NICE),10) --database $(or $(DATABASE),sqlite) \
		$(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON)) $(ARGS)

ci: lint types ## Run what CI runs
	$(BIN)/python tools/generate_proto.py --check
	$(BIN)/python tools/generate_sync_client.py --check
	$(MAKE) test

clean: ## Remove the virtual environment, caches and the data folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .celeriac dist
