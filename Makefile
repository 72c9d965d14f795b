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
	$(VENV)/bin/bandit -q -c pyproject.toml -r alerts execution markets mpx_site risk rules signals manage.py
	$(PY) -m pip check

types: install-dev
	$(VENV)/bin/mypy .

imports: install-dev
	$(VENV)/bin/lint-imports

checks: install-dev
	$(MANAGE) check
	$(MANAGE) makemigrations --check --dry-run

# Real processes and browsers on a busy machine: a test that fails is tried once more, and told with its traceback.
pytest: install-dev
	$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --reruns 1 --rerun-show-tracebacks

# In full what the suite does in short: every part killed or restarted in turn, Redis away for a minute.
test-faults: install-dev
	MPX_FAULTS=1 $(PY) -m pytest tests/faults tests/test_topology.py

# Resolve the dependencies anew (needs uv).
lock:
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --group dev -o requirements-dev.lock

# --- the desk as separate processes (compose.yaml; docs/deploy.md) ---
COMPOSE := docker compose
NOW := $(shell date -u +%Y%m%dT%H%M%SZ)
DESK := web stream worker worker-catalogue beat

.PHONY: secrets up migrate seed smoke logs down backup restore rolling-restart

secrets:
	@$(PYTHON) deploy/compose/make_secrets.py

up: secrets
	$(COMPOSE) build
	$(COMPOSE) up --detach --wait
	@$(COMPOSE) logs --no-log-prefix migrate | grep "Log in as" || true

migrate:
	$(COMPOSE) run --rm migrate

seed:
	$(COMPOSE) run --rm migrate python manage.py seed

smoke:
	$(COMPOSE) exec -T web python manage.py smoke --url http://127.0.0.1:8080

logs:
	$(COMPOSE) logs --follow --tail=200

# The data stay. `docker compose down --volumes` deletes them too.
down:
	$(COMPOSE) down

backup:
	@mkdir -p -m 0700 deploy/backups
	$(COMPOSE) exec -T timescaledb sh /mpx/backup.sh > deploy/backups/mpx-$(NOW).dump.part
	@mv deploy/backups/mpx-$(NOW).dump.part deploy/backups/mpx-$(NOW).dump
	@echo "deploy/backups/mpx-$(NOW).dump"

# make restore FILE=deploy/backups/mpx-....dump
restore:
	@test -f "$(FILE)" || { echo "make restore FILE=deploy/backups/mpx-....dump"; exit 2; }
	$(COMPOSE) stop $(DESK) telegram_bot
	$(COMPOSE) exec -T timescaledb sh /mpx/restore.sh mpx < "$(FILE)"
	$(COMPOSE) up --detach --wait
	$(COMPOSE) exec -T web python manage.py audit verify

# In this order nothing is lost (docs/deploy.md): tables first, then what reads, then what writes.
rolling-restart:
	$(COMPOSE) build
	$(COMPOSE) run --rm migrate
	for part in web worker worker-catalogue beat stream; do \
		$(COMPOSE) up --detach --no-deps --wait $$part || exit 1; done
