"""`bench feed` runs against a real daphne and prints what the other benches print."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command

from mpx_site.benchmarks import feed

SMALL = {
    "MESSAGES": 10,
    "PAUSE": 0.05,
    "GROUP_MESSAGES": 5,
    "BURST": 20,
    "STUCK_BYTES": 12 << 20,
}


def test_bench_counts_every_delivery_and_lets_the_client_go_that_never_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SMALL.items():
        monkeypatch.setattr(feed, name, value)
    out = StringIO()

    call_command("bench", "feed", "--clients", "10", "--json", stdout=out)

    told = json.loads(out.getvalue())
    assert told["bench"] == "feed"
    assert set(told["ratios"]) == {"vs_group_send"}
    figures = told["figures"]
    assert figures["clients"] == 10
    assert figures["messages_per_write"] >= 1
    assert figures["stuck_client_let_go"] >= 1
    assert figures["stuck_client_mb"] < 20
