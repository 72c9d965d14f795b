"""Signals in the database: a change with its journal, or nothing of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from alerts import journal
from alerts.models import AuditEntry, FeedEntry, OutboxEntry
from markets import catalogue
from rules.dsl import parse_rule
from rules.engine import ActiveRule
from rules.kernel.baskets import detect_event
from rules.kernel.finding import Finding, Limits
from rules.load import publish
from signals import store
from signals.episodes import SignalChange
from signals.models import Signal, SignalPoint
from tests import forger
from tests.worlds import bids, event_view, ladder, market_view

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NOON_NS = round(NOON.timestamp()) * 10**9
RULE_TEXT = "code: DUTCH_BOOK_DETECT\ntitle: Dutch book\ndetector: dutch_book\n"
KEY, OTHER_KEY = "a" * 32, "b" * 32


def publish_rule(text: str = RULE_TEXT) -> ActiveRule:
    definition = parse_rule(text, source="test")
    publish(definition, source=text, at=NOON)
    return ActiveRule.of(definition)


@pytest.fixture
def rule() -> ActiveRule:
    """The rule and the event that signals speak of, both stored."""
    catalogue.store([VIEW.terms], seen_at=NOON)
    return publish_rule()


def view(event_id: str = "7") -> Any:
    first = 10 * int(event_id)
    markets = [
        market_view(
            first + number, ladder((0.45, 100)), bids((0.4, 100)), event_id=event_id,
            leg_number=number,
        )
        for number in range(2)
    ]  # fmt: skip
    return event_view(markets, event_id=event_id)


VIEW = view()


def finding_of(profit: str = "10", *, event_id: str = "7", **changes: Any) -> Finding:
    (found,), _ = detect_event(view(event_id), at=NOON, limits=Limits())
    amount = Decimal(profit)
    values = {"profit": amount, "edge_bps": amount / found.cost * 10_000, **changes}
    return replace(found, **values)


def opened(rule: ActiveRule, finding: Finding | None = None, **given: Any) -> SignalChange:
    at = given.pop("at", 0)  # seconds after noon
    finding = finding or finding_of()
    values: dict[str, Any] = {
        "change": "opened",
        "at": NOON_NS + round(at * 10**9),
        "key": KEY,
        "rule": rule,
        "finding": finding,
        "level": rule.definition.outputs.level(finding.verdict),
        "opened_at": NOON_NS + round(at * 10**9),
        "peak_edge_bps": finding.edge_bps,
        "peak_profit": finding.profit,
        "observations": 1,
    }
    return SignalChange(**{**values, **given})


def later(change: SignalChange, kind: Any, *, seconds: float, **given: Any) -> SignalChange:
    at = NOON_NS + round(seconds * 10**9)
    more = {"observations": change.observations + 1, **given}
    if "finding" in more:
        more["level"] = change.rule.definition.outputs.level(more["finding"].verdict)
    return replace(change, change=kind, at=at, **more)


def life(rule: ActiveRule) -> list[SignalChange]:
    first = opened(rule)
    second = later(first, "updated", seconds=1, finding=finding_of("12"))
    third = later(second, "updated", seconds=2, finding=finding_of("11"))
    end = later(third, "closed", seconds=3, observations=third.observations, why="edge_gone")
    return [first, second, third, end]


def rows() -> dict[str, Any]:
    """Return all that storing signals leaves behind."""
    return {
        "signals": list(Signal.objects.order_by("id").values()),
        "points": list(SignalPoint.objects.order_by("id").values_list("at", "change", "profit")),
        "feed": list(FeedEntry.objects.order_by("id").values_list("kind", "at")),
        "audit": list(
            AuditEntry.objects.filter(kind__startswith="signal")
            .order_by("id")
            .values_list("kind", "at")
        ),
        "outbox": list(OutboxEntry.objects.order_by("id").values_list("key", "state", "reason")),
    }


# --- the rows ------------------------------------------------------------------------


def test_opened_signal_has_its_numbers_and_its_journal(rule):
    store.save([opened(rule)])

    signal = Signal.objects.get()
    assert (signal.key, signal.rule.code, signal.event_id, signal.kind) == (
        KEY, "DUTCH_BOOK_DETECT", "7", "yes_basket",
    )  # fmt: skip
    assert (signal.level, signal.status, signal.verdict) == ("P1", "OPEN", "EXECUTABLE")
    assert (signal.profit, signal.cost, signal.edge_bps) == (10, 90, Decimal("1111.11"))
    assert signal.edge_score == Decimal("0.111111")
    assert (signal.opened_at, signal.changed_at, signal.closed_at) == (NOON, NOON, None)
    assert signal.payload["legs"][0]["takes"] == [["0.4500", "100.00", "0.00000"]]
    assert rows() | {"signals": []} == {
        "signals": [],
        "points": [(NOON, "opened", 10)],
        "feed": [("opened", NOON)],
        "audit": [("signal.opened", NOON)],
        "outbox": [(f"signal:{KEY}:P1", "PENDING", "")],
    }


def test_feed_audit_and_alert_tell_the_same(rule):
    store.save([opened(rule)])

    told = FeedEntry.objects.get()
    audited = AuditEntry.objects.get(subject=f"signal:{KEY}")
    assert told.topic == "signals"
    assert told.payload["key"] == KEY
    assert told.payload["profit"] == "10"
    assert told.payload["event_title"] == "Who wins?"
    assert told.payload == audited.data == OutboxEntry.objects.get().payload


def test_updated_signal_has_its_new_numbers_and_its_peak(rule):
    first, *_ = life(rule)
    better = later(first, "updated", seconds=1, finding=finding_of("4"), peak_profit=Decimal(20))

    store.save([first, better])

    signal = Signal.objects.get()
    assert (signal.profit, signal.peak_profit, signal.observations) == (4, 20, 2)
    assert (signal.opened_at, signal.changed_at) == (NOON, NOON + timedelta(seconds=1))
    assert [kind for kind, _ in rows()["feed"]] == ["opened", "updated"]
    assert [kind for kind, _ in rows()["audit"]] == ["signal.opened"]


def test_closed_signal_has_its_end_and_why(rule):
    store.save(life(rule))

    signal = Signal.objects.get()
    assert (signal.status, signal.close_reason) == ("CLOSED", "edge_gone")
    assert signal.closed_at == NOON + timedelta(seconds=3)
    assert signal.lifetime(NOON) == timedelta(seconds=3)
    assert [kind for kind, _ in rows()["audit"]] == ["signal.opened", "signal.closed"]
    assert FeedEntry.objects.last().payload["close_reason"] == "edge_gone"
    assert journal.verify() == AuditEntry.objects.count()


@pytest.mark.parametrize(("verdict", "level"), [("THIN", "P2"), ("BLOCKED", "P3")])
def test_only_p1_is_alerted(rule, verdict, level):
    store.save([opened(rule, finding_of(verdict=verdict))])

    assert Signal.objects.get().level == level
    assert not OutboxEntry.objects.exists()


def test_signal_that_becomes_p1_is_alerted_then(rule):
    thin = opened(rule, finding_of(verdict="THIN"))
    store.save([thin, later(thin, "updated", seconds=1, finding=finding_of())])

    assert OutboxEntry.objects.get().due_at == NOON + timedelta(seconds=1)


def test_signal_is_alerted_once_however_often_it_changes(rule):
    first = opened(rule)
    thin = later(first, "updated", seconds=100, finding=finding_of(verdict="THIN"))
    again = later(thin, "updated", seconds=200, finding=finding_of())

    store.save([first, thin, again])

    assert OutboxEntry.objects.get().due_at == NOON


def test_signal_of_an_event_that_is_not_stored_is_kept(rule):
    store.save([opened(rule, finding_of(event_id="9"))])

    signal = Signal.objects.get()
    assert (signal.event, signal.market_ids) == (None, ["190", "191"])


# --- all or nothing, and once --------------------------------------------------------


@pytest.mark.parametrize("step", ["record", "tell", "alert"])
def test_what_breaks_in_the_middle_leaves_nothing(rule, monkeypatch, step):
    first, second, *_ = life(rule)
    store.save([first] if step == "tell" else [])
    OutboxEntry.objects.all().delete()
    before = rows()

    def fail(**_: object) -> None:
        raise RuntimeError("the process dies here")

    monkeypatch.setattr(journal, step, fail)
    with pytest.raises(RuntimeError):
        store.save([second] if step == "tell" else [first])

    assert rows() == before


def test_nothing_of_a_batch_is_there_before_all_of_it_is(rule, monkeypatch):
    """The second of two signals fails."""
    real = journal.alert

    def fail(*, key: str, **given: Any) -> None:
        if OTHER_KEY in key:
            raise RuntimeError("the process dies here")
        real(key=key, **given)

    monkeypatch.setattr(journal, "alert", fail)
    with pytest.raises(RuntimeError):
        store.save([opened(rule), opened(rule, key=OTHER_KEY)])

    assert rows() == {"signals": [], "points": [], "feed": [], "audit": [], "outbox": []}


@pytest.mark.parametrize("reached", range(5))
def test_storing_again_from_the_start_changes_nothing(rule, reached):
    """A writer that does not know whether its commit arrived stores everything again."""
    changes = life(rule)
    store.save(changes)
    expected = rows()
    for model in (SignalPoint, Signal, FeedEntry, OutboxEntry):
        model.objects.all().delete()
    with forger.unsealed():
        AuditEntry.objects.filter(kind__startswith="signal").delete()

    store.save(changes[:reached])
    store.save(changes[:reached])
    store.save(changes)

    got = rows()
    for one, other in zip(got["signals"], expected["signals"], strict=True):
        assert {**one, "id": None} == {**other, "id": None}
    assert {**got, "signals": []} == {**expected, "signals": []}


def test_change_of_a_signal_that_is_not_there_is_left_out(rule):
    _, update, _, end = life(rule)

    store.save([update, end])

    assert not Signal.objects.exists()
    assert not FeedEntry.objects.exists()


# --- cooldown ------------------------------------------------------------------------


def outbox() -> list[tuple[str, str, str]]:
    return rows()["outbox"]


def test_same_legs_back_within_the_cooldown_are_shown_but_not_alerted(rule):
    store.save(life(rule))
    store.save([opened(rule, at=59, key=OTHER_KEY)])

    assert Signal.objects.open().get().key == OTHER_KEY
    assert outbox() == [
        (f"signal:{KEY}:P1", "PENDING", ""),
        (f"signal:{OTHER_KEY}:P1", "SUPPRESSED", "cooldown"),
    ]
    assert FeedEntry.objects.filter(kind="opened").count() == 2


def test_same_legs_back_after_the_cooldown_are_alerted(rule):
    store.save(life(rule))
    store.save([opened(rule, at=60, key=OTHER_KEY)])

    assert [state for _, state, _ in outbox()] == ["PENDING", "PENDING"]


def test_alert_that_was_held_back_holds_back_no_other(rule):
    """Legs that come back every forty seconds are alerted once a minute, not never again."""
    for number in range(4):
        store.save([opened(rule, at=40 * number, key=f"{number:032x}")])

    assert [state for _, state, _ in outbox()] == [
        "PENDING",
        "SUPPRESSED",
        "PENDING",
        "SUPPRESSED",
    ]


def test_alert_that_was_sent_or_failed_counts_as_alerted(rule):
    for number, state in enumerate(("SENT", "FAILED")):
        store.save([opened(rule, at=1_000 * number, key=f"{number}" * 32)])
        OutboxEntry.objects.filter(key__contains=f"{number}" * 32).update(state=state)
        store.save([opened(rule, at=1_000 * number + 5, key=f"{number}f" * 16)])

    assert [state for _, state, _ in outbox()] == ["SENT", "SUPPRESSED", "FAILED", "SUPPRESSED"]


def test_cooldown_of_zero_alerts_each_signal(rule):
    eager = publish_rule(RULE_TEXT + "dedupe: {cooldown_secs: 0}")
    store.save([opened(eager), opened(eager, key=OTHER_KEY)])

    assert [state for _, state, _ in outbox()] == ["PENDING", "PENDING"]


@pytest.mark.parametrize(
    "other",
    [{"event_id": "8"}, {"kind": "no_basket"}],
    ids=["another event", "another kind"],
)
def test_other_legs_are_alerted(rule, other):
    catalogue.store([view("8").terms], seen_at=NOON)

    store.save([opened(rule), opened(rule, finding_of(**other), at=1, key=OTHER_KEY)])

    assert [state for _, state, _ in outbox()] == ["PENDING", "PENDING"]


def test_another_rule_alerts_the_same_legs(rule):
    other = publish_rule(RULE_TEXT.replace("DUTCH_BOOK_DETECT", "OTHER_RULE"))

    store.save([opened(rule), opened(other, at=1, key=OTHER_KEY)])

    assert [state for _, state, _ in outbox()] == ["PENDING", "PENDING"]


def test_markets_of_one_event_are_different_legs(rule):
    pairs = [finding_of(kind="binary", market_ids=(market,)) for market in ("170", "171")]

    store.save([opened(rule, pairs[0]), opened(rule, pairs[1], at=1, key=OTHER_KEY)])
    store.save([opened(rule, pairs[0], at=2, key="c" * 32)])

    assert [state for _, state, _ in outbox()] == ["PENDING", "PENDING", "SUPPRESSED"]


def test_legs_without_a_stored_event_are_told_apart_by_their_markets(rule):
    finding = finding_of(event_id="9")
    other = replace(finding, market_ids=("1", "2"))

    store.save([opened(rule, finding), opened(rule, other, at=1, key=OTHER_KEY)])
    store.save([opened(rule, finding, at=2, key="c" * 32)])

    assert [state for _, state, _ in outbox()] == ["PENDING", "PENDING", "SUPPRESSED"]


# --- what a dead process left --------------------------------------------------------


def test_lost_signals_are_closed_at_their_last_change(rule):
    first, second, *_ = life(rule)
    store.save([first, second])
    store.save([replace(change, key=OTHER_KEY) for change in life(rule)])
    at = NOON + timedelta(hours=1)

    assert store.close_lost(at=at) == 1
    assert store.close_lost(at=at) == 0

    lost = Signal.objects.get(key=KEY)
    assert (lost.status, lost.close_reason) == ("CLOSED", "process_lost")
    assert lost.closed_at == NOON + timedelta(seconds=1)
    assert Signal.objects.get(key=OTHER_KEY).close_reason == "edge_gone"
    audited = AuditEntry.objects.filter(subject=f"signal:{KEY}").order_by("id").last()
    assert (audited.kind, audited.at) == ("signal.closed", at)
    assert audited.data["close_reason"] == "process_lost"
    assert FeedEntry.objects.order_by("id").last().payload["status"] == "CLOSED"
    assert lost.points.order_by("id").last().change == "closed"
    assert journal.verify() == AuditEntry.objects.count()


def test_queries_for_a_change_stay_few(rule, django_assert_max_num_queries):
    first, second, _, end = life(rule)

    with django_assert_max_num_queries(21):
        store.save([first])
    with django_assert_max_num_queries(12):
        store.save([second])
    with django_assert_max_num_queries(12):
        store.save([end])
