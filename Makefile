# Two commands do all the set-up: `make demo` and `make test`. Python 3.11+ and a package index are all they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Real input is used where it is; without it the tests that need it skip and say so.
JIETONG_REAL_DATA ?= $(wildcard ../shared/data)
ifneq ($(JIETONG_REAL_DATA),)
export JIETONG_REAL_DATA := $(abspath $(JIETONG_REAL_DATA))
endif

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jietong needs Python 3.11 or newer; call make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once; about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.PHONY: demo demo-real city city-up year test test-city check faults mutants bench bench-city lock help
demo: $(READY) ## run a city of 200 projects for about 30 seconds, then verify it
	@$(BIN)/python -m simulation $(ARGS)

city: $(READY) ## the same city on real servers (Kafka, PostgreSQL, a registry), every program a process, then verify it
	@$(BIN)/python -W ignore -m simulation.city $(ARGS)

city-up: $(READY) ## the same, left up for you, with addresses printed; Ctrl-C ends it
	@$(BIN)/python -W ignore -m simulation.city --keep $(ARGS)

year: $(READY) ## a year of a city of 2,000 projects on an injected clock, then verify it (about ten minutes)
	@$(BIN)/python -m simulation.year $(ARGS)

demo-real: $(READY) ## bring in the real files of JIETONG_REAL_DATA and count
	@$(BIN)/python -m simulation.real $(ARGS)

test: check ## everything: static checks, then all tests
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not city"

test-city: $(READY) ## contract suites, the flow and short faults on the real servers
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "city and not slow"

check: $(READY) ## static only: ruff, basedpyright, import-linter, schemas, city packs
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(BIN)/basedpyright --level error
	@PATH=$(BIN):$$PATH $(BIN)/lint-imports --no-cache | tail -n 3
	@$(BIN)/python -m deploy.generate --check
	@$(BIN)/jietong schema check && $(BIN)/jietong city check jiangmen && $(BIN)/jietong city check dongguan

faults: $(READY) ## every fault case, full counts (long); goes on where it stopped; one case by name: ARGS="-k f07"
	@JIETONG_FAULTS=full $(BIN)/python -m pytest -q -s tests/faults -m "slow or not slow" $(ARGS)

mutants: $(READY) ## break each guarantee on purpose: every patch must turn its test red
	@$(BIN)/python -m tests.mutations.run $(ARGS)

bench: $(READY) ## ratios on this machine, as a table
	@$(BIN)/python -m benchmarks $(ARGS)

bench-city: $(READY) ## ratios on the real servers, beside FastStream, as a table
	@$(BIN)/python -W ignore -m benchmarks.on_servers $(ARGS)

lock: ## renew requirements.lock from pyproject.toml
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -p 3.11 --all-extras --group dev pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -p 3.11 --extra city -c requirements.lock pyproject.toml -o deploy/requirements.lock

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
