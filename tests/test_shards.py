"""Shards: which event is where, what a share owns, what a sieve lets through, whose a lease is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from alerts import shared_beats, watchdog
from alerts.models import Heartbeat, OutboxEntry, Trouble
from markets import gap_rows, lease
from markets.frames import Frame
from markets.gaps import Break
from markets.lease import Claim, LeaseLost
from markets.models import Gap, Lease
from markets.shards import Placement, shard_of
from mpx_site import configuration
from signals import polling, sharing, store
from signals.models import Signal
from signals.share import HANDOVER_SECONDS, Share
from signals.sieve import Sieve
from signals.sources import Moves
from signals.writer import Batch, Writer
from tests.test_signal_store import opened, publish_rule

IDS = st.integers(1, 400).map(str)
FREE = Claim("stream-shard-0", "nobody")


def share(number: int = 0, shards: int = 2, *, ties=(), claim: Claim = FREE) -> Share:
    return Share(number, claim, Placement.of(ties, shards=shards))


# --- where an event is ------------------------------------------------------------------


def test_an_event_is_in_the_same_shard_on_every_machine():
    """These are sha256, so no release may give others: it would move every event."""
    assert [shard_of(str(event), 4) for event in (1, 2, 3, 7, 23_246)] == [1, 2, 3, 2, 0]


@given(st.lists(st.sets(IDS, min_size=1, max_size=4), max_size=30), st.integers(1, 8))
def test_what_is_connected_is_together_where_its_smallest_event_belongs(ties, shards):
    placement = Placement.of(ties, shards=shards)

    sets: list[set[str]] = []
    for tie in ties:
        met = [each for each in sets if each & tie]
        sets = [each for each in sets if not each & tie] + [tie.union(*met)]
    for connected in sets:
        anchor = min(connected, key=int)
        assert {placement.shard(each) for each in connected} == {shard_of(anchor, shards)}
    alone = {str(n) for n in range(1, 401)} - set().union(*ties)
    assert all(placement.shard(each) == shard_of(each, shards) for each in alone)


def test_an_event_that_moves_is_nobodys_until_the_one_before_has_let_go():
    event, other = moving()
    before, after = Placement.of((), shards=2), Placement.of([(event, other)], shards=2)
    loser = Share(before.shard(event), FREE, before)
    winner = Share(after.shard(event), FREE, before)

    for each in (loser, winner):
        each.use(after, now=100.0)
    assert (loser.owns(event), winner.owns(event)) == (False, False)
    for each in (loser, winner):
        each.use(after, now=100.0 + HANDOVER_SECONDS)

    assert (loser.owns(event), winner.owns(event)) == (False, True)
    assert winner.version == 2  # so that it is looked at again
    assert winner.owns_order((event, other))
    assert not loser.owns_order((event, other))


def moving() -> tuple[str, str]:
    """Return an event and a smaller one that draws it into another shard of two."""
    return next(
        (str(n), "1") for n in range(2, 99) if shard_of(str(n), 2) != shard_of("1", 2)
    )  # fmt: skip


# --- what it hears -----------------------------------------------------------------------


def page(*event_ids: str) -> Frame:
    events = [{"id": e, "markets": [{"conditionId": f"0x{e}"}]} for e in event_ids]
    return Frame(1, "gamma", json.dumps({"events": events}).encode(), req="/events/keyset")


def test_a_sieve_empties_what_is_of_other_shards_and_keeps_the_frame():
    ours = [str(n) for n in range(1, 20) if shard_of(str(n), 2) == 0]
    other = [str(n) for n in range(1, 20) if shard_of(str(n), 2) == 1]
    sieve = Sieve(share())

    listed = sieve(page(ours[0], other[0]))
    messages = [{"market": f"0x{ours[0]}"}, {"market": f"0x{other[0]}"}, {"market": "0xnew"}]
    both = sieve(Frame(2, "ws", json.dumps(messages).encode(), 0))
    theirs = sieve(Frame(3, "ws", json.dumps(messages[1]).encode(), 0))
    cut = Frame(4, "ws", b"0xgone", 0, "closed")
    house = Frame(5, "gamma", b'{"rules": []}', None, "house/rules")

    assert [each["id"] for each in json.loads(listed.body)["events"]] == [ours[0]]
    assert json.loads(both.body) == [messages[0], messages[2]]
    assert (json.loads(theirs.body), theirs.t, theirs.conn) == ([], 3, 0)
    assert sieve(cut) is cut
    assert sieve(house) is house
    broken = Frame(6, "ws", b"{", 0)
    assert sieve(broken) is broken


def test_a_simulated_venue_shows_what_came_and_tells_what_left():
    from markets.simulator import World

    world = World(seed=3, events=8, start=1_770_000_000_000_000_000)
    world.open_frames()
    here = [each for each in world.stage.events if shard_of(each, 2) == 0]
    away = [each for each in world.stage.events if shard_of(each, 2) == 1]
    part = share()
    moves = Moves(part, world)
    assert moves.left() == []

    anchor = next(str(n) for n in range(1, 99) if shard_of(str(n), 2) == 1)
    back = next(str(n) for n in range(1, 99) if shard_of(str(n), 2) == 0)
    part.use(Placement.of([(anchor, here[0]), (back, away[0])], shards=2), now=0)
    gone = moves.left()
    part.use(Placement.of([(anchor, here[0]), (back, away[0])], shards=2), now=HANDOVER_SECONDS)

    assert [set(tokens) for _, tokens in gone] == [set(world.place_of(here[0])[1])]
    assert moves.left() == []
    shown = world.advance(None)
    assert away[0] in {e["id"] for e in json.loads(shown[0].body)["events"]}


# --- whose it is -------------------------------------------------------------------------


@pytest.fixture
def claim(db) -> Claim:
    lease.lay_out(["stream-shard-0"])
    taken = lease.claim_one(["stream-shard-0"], seconds=5)
    assert taken is not None
    return taken


@pytest.mark.postgres
def test_a_lease_is_taken_once_and_stays_ours_until_another_takes_it(claim):
    assert not claim.was_lost
    assert lease.claim_one([claim.name], seconds=5) is None
    over(claim)
    assert claim.renew(seconds=5)  # late, but nobody took it
    over(claim)

    second = lease.claim_one([claim.name], seconds=5)

    assert second.was_lost
    assert not claim.renew(seconds=5)
    with pytest.raises(LeaseLost), transaction.atomic():
        claim.confirm()
    claim.give_back()  # does nothing to what is another's
    with transaction.atomic():
        second.confirm()
    second.give_back()
    third = lease.claim_one([claim.name], seconds=5)
    assert not third.was_lost


def over(claim: Claim) -> None:
    Lease.objects.filter(pk=claim.name).update(until=timezone.now() - timedelta(seconds=1))


@pytest.mark.postgres(only=True)
@pytest.mark.django_db(transaction=True)
def test_nobody_takes_a_lease_while_a_transaction_stores_in_its_name():
    lease.lay_out(["stream-shard-0"])
    claim = lease.claim_one(["stream-shard-0"], seconds=5)
    over(claim)
    found = []

    def take() -> None:
        with transaction.atomic():
            claim.confirm()  # as the paper venue does beside the writer
        found.append(claim.renew(seconds=-1))
        found.append(lease.claim_one([claim.name], seconds=5))
        connection.close()

    with transaction.atomic():
        claim.confirm()
        taker = threading.Thread(target=take)
        taker.start()
        taker.join(10)

    assert found == [True, None]
    assert lease.claim_one([claim.name], seconds=5) is not None


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_writer_whose_shard_was_taken_stores_nothing_more():
    lease.lay_out(["stream-shard-0"])
    claim = lease.claim_one(["stream-shard-0"], seconds=5)
    rule = publish_rule()
    part = share(claim=claim)
    writer = Writer(share=part)
    writer.start()

    writer.put(Batch(1, changes=[opened(rule, key="a" * 32)]))
    for _ in range(100):
        if Signal.objects.exists():
            break
        threading.Event().wait(0.1)
    over(claim)
    assert lease.claim_one([claim.name], seconds=5)
    writer.put(Batch(2, changes=[opened(rule, key="b" * 32)], beat={}, progress=1))
    writer.finish(timeout=10)

    assert list(Signal.objects.values_list("key", "stream")) == [("a" * 32, "stream-0")]
    assert not Heartbeat.objects.exists()
    assert part.lost
    assert writer.lost > 1


@pytest.mark.django_db
def test_a_start_closes_what_no_other_shard_has():
    rule = publish_rule()
    for key, stream in zip("abcd", ("stream-0", "stream-1", "stream", "stream-5"), strict=True):
        store.save([opened(rule, key=key * 32)], stream=stream)
        gap_rows.opened([Break("asset", key, "dead", 1_000, ())], stream=stream)
    part = share()

    store.close_lost(at=timezone.now(), among=part.left_open())
    gap_rows.close_lost(but_of=part.others)

    assert [each.stream for each in Signal.objects.open()] == ["stream-1"]
    assert [each.stream for each in Gap.objects.open()] == ["stream-1"]


# --- signs of life -----------------------------------------------------------------------


@pytest.fixture
def two_shards(settings) -> Iterator[None]:
    settings.MPX_STREAM_SHARDS = 2
    yield


@pytest.mark.django_db
def test_the_whole_is_as_old_as_its_oldest_part(two_shards):
    at = timezone.now()
    old = at - timedelta(seconds=40)

    shared_beats.beat_part("stream", 0, 2, at=at, progress=5, books={"fresh": 2}, last_frame_at=9)
    assert not Heartbeat.objects.filter(component="stream").exists()  # nobody has the other
    shared_beats.beat_part(
        "stream", 1, 2, at=old, progress=7, books={"fresh": 1, "stale": 1}, last_frame_at=4
    )

    whole = Heartbeat.objects.get(component="stream")
    assert (whole.at, whole.progress) == (old, 12)
    assert whole.detail == {"books": {"fresh": 3, "stale": 1}, "last_frame_at": 4}
    ages = {beat.component: beat.age(at) for beat in Heartbeat.objects.all()}
    assert watchdog.silent_now(ages) == ("stream", "stream-1")
    missed = shared_beats.missed_parts("stream", 2, at=at, within=timedelta(seconds=20))
    assert missed == ("stream-1",)
    shared_beats.forget_others("stream", 1)
    assert [beat.component for beat in Heartbeat.objects.all()] == ["stream"]


@pytest.mark.django_db
def test_a_missed_shard_is_told_once_and_by_its_name(two_shards, settings):
    settings.TELEGRAM_ENABLED = True
    at = timezone.now()
    for number in (0, 1):
        shared_beats.beat_part("stream", number, 2, at=at, progress=1)

    for second in range(0, 40, 2):
        now = at + timedelta(seconds=second)
        shared_beats.beat_part("stream", 0, 2, at=now, progress=second)
        watchdog.watch(at=now)

    assert [each.component for each in Trouble.objects.all()] == ["stream"]
    told = OutboxEntry.objects.filter(kind="component.silent").values_list("payload", flat=True)
    assert {each["shards"] for each in told} == {"stream-1"}


@pytest.mark.django_db
def test_the_poll_stands_in_only_for_shards_that_nobody_has(two_shards):
    at = timezone.now()
    rule = publish_rule()
    for key, stream in (("a", "stream-0"), ("b", "stream-1")):
        store.save([opened(rule, key=key * 32)], stream=stream)
    shared_beats.beat_part("stream", 0, 2, at=at, progress=1)
    shared_beats.beat_part("stream", 1, 2, at=at - timedelta(minutes=5), progress=1)
    events = [type("Event", (), {"event_id": str(n)}) for n in range(1, 9)]

    unheard = polling.unheard(events, at=at)

    assert [shard_of(each.event_id, 2) for each in unheard] == [1] * len(unheard)
    assert 0 < len(unheard) < len(events)
    assert [each.stream for each in polling.lost_signals(at)] == ["stream-1"]


def test_shards_need_a_server(monkeypatch):
    from django.core.exceptions import ImproperlyConfigured

    monkeypatch.setenv("MPX_STREAM_SHARDS", "2")

    with pytest.raises(ImproperlyConfigured, match="MPX_STREAM_SHARDS"):
        configuration.stream_shards({"ENGINE": "django.db.backends.sqlite3"})
    assert configuration.stream_shards({"ENGINE": configuration.POSTGRESQL}) == 2


# --- who takes what ------------------------------------------------------------------------


class Idle:
    """What runs on a shard, doing nothing."""

    failed = None

    def __init__(self, part: Share) -> None:
        self.part = part
        self.runs = False

    def start(self) -> None:
        self.runs = True

    def stop(self) -> None:
        self.runs = False

    def is_alive(self) -> bool:
        return self.runs


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    told = SimpleNamespace(now=1_000.0, monotonic=lambda: told.now)
    monkeypatch.setattr(sharing, "time", told)
    return told


def holders() -> dict[str, str]:
    rows = Lease.objects.filter(name__startswith=sharing.SHARD).exclude(holder="")
    return dict(rows.values_list("name", "holder"))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_who_comes_first_after_an_outage_leaves_the_others_theirs(clock, two_shards):
    """All leases have run out by then; and a shard taken would be what it found, lost."""
    first, second = sharing.Sharing(2, Idle), sharing.Sharing(2, Idle)
    for each in (first, second):
        each._begin()
    for each in (first, second):
        each._pass()
    before = holders()
    assert len(before) == 2

    Lease.objects.update(until=timezone.now() - timedelta(seconds=1))
    clock.now += 20
    first._pass()
    clock.now += 1
    second._pass()

    assert holders() == before
    Lease.objects.exclude(holder__in=(before["stream-shard-0"], first._there)).update(
        until=timezone.now() - timedelta(seconds=1)
    )
    for _ in range(4):  # the second is gone for good
        clock.now += 1
        first._pass()
    assert holders()["stream-shard-1"] != before["stream-shard-1"]


@pytest.mark.django_db
def test_a_process_that_counts_shards_differently_knows_those_that_it_may_have(two_shards):
    lease.lay_out([f"{sharing.SHARD}{n}" for n in range(4)])
    for _ in range(4):
        assert lease.claim_one([f"{sharing.SHARD}{n}" for n in range(4)], seconds=5)

    assert sharing.shards_here(2) == ("stream-0", "stream-1")
