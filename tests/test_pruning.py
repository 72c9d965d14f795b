"""What is past its time is forgotten, in batches; what is evidence never is."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from alerts import journal
from alerts.models import AuditEntry, FeedEntry, OutboxEntry
from execution.invariants import invariants
from markets.models import SyncRun, Tick
from mpx_site import pruning
from signals.demo_models import DemoBurst
from tests import portal_cast as cast
from tests.api_cast import a_market, a_quote

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
DAY = timedelta(days=1)


def pruned(*words: str) -> Any:
    out = StringIO()
    call_command("prune", *words, "--json", stdout=out, stderr=StringIO())
    return json.loads(out.getvalue())


def a_day_of(at: datetime) -> None:
    """Leave a row of every kind that a desk leaves in a day."""
    market = a_market(f"m-{at:%Y%m%d}")
    a_quote(market, bid="0.40", ask="0.42")
    Tick.objects.create(market=market, at=at, bid="0.40", ask="0.42")
    SyncRun.objects.create(kind=SyncRun.Kind.FULL, started_at=at, ended_at=at)
    DemoBurst.objects.create(asked_at=at, plants=1)
    journal.record(kind="rule.enabled", subject="rule:R", data={}, at=at, topic="rules")
    journal.alert(key=f"breaker:{at}", kind="breaker.opened", payload={}, at=at)
    OutboxEntry.objects.filter(key=f"breaker:{at}").update(state="SENT", created_at=at)


@pytest.fixture
def history() -> datetime:
    now = timezone.now()
    for days in (0, 400):
        a_day_of(now - days * DAY)
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    old = now - 400 * DAY
    cast.tell("opened", cast.finding_in(view), cast.rule(), at=old)
    OutboxEntry.objects.filter(kind="signal.p1").update(created_at=old, state="SENT")
    return now


def test_dry_run_says_what_would_go_and_lets_it_stay(history: datetime) -> None:
    entries = FeedEntry.objects.count()

    told = pruned("--dry-run")

    assert told["dry_run"] is True
    assert told["rows"]["ticks"] == told["rows"]["alerts"] == told["rows"]["catalogue_passes"] == 1
    assert FeedEntry.objects.count() == entries
    assert Tick.objects.count() == 2


def test_old_rows_go_and_new_ones_and_evidence_stay(history: datetime) -> None:
    audits = AuditEntry.objects.count()

    told = pruned()

    assert set(told["rows"]) == {kind.name for kind in pruning.kinds()}
    assert (Tick.objects.count(), SyncRun.objects.count(), DemoBurst.objects.count()) == (1, 1, 1)
    assert AuditEntry.objects.count() == audits
    assert OutboxEntry.objects.filter(kind="signal.p1").exists()
    assert OutboxEntry.objects.exclude(kind="signal.p1").count() == 1
    assert not [broken for broken in invariants(history) if broken.rule == "p1_is_alerted"]
    assert sum(pruned("--dry-run")["rows"].values()) == 0


def test_many_rows_go_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 3)
    old = timezone.now() - 9 * DAY
    for _ in range(8):
        DemoBurst.objects.create(asked_at=old, plants=1)

    assert pruned("--only", "demo_bursts")["rows"] == {"demo_bursts": 8}
    assert not DemoBurst.objects.exists()


def test_name_of_nothing_is_refused() -> None:
    with pytest.raises(CommandError, match="no audit") as refused:
        pruned("--only", "audit")
    assert refused.value.returncode == 2
