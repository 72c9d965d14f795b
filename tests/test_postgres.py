"""The tests marked `postgres`, once more on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import RUN_ON
from tests.servers import ROOT

HERE = ROOT / "tests"


@pytest.mark.skipif(bool(RUN_ON), reason="this is the run on PostgreSQL")
@pytest.mark.timeout(900)
def test_marked_tests_pass_on_postgresql(postgres_url):
    marked = [
        str(path) for path in sorted(HERE.rglob("test_*.py")) if "mark.postgres" in path.read_text()
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "postgres", "-q", "-p", "no:xdist", *marked],
        env={**_afresh(), "MPX_TEST_RUN_ON": postgres_url},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    sys.stdout.write(run.stdout + run.stderr)
    assert run.returncode == 0, run.stdout[-6_000:] + run.stderr[-2_000:]


def _afresh() -> dict[str, str]:
    """Return the environment without what this run has put there."""
    ours = ("PYTEST_", "DJANGO_SETTINGS_MODULE")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}
