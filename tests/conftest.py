"""What the whole suite shares: its own home, private servers, and where a test can run.

The suite runs on SQLite. A test marked `postgres` runs on PostgreSQL too: all of
these are run once more, in a process of their own, by `test_postgres.py`. One marked
`postgres(only=True)` runs there alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import hypothesis
import pytest
import pytest_django

from tests import canary

# Settings are read once, so this comes before them: nothing of the developer's own desk is used.
RUN_ON = os.environ.get("MPX_TEST_RUN_ON", "")  # the database of the second run
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if not WORKER:  # a worker has what we set here
    assert "DJANGO_SETTINGS_MODULE" not in os.environ, "unset it: the suite chooses its settings"
    os.environ["DJANGO_SETTINGS_MODULE"] = "mpx_site.settings"
    os.environ["MPX_HOME"] = tempfile.mkdtemp(prefix="mpx-tests-")
os.environ["DATABASE_URL"] = RUN_ON
os.environ["POSTGRES_HOST"] = os.environ["REDIS_URL"] = ""

from django.apps import apps  # noqa: E402  (see above)
from django.conf import settings  # noqa: E402
from django.contrib.auth.hashers import PBKDF2PasswordHasher  # noqa: E402

# A password hash names its rounds, so that a desk of its own process accepts these too.
PBKDF2PasswordHasher.iterations = 1
# Each test client would list all static files anew.
settings.WHITENOISE_AUTOREFRESH = True
# A test that opens a page would begin to listen, in a thread that outlives it.
settings.MPX_PULSE_SECONDS = 0
# Threads of a test stand for people at many processes.
settings.MPX_DB_CONNECTIONS = 50
# Rolled back, all tests of a file have the same user number; a test of the pace sets its own.
settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] = {"reads": None, "writes": None}

TEST = settings.DATABASES["default"].setdefault("TEST", {})
if not RUN_ON:
    # A file, as on a desk: threads wait for each other there, in memory they would fail.
    TEST["NAME"] = str(settings.MPX_HOME / "tests.sqlite3")

from django.core import serializers  # noqa: E402
from django.db import models  # noqa: E402

from tests.servers import CannotStart, Postgres, Redis  # noqa: E402

# A machine that is busy with other things generates slowly; that is no fault of a test.
hypothesis.settings.register_profile(
    "mpx", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("mpx")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(canary, "canary")
    config.addinivalue_line("markers", "postgres(only=False): runs on PostgreSQL too, or only")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not WORKER:
        shutil.rmtree(os.environ["MPX_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what can only run on PostgreSQL: the second run has it, and begins the first."""
    if RUN_ON:
        return
    items.sort(key=lambda item: not item.path.match("tests/test_postgres.py"))
    marks = {item: item.get_closest_marker("postgres") for item in items}
    elsewhere = [item for item, mark in marks.items() if mark and mark.kwargs.get("only")]
    items[:] = [item for item in items if item not in elsewhere]
    config.hook.pytest_deselected(items=elsewhere)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a PostgreSQL: the one named in the environment, or a private one."""
    named = os.environ.get("MPX_TEST_DATABASE_URL")
    if named:
        yield named
        return
    try:
        server = Postgres().start()
    except CannotStart as missing:
        pytest.skip(f"no PostgreSQL for tests: {missing}; or set MPX_TEST_DATABASE_URL")
    yield server.url
    server.remove()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that a test may stop and start as it likes."""
    try:
        server = Postgres().start()
    except CannotStart as missing:
        pytest.skip(f"no PostgreSQL for tests: {missing}")
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a Redis: the one named in the environment, or a private one."""
    named = os.environ.get("MPX_TEST_REDIS_URL")
    if named:
        yield named
        return
    try:
        server = Redis().start()
    except CannotStart as missing:
        pytest.skip(f"no Redis for tests: {missing}; or set MPX_TEST_REDIS_URL")
    yield server.url
    server.stop()


# What `flush` makes anew by itself, with other numbers.
MADE_BY_DJANGO = ("contenttypes.ContentType", "auth.Permission")


@dataclass(frozen=True)
class Seeds:
    """The rows that migrations leave: in their order as JSON, and one model that has some."""

    rows: str
    sentinel: type[models.Model]


@pytest.fixture(scope="session")
def seeds(django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Seeds:
    from tests import forger  # its model needs Django, which is set up by now

    forger.let_tests_be_emptied()
    with django_db_blocker.unblock():
        managers = [model._default_manager for model in _seedable()]
        seeded = [manager for manager in managers if manager.exists()]
        rows = serializers.serialize(
            "json",
            (row for manager in seeded for row in manager.order_by("pk")),
            use_natural_foreign_keys=True,
        )
    return Seeds(rows, seeded[-1].model)


def _seedable() -> list[type[models.Model]]:
    """Return the models of the database in an order in which their rows can be inserted."""
    configs = [(config, None) for config in apps.get_app_configs()]
    ordered = serializers.sort_dependencies(configs, allow_cycles=True)
    return [
        model
        for model in ordered
        if model._meta.label not in MADE_BY_DJANGO and model._meta.managed and not model._meta.proxy
    ]


@pytest.fixture(autouse=True)
def seeded_rows(request: pytest.FixtureRequest) -> None:
    """Put back what migrations had written and a transactional test has flushed."""
    wanted = [name for name in ("transactional_db", "db") if name in request.fixturenames]
    if not wanted and not request.node.get_closest_marker("django_db"):
        return
    for name in wanted[:1]:
        request.getfixturevalue(name)
    seeds: Seeds = request.getfixturevalue("seeds")
    if seeds.sentinel._default_manager.exists():
        return
    for row in serializers.deserialize("json", seeds.rows):
        row.save()
