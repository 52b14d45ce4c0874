# What each target does: `make help`. Set-up is remembered in stamp files, so a second run is instant.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
# The tests start hundreds of processes: without stored bytecode each of them would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
BIN := .tools/bin
KAFKA_PORT ?= 9092
KAFKA_DATA := .tools/kafka/data
REGAL_OLDEST := 0.36

# Answers in one line, with the remedy, when a tool is missing: $(call need,tool,remedy)
need = command -v $(1) >/dev/null || { echo "$(1) was not found: $(2)" >&2; exit 1; }

.PHONY: help setup setup-check setup-test demo check test coverage static unit lint-python lint-rego lint-protos \
        protos proto-breaking services services-stop soak bench lock clean distclean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

# ---- set-up ----

setup: $(VENV)/.runtime $(VENV)/bin/opa ## what `make demo` needs: .venv/bin/entente and OPA

setup-check: setup $(VENV)/.dev $(BIN)/buf ## and what `make check` needs

setup-test: setup-check $(BIN)/grpcurl $(BIN)/ledgercheck .tools/kafka/classes.jsa ## and what `make test` needs: Kafka, grpcurl, ledgercheck

$(PY):
	@$(call need,$(PYTHON),install Python 3.11 or newer or name one with 'make PYTHON=...')
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11: install Python 3.11 or newer or name one with 'make PYTHON=...'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) has no venv module: install it (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(PY)
	@echo "installing the Python packages of requirements.lock" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/.runtime
	@echo "installing the Python packages of requirements-dev.lock" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(BIN)/%: deploy/tools/%/go.mod deploy/tools/%/go.sum deploy/tools/build.sh
	@deploy/tools/build.sh $*
	@touch -h $@

$(BIN)/ledgercheck: deploy/tools/ledgercheck/main.go

# the broker looks for OPA beside its Python first
$(VENV)/bin/opa: $(BIN)/opa | $(PY)
	@ln -sf ../../$(BIN)/opa $@

.tools/kafka/.stamp: deploy/kafka/pom.xml
	@$(call need,java,install a Java 17 runtime)
	@$(call need,mvn,install Maven 3.8 or newer)
	@echo "fetching Kafka" >&2
	@rm -rf .tools/kafka/libs.new
	@mvn -B -q -Dstyle.color=never -f deploy/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
	  -DoutputDirectory="$(CURDIR)/.tools/kafka/libs.new"
	@rm -rf .tools/kafka/libs && mv .tools/kafka/libs.new .tools/kafka/libs
	@touch $@

# the tests start Kafka dozens of times
.tools/kafka/classes.jsa: .tools/kafka/.stamp | $(PY)
	@$(PY) deploy/kafka/node.py archive

# ---- running it ----

demo: setup ## three real data sets, five subscribers: who receives what
	@$(VENV)/bin/entente demo

services: .tools/kafka/.stamp ## Kafka for hand use on 127.0.0.1:9092 (KAFKA_PORT), in the background
	@$(call need,$(PYTHON),install Python 3.11 or newer)
	@$(PYTHON) deploy/kafka/node.py start --data $(KAFKA_DATA) --port $(KAFKA_PORT)

services-stop: ## stop it; its data stay in .tools/kafka/data
	@$(PYTHON) deploy/kafka/node.py stop --data $(KAFKA_DATA)

bench: setup-test ## records per second to 1, 10 and 100 subscriptions on Kafka
	@$(PY) -m benchmarks

# ---- checking it ----

check: setup-check static unit ## the quick part, two minutes

# A file of a few long tests that begins last is what everybody waits for.
SLOWEST_FIRST := $(addprefix tests/,fault e2e integration contract policy)
SIDE_BY_SIDE := --dist loadfile --no-loadscope-reorder

test: setup-test static proto-breaking ## everything, on real Kafka and OPA; coverage by the unit tests
	@$(PY) -m pytest -n 2 $(SIDE_BY_SIDE) --cov --cov-report=term tests/unit
	@# measuring takes the tests with services half as long again
	@$(PY) -m pytest -n 4 $(SIDE_BY_SIDE) $(SLOWEST_FIRST)

coverage: setup-test ## coverage by all tests
	@$(PY) -m pytest -n 4 $(SIDE_BY_SIDE) --cov --cov-report=term $(SLOWEST_FIRST) tests/unit

soak: setup-test ## the tests that run for minutes
	@# without capturing: a line that is logged live takes standard output from a command that runs in the test's process
	@$(PY) -m pytest -m soak --hypothesis-profile exploring --timeout 3600 --log-cli-level INFO --capture no

static: lint-python lint-rego lint-protos

lint-python: $(VENV)/.dev
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/mypy --strict broker connectors protos/generate.py deploy/kafka/node.py tests/conftest.py tests/services

lint-rego: $(BIN)/opa
	@$(BIN)/opa fmt --list --fail policy
	@$(BIN)/opa check --strict --bundle --capabilities policy/capabilities.json --schema policy/schemas policy
	@$(BIN)/opa test --bundle policy
	@deploy/tools/regal.sh $(REGAL_OLDEST) policy

lint-protos: $(BIN)/buf $(VENV)/.dev
	@$(BIN)/buf lint
	@$(PY) protos/generate.py --check

unit: $(VENV)/.dev $(BIN)/opa
	@$(PY) -m pytest -q tests/unit

proto-breaking: $(BIN)/buf ## whether the API breaks its callers on main
	@if ! git cat-file -e main:protos/entente/v1 2>/dev/null; then \
	  echo "main has no protos/entente/v1 to compare with"; \
	else \
	  $(BIN)/buf breaking --against '.git#branch=main'; \
	fi

# ---- what is generated ----

protos: $(VENV)/.dev ## generate the API's Python code, stubs and reference
	@$(PY) protos/generate.py
	@$(PY) docs/generate.py

UV_COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate pyproject.toml --extra build

lock: $(VENV)/.dev ## write the lock files after a change of pyproject.toml
	@$(UV_COMPILE) -o requirements.lock
	@$(UV_COMPILE) --extra dev -c requirements.lock -o requirements-dev.lock

clean: ## what running and testing left behind
	@rm -rf build dist *.egg-info deploy/client/build deploy/client/*.egg-info .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean services-stop ## and the set-up, with the data of `make services`
	@rm -rf $(VENV) .tools
