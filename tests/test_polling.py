"""The look at the books over REST: it stands in for a dead stream, and checks a living one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from alerts import journal
from alerts.models import AuditEntry, Heartbeat, OutboxEntry
from markets import lease, sync, watch
from markets.models import Lease, Market, Quarantine, Quote, Tick
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import VenueHttp
from markets.simulator.ladder import Edit
from markets.simulator.plants import plan_yes
from markets.simulator.quoting import clear_beyond
from markets.simulator.state import LiveEvent, LiveMarket
from markets.watch import WatchedEvent, WatchedMarket
from rules.dsl import parse_rule
from rules.engine import ActiveRule
from rules.load import publish_missing
from rules.models import Rule
from signals import polling, tasks
from signals.adopt import Unreadable, adopt, finding_of
from signals.house import active_rules
from signals.models import Signal
from signals.pipeline import Pipeline
from tests.live_cast import shipped_rules, simulated
from tests.servers import wait_for
from tests.venue import VenueClient, mock_venue

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

LONG_AGO = timedelta(seconds=61)
POLL_EVERY = timedelta(seconds=20)


@dataclass
class Desk:
    """A desk whose catalogue is the venue's. The venue's world stands still."""

    venue: VenueClient
    undo: list[tuple[LiveMarket, tuple[Edit, ...]]] = field(default_factory=list)

    def events(self, kind: str = "neg_risk") -> list[LiveEvent]:
        assert self.venue.inside
        stage = self.venue.inside.world.stage
        return [event for event in stage.rested() if event.spec.kind == kind]

    def poll(self) -> dict[str, Any]:
        """Poll as the schedule does; return what the heartbeat tells of it."""
        told = tasks.poll_books()
        assert "another" not in told
        return Heartbeat.objects.get(component="poll").detail

    def plant(self, event: LiveEvent, *, margin: float = 0.03) -> None:
        """Put a YES basket that pays into the books of an event."""
        planned = plan_yes(event, random.Random(1), margin=margin, low=150, high=200)
        assert planned
        for insert in planned:
            leg = event.legs[insert.index]
            gone = clear_beyond(leg.book.side(True), insert.price)
            self.change(leg, *gone, (False, insert.price, insert.size))

    def change(self, leg: LiveMarket, *edits: Edit) -> None:
        """Change levels of a book; `restore` puts them back."""
        before = tuple((bid, at, leg.book.side(bid).size(at)) for bid, at, _ in edits)
        self.undo.append((leg, before))
        leg.book.apply(list(edits), ms=leg.book.ms + 1)

    def restore(self) -> None:
        while self.undo:
            leg, before = self.undo.pop()
            leg.book.apply(list(before), ms=leg.book.ms + 1)

    def stood(self, event: LiveEvent) -> Signal:
        """Return what was opened as if that was a poll ago, which it takes to become P1."""
        signal = self.opened(event)
        Signal.objects.filter(pk=signal.pk).update(changed_at=timezone.now() - POLL_EVERY)
        return signal

    def opened(self, event: LiveEvent) -> Signal:
        return Signal.objects.get(event=event.spec.event_id, status="OPEN", kind="yes_basket")


@pytest.fixture(scope="module")
def running() -> Iterator[VenueClient]:
    """A venue whose world stands still from its first moment: only tests plant something."""
    with mock_venue(events=16) as venue:
        venue.hold()
        yield venue


@pytest.fixture
def desk(running: VenueClient, settings: Any, monkeypatch: Any) -> Iterator[Desk]:
    """A desk that was there before, without a stream: its next poll ingests."""
    settings.DATA_SOURCE = "real"
    settings.POLYMARKET_GAMMA_URL = settings.POLYMARKET_CLOB_URL = running.url
    polling._watched.cache_clear()
    publish_missing()
    async_to_sync(_sync)(running)
    journal.beat("poll", at=timezone.now(), progress=0)
    found = Desk(running)
    yield found
    found.restore()
    running.clear()


async def _sync(venue: VenueClient) -> None:
    async with VenueHttp(gamma_url=venue.url, clob_url=venue.url) as http:
        await sync.full(Gamma(http), at=timezone.now())


def stream_beats(*, at: datetime | None = None) -> None:
    journal.beat("stream", at=at or timezone.now(), progress=1)


def changes_of(signal: Signal) -> list[str]:
    return list(signal.points.order_by("id").values_list("change", flat=True))


# --- ingestion ---------------------------------------------------------------------


def test_signal_opens_goes_on_and_closes_over_polls(desk):
    event = desk.events()[0]
    first = desk.poll()
    assert not Signal.objects.filter(event=event.spec.event_id, kind="yes_basket").exists()

    desk.plant(event)
    second = desk.poll()
    signal = desk.stood(event)
    third = desk.poll()
    risen = desk.opened(event)
    desk.restore()
    fourth = desk.poll()

    assert [told["mode"] for told in (first, second, third, fourth)] == ["ingest"] * 4
    assert (second["counts"]["opened"], fourth["counts"]["closed"]) == (1, 1)
    assert "opened" not in third["counts"] and "closed" not in third["counts"]
    # One look cannot say that it stands; the next one does.
    assert (signal.level, signal.verdict) == ("P2", "EXECUTABLE")
    assert (risen.key, risen.level, risen.verdict) == (signal.key, "P1", "EXECUTABLE")
    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "edge_gone")
    assert changes_of(signal) == ["opened", "updated", "closed"]
    told = AuditEntry.objects.filter(subject=f"signal:{signal.key}").order_by("id")
    assert [entry.kind for entry in told] == ["signal.opened", "signal.closed"]
    assert OutboxEntry.objects.filter(key=f"signal:{signal.key}:P1").count() == 1


def test_signal_that_pays_more_is_updated_and_stays_the_same_signal(desk):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    before = desk.opened(event)

    desk.plant(event, margin=0.06)
    told = desk.poll()

    signal = desk.opened(event)
    assert told["counts"]["updated"] == 1
    assert signal.key == before.key
    assert signal.observations == 2
    assert signal.profit > before.profit
    assert signal.peak_profit == signal.profit
    assert signal.opened_at == before.opened_at


def test_signal_of_a_dead_stream_goes_on(desk):
    """What the stream opened has no mark of the poll; the poll takes it over all the same."""
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    Signal.objects.filter(pk=signal.pk).update(payload={**signal.payload, "facts": {}})
    stream_beats(at=timezone.now() - timedelta(seconds=31))

    told = desk.poll()

    assert told["mode"] == "ingest"
    assert desk.opened(event).key == signal.key
    assert Signal.objects.filter(event=event.spec.event_id, kind="yes_basket").count() == 1


def test_quotes_are_rewritten_and_ticks_kept_only_where_something_changed(desk):
    desk.poll()
    tradable = Market.objects.tradable().count()
    ticks = Tick.objects.count()
    event = desk.events()[0]
    leg = event.legs[0]
    bid = leg.book.best_bid
    desk.change(leg, (True, bid, 0))

    desk.poll()

    assert Quote.objects.filter(state="fresh").count() == tradable
    assert ticks == tradable
    assert Tick.objects.count() == ticks + 1
    market = Market.objects.get(condition_id=leg.spec.condition_id)
    assert market.quote.bid == Decimal(leg.book.best_bid) / 10_000
    assert leg.book.best_bid < bid


def test_book_that_is_gone_is_no_quote_and_ends_what_needs_it(desk):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    leg = event.legs[0]
    assert desk.venue.inside
    places = desk.venue.inside.world.stage.places
    hidden = {token: places.pop(token) for token in leg.spec.token_ids}

    desk.poll()
    places.update(hidden)

    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "book_awaiting")
    quote = Quote.objects.get(market__condition_id=leg.spec.condition_id)
    assert (quote.state, quote.bid, quote.ask) == ("awaiting", None, None)


def test_event_that_resolved_ends_its_signal_with_that_reason(desk):
    event = desk.events()[-1]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    desk.venue.fault("resolution_without_event", target=event.legs[0].spec.condition_id)
    wait_for(lambda: event.resolved, seconds=5, what="the event to resolve")

    desk.poll()

    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "market_closed")
    assert Market.objects.get(condition_id=event.legs[0].spec.condition_id).state == "RESOLVED"


@pytest.mark.parametrize(
    ("fault", "kind"), [("html_403", "blocked"), ("errors_5xx", "server_fault")]
)
def test_refusal_is_counted_and_ends_what_cannot_be_confirmed(desk, fault, kind):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    desk.venue.fault(fault, target="/books")

    told = desk.poll()
    again = desk.poll()

    assert told["errors"] == {f"books:{kind}": 1}
    assert again["errors"] == {f"books:{kind}": 2}
    assert told["error"].startswith("CLOB /books: ")
    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "venue_unreachable")


def test_catalogue_that_cannot_be_read_ends_what_is_open_too(desk):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    desk.venue.fault("html_403", target="/events")

    told = desk.poll()

    assert told["errors"] == {"terms:blocked": 1}
    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "venue_unreachable")


def test_well_again_venue_clears_the_error_and_opens_anew(desk):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    first = desk.stood(event)
    desk.poll()
    desk.venue.fault("html_403", target="/books")
    desk.poll()
    desk.venue.clear()

    told = desk.poll()
    desk.stood(event)
    desk.poll()

    assert told["error"] == ""
    assert told["errors"] == {"books:blocked": 1}
    assert desk.opened(event).key != first.key
    # The same legs a moment later: shown, but not alerted again.
    assert list(OutboxEntry.objects.order_by("id").values_list("state", flat=True)) == [
        "PENDING",
        "SUPPRESSED",
    ]


def test_answer_that_took_too_long_is_not_evaluated(desk, monkeypatch):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    monkeypatch.setattr(polling, "MAX_AGE_NS", 0)

    told = desk.poll()

    assert told["counts"]["too_old"] == Market.objects.tradable().count()
    assert "looked_at" not in told["counts"]
    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "book_stale")


def test_event_larger_than_one_answer_is_not_evaluated(desk, monkeypatch):
    event = desk.events()[0]
    desk.plant(event)
    shard = tuple(each for each in watch.watched() if each.event_id == event.spec.event_id)
    monkeypatch.setattr(polling, "BATCH", len(event.legs) - 1)
    told = polling.Told("ingest", shards=1)

    polling.ingest(shard, told)

    assert told.counts == {"too_large": 1}
    assert not Signal.objects.exists()


def test_rule_that_runs_no_more_ends_its_signals(desk):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    Rule.objects.update(enabled=False)

    told = desk.poll()

    assert told["counts"]["orphaned"] == 1
    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "process_lost")


def test_signals_of_rules_that_look_at_other_things_are_left_alone(desk, monkeypatch):
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    text = "code: LOOKS_ELSEWHERE\ntitle: Spike\ndetector: spike\n"
    other = Rule.objects.create(code="LOOKS_ELSEWHERE", title="Spike", changed_at=timezone.now())
    Signal.objects.filter(pk=signal.pk).update(rule=other)
    elsewhere = ActiveRule.of(parse_rule(text, source="test"))
    monkeypatch.setattr(polling, "active_rules", lambda: (*active_rules(), elsewhere))
    desk.restore()

    desk.poll()

    signal.refresh_from_db()
    assert signal.status == "OPEN"


def test_shards_take_turns_and_events_stay_whole(desk, monkeypatch):
    monkeypatch.setattr(polling, "BATCH", 30)
    monkeypatch.setattr(polling, "GO_ON_SECONDS", 0.0)
    shards = polling.shards_of(watch.watched())
    assert len(shards) > 2

    polled = [desk.poll() for _ in range(len(shards) + 1)]

    assert [told["shard"] for told in polled] == [*range(len(shards)), 0]
    sizes = [sum(len(event.markets) for event in shard) for shard in shards]
    assert [told["counts"]["looked_at"] for told in polled] == [*sizes, sizes[0]]
    assert Quote.objects.count() == sum(sizes)


def test_one_run_goes_on_with_the_next_shards_while_it_has_time(desk, monkeypatch):
    monkeypatch.setattr(polling, "BATCH", 30)

    told = desk.poll()

    assert told["counts"]["looked_at"] == Market.objects.tradable().count()


def test_shards_hold_one_request_each():
    def event(number: int, legs: int) -> WatchedEvent:
        markets = tuple(WatchedMarket(f"{number}-{leg}", "", ("1", "2")) for leg in range(legs))
        return WatchedEvent(str(number), True, number, None, markets)

    shards = polling.shards_of([event(1, 300), event(2, 200), event(3, 1), event(4, 600)])

    assert [[event.event_id for event in shard] for shard in shards] == [["1", "2"], ["3"], ["4"]]


# --- who tells ---------------------------------------------------------------------


def test_first_run_after_a_pause_only_waits(desk):
    """After an outage of the database every heartbeat is old, the living stream's too."""
    desk.plant(desk.events()[0])
    stream_beats(at=timezone.now() - LONG_AGO)
    journal.beat("poll", at=timezone.now() - LONG_AGO, progress=0)

    first, second = desk.poll(), desk.poll()

    assert (first["mode"], second["mode"]) == ("wait", "ingest")
    assert second["counts"]["opened"] == 1


def test_late_stream_is_neither_checked_nor_replaced(desk):
    desk.plant(desk.events()[0])
    stream_beats(at=timezone.now() - timedelta(seconds=10))

    told = desk.poll()

    assert (told["mode"], told["counts"]) == ("wait", {})
    assert not Signal.objects.exists()


def test_stream_that_comes_back_during_a_look_is_the_one_to_tell(desk, monkeypatch):
    event = desk.events()[0]
    desk.plant(event)
    store = polling.catalogue.store

    def store_and_return(*args: Any, **named: Any) -> int:
        stream_beats()
        return store(*args, **named)

    monkeypatch.setattr(polling.catalogue, "store", store_and_return)

    told = desk.poll()

    assert told["counts"]["left_to_the_stream"] == 1
    assert not Signal.objects.exists()
    assert not Quote.objects.exists()


def test_mock_desk_has_no_venue_to_ask(settings):
    settings.DATA_SOURCE = "mock"

    told = tasks.poll_books()

    assert told == "nothing done: DATA_SOURCE is mock, so there is no venue to ask"
    assert not Heartbeat.objects.exists()


def test_two_polls_do_not_run_at_once(desk):
    with lease.held("poll", seconds=30):
        told = tasks.poll_books()

    assert told == "nothing done: another is at it"
    assert not Quote.objects.exists()


def test_empty_watch_list_says_what_would_fill_it(settings):
    settings.DATA_SOURCE = "real"
    polling._watched.cache_clear()
    stream_beats()

    assert "catalogue sync" in tasks.poll_books()


# --- verification ------------------------------------------------------------------


@pytest.fixture
def checked(desk: Desk, monkeypatch: Any) -> Desk:
    """A desk whose quotes are the venue's, with a stream that lives."""
    desk.poll()
    stream_beats()
    meanwhile(monkeypatch, lambda: None)
    return desk


def meanwhile(monkeypatch: Any, happens: Callable[[], object], *, alive: bool = True) -> None:
    """Let something happen between the two looks; the stream goes on beating, or not."""

    def sleep(_: float) -> None:
        happens()
        if alive:
            stream_beats()

    monkeypatch.setattr(polling.time, "sleep", sleep)


def test_living_stream_is_checked_and_nothing_else_is_touched(checked):
    checked.plant(checked.events()[0])
    event = checked.events()[1]
    leg = event.legs[0]
    Quote.objects.filter(market__condition_id=leg.spec.condition_id).update(state="stale")
    ticks, markets = Tick.objects.count(), Market.objects.tradable().count()

    told = checked.poll()

    assert told["mode"] == "verify"
    counts = told["counts"]
    assert counts["looked_at"] == markets
    assert counts["agreed"] + counts["drifted"] + counts["not_fresh"] == markets
    assert counts["not_fresh"] == 1
    assert not Signal.objects.exists()
    assert Tick.objects.count() == ticks


def test_all_agrees_where_nothing_is_wrong(checked):
    told = checked.poll()

    assert told["counts"]["agreed"] == told["counts"]["looked_at"] > 40
    assert "drifted" not in told["counts"]
    assert not Quarantine.objects.exists()


def test_ghost_book_is_found_and_kept_with_both_sides(checked):
    leg = checked.events()[0].legs[0]
    market = Market.objects.get(condition_id=leg.spec.condition_id)
    checked.venue.fault("ghost_book", target=leg.spec.condition_id)

    told = checked.poll()

    assert told["counts"]["drifted"] == 1
    row = Quarantine.objects.get()
    assert (row.source, row.reason, row.subject, row.count) == ("poll", "drift", market.pk, 1)
    assert row.detail.startswith(f"the venue has 0.01 / 0.99, the stream {market.quote.bid}")


def test_asset_whose_feed_is_dead_is_found_while_its_price_moves(checked, monkeypatch):
    """The venue says something new at each look; what we have stays where it was."""
    leg = checked.events()[0].legs[0]

    def move() -> None:
        checked.change(leg, (True, leg.book.best_bid, 0))

    move()
    meanwhile(monkeypatch, move)

    told = checked.poll()

    assert told["counts"]["drifted"] == 1


def test_price_that_moves_on_both_sides_is_no_drift(checked, monkeypatch):
    leg = checked.events()[0].legs[0]
    quote = Quote.objects.filter(market__condition_id=leg.spec.condition_id)

    def both_move() -> None:
        """The stream is a little behind all the time."""
        quote.update(bid=Decimal(leg.book.best_bid) / 10_000, at=timezone.now())
        checked.change(leg, (True, leg.book.best_bid, 0))

    checked.change(leg, (True, leg.book.best_bid, 0))
    meanwhile(monkeypatch, both_move)

    told = checked.poll()

    assert (told["counts"]["drifted"], told["counts"]["moved_on"]) == (0, 1)
    assert not Quarantine.objects.exists()


def test_stream_that_catches_up_in_time_agrees(checked, monkeypatch):
    leg = checked.events()[0].legs[0]
    quote = Quote.objects.filter(market__condition_id=leg.spec.condition_id)
    checked.change(leg, (True, leg.book.best_bid, 0))
    now = Decimal(leg.book.best_bid) / 10_000
    meanwhile(monkeypatch, lambda: quote.update(bid=now))

    told = checked.poll()

    assert (told["counts"]["drifted"], told["counts"]["moved_on"]) == (0, 1)


def test_quote_of_a_book_that_is_gone_is_drift(checked):
    leg = checked.events()[0].legs[0]
    assert checked.venue.inside
    places = checked.venue.inside.world.stage.places
    hidden = {token: places.pop(token) for token in leg.spec.token_ids}

    told = checked.poll()
    places.update(hidden)

    assert told["counts"]["drifted"] == 1
    assert "the venue has no book" in Quarantine.objects.get().detail


def test_market_that_trades_no_more_is_no_drift(checked):
    leg = checked.events()[0].legs[0]
    assert checked.venue.inside
    places = checked.venue.inside.world.stage.places
    hidden = {token: places.pop(token) for token in leg.spec.token_ids}
    watch_list = polling.watched_now()
    Market.objects.filter(condition_id=leg.spec.condition_id).update(state="RESOLVED")

    told = checked.poll()
    places.update(hidden)

    assert polling.watched_now() == watch_list, "it is still on the remembered list"
    assert told["counts"]["not_followed"] == 1
    assert "drifted" not in told["counts"]


def test_stream_that_dies_during_the_check_is_not_blamed_for_each_market(checked, monkeypatch):
    leg = checked.events()[0].legs[0]
    checked.change(leg, (True, leg.book.best_bid, 0))
    meanwhile(monkeypatch, lambda: None, alive=False)

    told = checked.poll()

    assert told["counts"]["drifted"] == 0
    assert not Quarantine.objects.exists()


def test_refusal_during_verification_changes_nothing(checked):
    checked.venue.fault("html_403")

    told = checked.poll()

    assert told["errors"] == {"books:blocked": 1}
    assert told["counts"] == {}
    assert not Quarantine.objects.exists()


# --- signals nobody watches ----------------------------------------------------------


def open_signal(desk: Desk, *, age: timedelta) -> Signal:
    event = desk.events()[0]
    desk.plant(event)
    desk.poll()
    signal = desk.opened(event)
    Signal.objects.filter(pk=signal.pk).update(changed_at=timezone.now() - age)
    return signal


def sweep() -> int:
    """Sweep as one that swept a moment ago."""
    at = timezone.now()
    Lease.objects.update_or_create(name="sweep", defaults={"until": at})
    closed: int = tasks.sweep()
    return closed


def test_signals_end_when_neither_stream_nor_poll_lives(desk):
    signal = open_signal(desk, age=LONG_AGO)
    Heartbeat.objects.update(at=timezone.now() - LONG_AGO)

    assert sweep() == 1

    signal.refresh_from_db()
    assert (signal.status, signal.close_reason) == ("CLOSED", "process_lost")
    assert signal.closed_at == signal.changed_at
    assert changes_of(signal) == ["opened", "closed"]
    assert Heartbeat.objects.get(component="worker").detail["lost_signals"] == 1


def test_signals_of_the_poll_stay_while_it_lives(desk):
    open_signal(desk, age=LONG_AGO)
    stream_beats(at=timezone.now() - LONG_AGO)

    assert sweep() == 0


def test_signal_that_the_poll_does_not_watch_ends(desk):
    signal = open_signal(desk, age=LONG_AGO)
    Market.objects.filter(event=signal.event).update(state="PAUSED")
    polling._watched.cache_clear()

    assert sweep() == 1


def test_signals_of_a_living_stream_stay_however_quiet(desk):
    signal = open_signal(desk, age=LONG_AGO)
    Signal.objects.filter(pk=signal.pk).update(payload={**signal.payload, "facts": {}})
    Heartbeat.objects.update(at=timezone.now() - LONG_AGO)
    stream_beats()

    assert sweep() == 0


def test_leftover_of_the_poll_ends_when_the_stream_is_back(desk):
    open_signal(desk, age=LONG_AGO)
    stream_beats()

    assert sweep() == 1


def test_fresh_signal_of_the_poll_is_left_alone_when_the_stream_is_back(desk):
    open_signal(desk, age=timedelta(seconds=5))
    stream_beats()

    assert sweep() == 0


def test_first_sweep_after_a_pause_closes_nothing(desk):
    """After an outage of the database the living stream's heartbeat is old too."""
    open_signal(desk, age=LONG_AGO)
    Heartbeat.objects.update(at=timezone.now() - LONG_AGO)
    Lease.objects.update_or_create(name="sweep", defaults={"until": timezone.now() - LONG_AGO})

    assert tasks.sweep() == 0
    assert tasks.sweep() == 1


def test_both_jobs_are_in_the_schedule_and_expire_in_their_period():
    jobs = PeriodicTask.objects.filter(name__in=["poll-books", "sweep-signals"])

    assert {job.task for job in jobs} == {tasks.poll_books.name, tasks.sweep.name}
    assert {(job.interval.every, job.interval.period, job.expire_seconds) for job in jobs} == {
        (5, "seconds", 5)
    }


# --- from rows back to episodes --------------------------------------------------------


def test_what_is_stored_of_a_finding_reads_back_as_it_was():
    pipeline = Pipeline(shipped_rules())
    found = [change.finding for frame in simulated() for change in pipeline.feed(frame).changes]
    assert len({finding.verdict for finding in found}) > 1

    for finding in found:
        written = json.loads(json.dumps(finding.explained()))
        assert finding_of(written).explained() == finding.explained()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda payload: payload.pop("legs"),
        lambda payload: payload.update(profit="much"),
        lambda payload: payload.update(legs=[1]),
        lambda payload: payload.update(certificate=None),
    ],
)
def test_payload_of_another_release_is_named_unreadable(spoil):
    pipeline = Pipeline(shipped_rules())
    found = (change.finding for frame in simulated() for change in pipeline.feed(frame).changes)
    payload = next(found).explained()
    spoil(payload)

    with pytest.raises(Unreadable):
        finding_of(payload)


def test_signal_that_cannot_be_read_is_an_orphan(desk):
    signal = open_signal(desk, age=timedelta(0))
    signal.payload = {}

    adopted = adopt([signal], active_rules())

    assert adopted.orphans == (signal.pk,)
    assert adopted.episodes == ()


def test_points_of_a_signal_have_no_update_while_nothing_changes(desk):
    signal = open_signal(desk, age=POLL_EVERY)

    desk.poll()
    assert changes_of(signal) == ["opened", "updated"]  # it stood, and is P1

    for _ in range(3):
        desk.poll()

    assert changes_of(signal) == ["opened", "updated"]
