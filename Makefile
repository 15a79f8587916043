# Two commands matter: `make demo` and `make test`. Both make .venv and install what they need.
PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif
BIN := .venv/bin
PORT ?= 8000
# One pip call first, for torch alone: a build without GPU parts (2.13.0, CPU) must be there before anything asks for "torch".
# Set TORCH_PIP_ARGS to point pip at your own wheels, e.g. TORCH_PIP_ARGS="--find-links /wheels".
TORCH_PIP_ARGS ?=
# Spread over the processors: each has a database, a runner host and tiny models of its own.
PYTEST ?= -n auto --maxprocesses 4 --dist worksteal
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' requirements.txt)

.PHONY: demo up test test-clients test-postgres check lint fmt types bench bench-drift migrations clean help

help:  ## What there is to run
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

.venv/.runtime: requirements.txt
	@echo "Making .venv (two to five minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Slipway needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(BIN)/python -m pip install --progress-bar on -q --disable-pip-version-check $(TORCH_PIP_ARGS) $(TORCH)
	$(BIN)/python -m pip install --progress-bar on -q --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	$(BIN)/python -m pip install --progress-bar on -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: .venv/.runtime  ## Three real models from push to drift alert, then serving (CHECK=1 asserts each step and ends)
ifeq ($(CHECK),1)
	@var=$$(mktemp -d) && port=$$($(BIN)/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])') && \
	SLIPWAY_VAR=$$var SLIPWAY_URL=http://127.0.0.1:$$port $(BIN)/python manage.py demo --check --port $$port; status=$$?; rm -rf $$var; exit $$status
else
	@SLIPWAY_URL=http://127.0.0.1:$(PORT) $(BIN)/python manage.py demo --port $(PORT)
endif

up: .venv/.runtime  ## Run everything on this machine
	@SLIPWAY_URL=http://127.0.0.1:$(PORT) $(BIN)/python manage.py up --port $(PORT)

test: .venv/.dev  ## The whole suite on SQLite; no service needed
	$(BIN)/python -m pytest $(PYTEST)

# Not the tests that would do the same again: those without a database (runtime, drift maths, wire), those of servers in processes of
# their own (these run on a SQLite file of theirs), and the browser's.
test-postgres: .venv/.dev  ## Every test that uses the database, on a real PostgreSQL, started for it
	$(BIN)/python -m tests.services.postgres $(BIN)/python -m pytest $(PYTEST) -m "database and not browser"

test-clients: .venv/.dev  ## Other servers' clients (Triton, KServe, MLflow, MLServer, curl) against a running product, each in its own environment
	$(BIN)/python -m pytest -m clients tests/clients

lint: .venv/.dev  ## Judge style, types, imports, templates, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/djlint --lint --quiet templates
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check --fail-level WARNING
	SLIPWAY_ENV=production SLIPWAY_HOSTS=ml.example.com SLIPWAY_URL=https://ml.example.com \
	  SLIPWAY_SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(60))') \
	  $(BIN)/python manage.py check --deploy --fail-level WARNING

fmt: .venv/.dev  ## Repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test  ## lint and test

# Installs the other servers into .peers first (some minutes, once); then about half an hour. A part of it: BENCH="--only stages --seconds 1"
bench: .venv/.dev  ## Measure against the other servers, and write docs/performance.md
	TORCH_PIP_ARGS="$(TORCH_PIP_ARGS)" $(BIN)/python -m tests.bench $(BENCH)

# Installs NannyML into .peers first (once); then about half an hour. Less of it: BENCH="--clean 100 --streams 4"
bench-drift: .venv/.dev  ## Measure false alarms and detection of drift against the others, and write docs/drift.md
	TORCH_PIP_ARGS="$(TORCH_PIP_ARGS)" OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.drift $(BENCH)

migrations: .venv/.dev  ## Make migrations for changed models
	$(BIN)/python manage.py makemigrations

clean:  ## Remove the environment and caches (never var/)
	rm -rf .venv .peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
