"""Relations on a running desk: proposed on schedule, ended by whatever stores a change."""

from __future__ import annotations

import json
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from markets import catalogue, sync, tasks
from markets.models import Lease, Market, SyncRun
from markets.near_models import NearCertain
from markets.relation_models import MarketText, Relation
from markets.relations import approve, propose_by_hand
from markets.resolution import ASPECTS
from mpx_site.celery import app
from signals.writer import Batch, Writer
from tests import relation_cast as cast
from tests.listing_venue import ListingVenue, event, plain
from tests.relation_cast import START

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
LATER = START + timedelta(hours=1)
RULES = "It resolves to Yes if so."


def venue(**changes: Any) -> ListingVenue:
    """Two events of one market each, with rules; `changes` are made to the second market."""
    markets = [{**plain(number), "description": RULES} for number in (10, 20)]
    markets[1] |= changes
    return ListingVenue(*(event(n, each) for n, each in enumerate(markets, 1)))


def full(listed: ListingVenue) -> sync.SyncResult:
    return async_to_sync(sync.full)(listed, at=LATER)


def related() -> Relation:
    """Store what the venue lists and an equivalence of its two markets."""
    full(venue())
    members = [("510", 0), ("520", 0)]
    by = cast.operator()
    return propose_by_hand("equivalent", members, by=by, at=START, reason="the same")


def approved() -> Relation:
    relation = related()
    by = User.objects.get()
    seen = relation.fingerprint
    return approve(relation.pk, by=by, at=START, seen=seen, checked=ASPECTS, reason="read both")


# --- what a pass over the listing does -------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"description": "It resolves to No."}, "rules of 520"),
        ({"question": "Will it not?"}, "question of 520"),
        ({"endDate": "2027-01-01T00:00:00Z"}, "ends of 520"),
        ({"resolutionSource": "https://example.org"}, "source of 520"),
    ],
)
def test_a_pass_takes_out_what_rested_on_other_words(changes, named):
    relation = approved()

    result = full(venue(**changes))

    relation.refresh_from_db()
    assert (relation.state, result.invalidated) == ("INVALIDATED", 1)
    assert named in relation.reason
    assert "1 relations invalidated" in str(result)


def test_a_pass_that_finds_the_same_leaves_relations_alone():
    relation = approved()

    result = full(venue(liquidityNum=77_777, volumeNum=9))

    relation.refresh_from_db()
    assert (relation.state, result.invalidated) == ("APPROVED", 0)


def test_a_market_that_the_venue_lists_no_more_ends_what_rested_on_it():
    relation = approved()
    listed = venue()
    del listed.events[1]

    result = full(listed)

    relation.refresh_from_db()
    assert Market.objects.get(pk="520").state == Market.State.UNLISTED
    assert (relation.state, result.invalidated) == ("INVALIDATED", 1)


def test_what_the_venue_settles_against_a_relation_ends_it():
    relation = approved()
    catalogue.settle({"510": 1}, at=LATER)

    tally = sync.Tally("FILES", at=LATER)
    tally.take(json.dumps({"data": [_settled(20, winner="No")], "next_cursor": "LTE="}).encode())

    relation.refresh_from_db()
    assert relation.state == "INVALIDATED"
    assert "settled" in relation.reason


def _settled(number: int, *, winner: str) -> dict[str, Any]:
    """Return the market as the CLOB lists it once it has a result."""
    market = Market.objects.get(pk=f"5{number}")
    tokens = [
        {
            "token_id": each.token_id,
            "outcome": each.label,
            "price": 0,
            "winner": each.label == winner,
        }
        for each in market.outcomes.order_by("index")
    ]
    return {
        "condition_id": market.condition_id,
        "question": market.question,
        "tokens": tokens,
        "closed": True,
        "active": True,
        "archived": False,
        "accepting_orders": False,
        "enable_order_book": False,
        "minimum_tick_size": 0.01,
        "minimum_order_size": 5,
    }


# --- what the live process stores ---------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_live_process_notices_other_rules_on_the_pages_it_reads():
    relation = approved()
    pages = [json.dumps(each.events).encode() for each in (venue(), venue(description="Or not."))]
    writer = Writer()
    writer.start()

    writer.put(Batch(1, pages=pages[:1]))
    writer.put(Batch(2, pages=pages[:1]))
    writer.put(Batch(3, pages=pages[1:]))

    assert writer.finish(timeout=10)
    relation.refresh_from_db()
    assert relation.state == "INVALIDATED"
    assert MarketText.objects.get(pk="520").rules == "Or not."


def test_terms_are_not_stored_without_what_follows_from_them(monkeypatch):
    """Else a second try would find nothing changed, and leave the relation as it was."""
    approved()
    other = cast.market(3, "Another?")
    monkeypatch.setattr(catalogue, "invalidate_changed", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        cast.list_markets(other)

    assert not Market.objects.filter(pk=other.market_id).exists()


# --- the schedule --------------------------------------------------------------------------


def test_the_jobs_name_tasks_that_end_before_the_next():
    app.loader.import_default_modules()
    names = [name for name, *_ in import_module("mpx_site.migrations.0004_relations").JOBS]

    jobs = list(PeriodicTask.objects.filter(name__in=names))

    assert len(jobs) == len(names) == 3
    for job in jobs:
        period = job.schedule.run_every.total_seconds()
        assert app.tasks[job.task].time_limit <= period
        assert job.expire_seconds <= period


def test_relations_are_proposed_once_an_hour_and_at_once_after_the_first_listing():
    assert "empty" in tasks.propose_relations()
    cast.two_deals()

    assert "1 new relations" in tasks.propose_relations()
    assert "within the hour" in tasks.propose_relations()
    until = Lease.objects.get(name="propose_relations").until
    assert until - timezone.now() > tasks.PROPOSE_EVERY * 0.99
    Lease.objects.update(until=timezone.now())
    assert "0 new relations" in tasks.propose_relations()
    assert Relation.objects.get().proposed_by == "schedule"


def test_a_listing_that_is_being_read_is_waited_for_unless_it_was_killed():
    cast.two_deals()
    run = SyncRun.objects.create(kind=SyncRun.Kind.FULL, started_at=timezone.now())
    assert "being read" in tasks.propose_relations()

    SyncRun.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(hours=1))

    assert "1 new relations" in tasks.propose_relations()


def test_a_look_that_failed_is_repeated_at_the_next_chance(monkeypatch):
    cast.two_deals()
    monkeypatch.setattr(tasks, "propose_all", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tasks.propose_relations()
    monkeypatch.undo()

    assert Lease.objects.get(name="propose_relations").until <= timezone.now()
    assert "1 new relations" in tasks.propose_relations()


def test_what_a_crash_came_between_is_found_by_the_regular_look():
    approved()
    MarketText.objects.filter(pk="520").update(rules="Or not.")

    assert tasks.check_relations() == 1
    assert tasks.check_relations() == 0


def test_near_certain_prices_are_kept_as_long_as_they_count():
    cast.two_deals()
    for days, bucket in ((89, 1), (91, 2)):
        NearCertain.objects.create(
            market_id="101",
            outcome=0,
            bucket=bucket,
            band=2,
            price="0.97",
            seconds_left=60,
            seen_at=timezone.now() - timedelta(days=days),
        )

    assert tasks.prune_catalogue() == 1
    assert NearCertain.objects.get().bucket == 1
