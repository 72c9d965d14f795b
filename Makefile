# MarketPulse-X. `make run` and `make test` need Python 3.11+ and nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
MANAGE := $(PY) manage.py

.PHONY: install install-dev run test test-faults lint types imports checks pytest lock

install: $(VENV)/.runtime
install-dev: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@ $(VENV)/.runtime

run: install
	$(MANAGE) up

# The type check leaves one core to the tests.
test: install-dev
	$(MAKE) -j2 pytest lint types imports checks

lint: install-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: install-dev
	$(VENV)/bin/mypy .

imports: install-dev
	$(VENV)/bin/lint-imports

checks: install-dev
	$(MANAGE) check
	$(MANAGE) makemigrations --check --dry-run

pytest: install-dev
	$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# In full what the suite does in short: every part killed in turn, Redis away for a minute.
test-faults: install-dev
	MPX_FAULTS=1 $(PY) -m pytest tests/faults

# Resolve the dependencies anew (needs uv).
lock:
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --group dev -o requirements-dev.lock
