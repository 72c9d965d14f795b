"""`bench write` writes beside `bulk_create` on a real PostgreSQL and leaves nothing behind."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from markets.models import Tick
from mpx_site.benchmarks import write


@pytest.mark.django_db
@pytest.mark.postgres(only=True)
def test_bench_writes_both_ways_and_leaves_nothing(monkeypatch: Any) -> None:
    monkeypatch.setattr(write, "BATCH", 500)
    out = StringIO()

    call_command("bench", "write", "--rows", "2000", "--json", stdout=out)

    told = json.loads(out.getvalue())
    assert set(told["ratios"]) == {"vs_bulk_create"}
    assert told["figures"]["rows"] == 2_000
    assert told["figures"]["bytes_per_row"] > 30
    assert not Tick.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('mpx_bench')")
        assert cursor.fetchone() == (None,)


@pytest.mark.skipif("connection.vendor == 'postgresql'")
def test_bench_needs_postgresql() -> None:
    with pytest.raises(CommandError) as refused:
        call_command("bench", "write")

    assert refused.value.returncode == 2
