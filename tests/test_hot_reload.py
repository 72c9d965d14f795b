"""A running live path takes over rules and relations within seconds, and only good ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.utils import timezone

from markets import relations
from markets.models import Market
from rules.dsl import RuleError, parse_rule
from rules.load import publish, publish_missing, switch
from rules.models import Rule
from signals.house import ASK_SECONDS
from signals.models import Signal
from signals.running import LiveThread
from tests.relation_cast import operator
from tests.servers import wait_for
from tests.test_replay import Replayed

SOON = 5.0  # seconds: what an operator is promised
CODE = "DUTCH_BOOK_DETECT"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def live(settings, tmp_path) -> Iterator[LiveThread]:
    settings.SIMULATOR_EVENTS = 20
    publish_missing(at=timezone.now())
    thread = LiveThread("mock", recording=tmp_path / "reload.jsonl")
    thread.start()
    try:
        wait_for(lambda: thread.live and thread.live.pipeline.frames > 50, seconds=20, what="data")
        yield thread
    finally:
        thread.stop()
        thread.join(20)
        assert not thread.is_alive()


def running(thread: LiveThread) -> dict[str, str]:
    assert thread.live is not None
    return {rule.code: rule.sha256 for rule in thread.live.pipeline.engine.rules}


def taken_over(thread: LiveThread, code: str, sha256: str | None) -> float:
    """Wait until a version runs, or none; return how long it took."""
    begun = time.monotonic()
    wait_for(lambda: running(thread).get(code) == sha256, seconds=20, what="the change")
    return time.monotonic() - begun


def test_new_version_runs_within_seconds_and_the_recording_replays(live, tmp_path):
    wait_for(lambda: Signal.objects.filter(rule__code=CODE).exists(), seconds=20, what="a signal")
    rule = Rule.objects.get(code=CODE)
    text = rule.current.source.replace("min_profit_usd: 0.50", "min_profit_usd: 0.75")

    version = publish(parse_rule(text, source="test"), source=text)
    took = taken_over(live, CODE, version.sha256)

    assert took < SOON
    wait_for(lambda: Signal.objects.filter(rule_version=version).exists(), seconds=30, what="one")
    live.stop()
    live.join(20)
    assert Replayed(tmp_path / "reload.jsonl", "--json").last["digest"] == live.live.digest


def test_switched_off_rule_stops_and_its_signals_close(live):
    wait_for(lambda: Signal.objects.filter(rule__code=CODE).exists(), seconds=20, what="a signal")

    switch(Rule.objects.get(code=CODE), on=False, by=None, at=datetime.now(UTC))

    assert taken_over(live, CODE, None) < SOON
    wait_for(
        lambda: not Signal.objects.open().filter(rule__code=CODE).exists(),
        seconds=10, what="its signals to close",
    )  # fmt: skip


def test_broken_text_never_replaces_what_runs(live):
    before = running(live)
    broken = Rule.objects.get(code=CODE).current.source.replace(
        "min_edge_bps: 20", "min_edge_bps: x"
    )

    with pytest.raises(RuleError):
        publish(parse_rule(broken, source="test"), source=broken)

    time.sleep(ASK_SECONDS + 1)
    assert running(live) == before
    assert live.failed is None


def test_approved_relation_is_watched_within_seconds(live):
    wait_for(lambda: Market.objects.count() > 10, seconds=20, what="a catalogue")
    one, other = Market.objects.filter(state="TRADABLE").order_by("pk")[:2]
    relation = relations.propose_by_hand(
        "implies",
        [(one.pk, 0), (other.pk, 0)],
        by=operator(),
        at=timezone.now(),
        reason="the same vote",
    )
    relation_id = relation.pk

    begun = time.monotonic()
    wait_for(
        lambda: bool(live.live.pipeline.engine.related_to(one.pk)), seconds=20, what="the relation"
    )

    assert time.monotonic() - begun < SOON
    assert relation_id
