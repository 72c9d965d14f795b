"""The rotating look at all watched books over REST.

While no stream lives it is the ingestion: terms and books go through the same
pipeline as the feed's frames, and open signals go on. While one lives it is the
verification: the venue's touch against the stored quote.

A polled book has no continuity, so it counts only for the moment it was asked
for (DESIGN section 6): all legs of an event come from one answer, and an answer
that took longer than `MAX_AGE_NS` is not evaluated. What cannot be looked at is
closed, not left standing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

import structlog
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from alerts import journal
from alerts.models import Heartbeat
from alerts.shared_beats import part_names
from markets import catalogue, ticks, watch
from markets.book import Book
from markets.books import Books
from markets.frames import Frame, left_out
from markets.listing import EventTerms, MarketTerms
from markets.models import Market, Quote
from markets.polymarket.clob import BATCH, Clob
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import Patience, VenueError, VenueHttp
from markets.problems import Problems
from markets.shard_rows import placement_now
from markets.ticks import Top
from markets.watch import WatchedEvent, WatchedMarket
from rules.engine import ActiveRule, Sighting
from signals import store
from signals.adopt import adopt
from signals.episodes import Episode, SignalChange
from signals.house import active_rules
from signals.models import Signal, SignalQuerySet
from signals.pipeline import Pipeline
from signals.sources import Clock

log = structlog.stdlib.get_logger(__name__)

STREAM, POLL = "stream", "poll"  # heartbeats
LATE_AFTER = timedelta(seconds=5)  # a stream beats every second; a late one is not judged
DEAD_AFTER = timedelta(seconds=30)  # without a beat: the poll takes over
LOST_AFTER = timedelta(seconds=60)  # without a beat: what was left open is closed
MAX_AGE_NS = 2_000_000_000  # from asking for a book to evaluating it
AGAIN_SECONDS = 2.0  # until the second look at what disagreed
WATCH_SECONDS = 30.0  # for which the watch list is remembered
GO_ON_SECONDS = 3.0  # an ingesting run that took less looks at the next shard too
VENUE_SECONDS = 10.0  # all that one shard may ask of the venue
PATIENCE = Patience(connect=3.0, request=5.0, total=8.0, tries=2, backoff=0.5)
SEEN_BY_POLL = ("seen_by", POLL)  # among a finding's facts

Mode = Literal["ingest", "verify", "wait"]
Shard = tuple[WatchedEvent, ...]


def poll() -> str:
    """Look at the next shard of the watch list and beat; say what came of it.

    Refusals of the venue are counted in the heartbeat, not raised. One at a
    time: `signals.tasks` sees to that.
    """
    begun = time.monotonic()
    mode, before = mode_at(timezone.now()), _last_beat()
    events = watched_now() if mode == "verify" else unheard(watched_now(), at=timezone.now())
    shards = () if mode == "wait" else shards_of(events)
    told, number = Told(mode, shards=len(shards)), before.get("next", 0)
    for turn in range(len(shards)):
        told.shard = (number + turn) % len(shards)
        work = ingest if mode == "ingest" else verify
        work(shards[told.shard], told)
        if mode == "verify" or time.monotonic() - begun > GO_ON_SECONDS:
            break
    told.beat(before)
    return str(told)


def mode_at(at: datetime) -> Mode:
    """Say what the poll is for now.

    A stream that is late is given time: it is neither checked nor replaced.
    Whoever calls others dead must have been there: after an outage of the
    database all heartbeats are old, so the first run after one only waits.
    """
    if is_alive(STREAM, at=at, within=LATE_AFTER):
        return "verify"
    late = is_alive(STREAM, at=at, within=DEAD_AFTER)
    return "ingest" if not late and is_alive(POLL, at=at, within=DEAD_AFTER) else "wait"


def watched_now() -> tuple[WatchedEvent, ...]:
    """Return the watch list, as of the last half minute: the ranking reads the whole catalogue."""
    return _watched(int(time.monotonic() / WATCH_SECONDS), settings.WATCH_TOKENS)


def unheard(events: Sequence[WatchedEvent], *, at: datetime) -> Sequence[WatchedEvent]:
    """Leave out what a living shard of the stream follows."""
    shards = settings.MPX_STREAM_SHARDS
    if shards == 1:
        return events
    names, placement = part_names(STREAM, shards), placement_now(shards)
    living = {n for n, name in enumerate(names) if is_alive(name, at=at, within=DEAD_AFTER)}
    return [event for event in events if placement.shard(event.event_id) not in living]


@lru_cache(maxsize=1)
def _watched(_period: int, budget: int) -> tuple[WatchedEvent, ...]:
    return watch.watched(budget=budget)


def is_alive(component: str, *, at: datetime, within: timedelta) -> bool:
    beat = Heartbeat.objects.filter(component=component).first()
    return beat is not None and beat.age(at) <= within


def shards_of(events: Iterable[WatchedEvent]) -> tuple[Shard, ...]:
    """Cut the watch list into parts that one `/books` request answers, events whole."""
    shards: list[list[WatchedEvent]] = []
    room = 0
    for event in events:
        if not shards or len(event.markets) > room:
            shards.append([])
            room = BATCH
        shards[-1].append(event)
        room -= len(event.markets)
    return tuple(map(tuple, shards))


def lost_signals(at: datetime) -> SignalQuerySet:
    """Return the open signals that no living process watches any more.

    A stream that starts closes what it finds open, and the poll takes over what
    a dead stream left; what remains are those that neither can know of.
    """
    shards = part_names(STREAM, settings.MPX_STREAM_SHARDS)
    living = [name for name in shards if is_alive(name, at=at, within=LOST_AFTER)]
    still = Signal.objects.open()
    quiet = still.filter(changed_at__lt=at - LOST_AFTER)
    if len(living) == len(shards):
        return quiet.filter(**{f"payload__facts__{SEEN_BY_POLL[0]}": SEEN_BY_POLL[1]})
    still, quiet = (rows.exclude(stream__in=living) for rows in (still, quiet))
    if is_alive(POLL, at=at, within=LOST_AFTER) and _last_beat().get("mode") != "verify":
        watched = [event.event_id for event in watched_now()]
        return quiet.exclude(event__in=watched)
    return still


# --- what a run tells ------------------------------------------------------


@dataclass(slots=True)
class Told:
    """What came of a run. `error` is the venue's last refusal, in words."""

    mode: Mode
    shards: int
    shard: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    error: str = ""

    def __str__(self) -> str:
        if self.mode == "wait":
            return "nothing done: it is not sure yet whether the stream lives"
        if not self.shards:
            return "nothing done: nothing is watched, see `manage.py catalogue sync`"
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        ended = f"; {self.error}" if self.error else ""
        return f"{self.mode} shard {self.shard + 1} of {self.shards}: {counts or 'nothing'}{ended}"

    @contextmanager
    def refusals(self, what: str) -> Iterator[None]:
        """Count what the venue refuses in the block, and go on after it."""
        try:
            yield
        except VenueError as error:
            self._note(f"{what}:{error.kind}", str(error))
        except TimeoutError:
            self._note(f"{what}:too_slow", f"The venue took more than {VENUE_SECONDS:g} s.")

    def _note(self, key: str, text: str) -> None:
        self.errors[key] += 1
        self.error = text
        log.warning("poll.refused", what=key, error=text)

    def beat(self, before: Mapping[str, Any]) -> None:
        """Show that the poll lives and what it saw; refusals are added up over all runs."""
        looked = self.counts["looked_at"]
        journal.beat(
            POLL,
            at=timezone.now(),
            progress=int(before.get("total", 0)) + looked,
            mode=self.mode,
            shard=self.shard,
            shards=self.shards,
            next=self.shard + 1 if self.shards else 0,
            total=int(before.get("total", 0)) + looked,
            counts=dict(self.counts),
            errors=dict(Counter(before.get("errors", {})) + self.errors),
            error=self.error,
        )


def _last_beat() -> Mapping[str, Any]:
    found = Heartbeat.objects.filter(component=POLL).values_list("detail", flat=True).first()
    return found or {}


def _with_venue(work: Callable[[Gamma, Clob], Awaitable[None]], told: Told) -> None:
    """Let work ask the venue, for `VENUE_SECONDS` at most."""

    async def ask() -> None:
        http = VenueHttp(
            gamma_url=settings.POLYMARKET_GAMMA_URL,
            clob_url=settings.POLYMARKET_CLOB_URL,
            patience=PATIENCE,
        )
        with told.refusals("run"):
            async with http, asyncio.timeout(VENUE_SECONDS):
                await work(Gamma(http), Clob(http))

    async_to_sync(ask)()


# --- ingestion -------------------------------------------------------------


def ingest(shard: Shard, told: Told) -> None:
    """Read a shard's terms and books, and store what they lead to."""
    rules = active_rules()
    event_ids = [event.event_id for event in shard]
    adopted = adopt(_open_signals(event_ids, rules), rules)
    if adopted.orphans:
        orphans = Signal.objects.filter(pk__in=adopted.orphans)
        told.counts["orphaned"] += store.close_lost(at=timezone.now(), among=orphans)
    look = Look(rules, adopted.episodes, told)
    _with_venue(lambda gamma, clob: look.at_events(event_ids, gamma, clob), told)
    look.finish()
    _store(look)


def _open_signals(event_ids: Sequence[str], rules: Iterable[ActiveRule]) -> SignalQuerySet:
    """Return the open signals of these events; not those of rules that look at other things."""
    others = [rule.code for rule in rules if not rule.kinds]
    found = Signal.objects.open().filter(event__in=event_ids).exclude(rule__code__in=others)
    return found.select_related("rule", "rule_version", "event").order_by("id")


class Look:
    """One look at some events, run through the same pipeline as the feed.

    `adopted` are the episodes that go on; what came of it all is in `events`,
    `changes` and `tops`.
    """

    def __init__(self, rules: Iterable[ActiveRule], adopted: Sequence[Episode], told: Told) -> None:
        # What follows prices over time needs a stream; a look now and then would mislead it.
        self.pipeline = Pipeline(rule for rule in rules if rule.kinds)
        self.told = told
        self.events: list[EventTerms] = []
        self.changes: list[SignalChange] = []
        self._adopted = adopted
        self._observed = {episode.key: episode.observations for episode in adopted}
        self._without_book: list[Book] = []
        self._clock = Clock()

    async def at_events(self, event_ids: Sequence[str], gamma: Gamma, clob: Clob) -> None:
        with self.told.refusals("terms"):
            async for body in gamma.events_by_id(event_ids):
                self._take(Frame(self._clock.now(), "gamma", body, None, "/events/keyset"))
        self._resume()
        for tokens in self._batches():
            await self._read_books(tokens, clob)

    def finish(self) -> None:
        """Close what was open and could not be looked at; tell all that is still to be told."""
        unseen = [each for each in self._adopted if not self._was_seen(each)]
        for episode in unseen:
            self.pipeline.episodes.resume(episode)  # where the terms did not even come
        gone = [Sighting(each.rule, each.subject, (), self._why(each)) for each in unseen]
        self.changes += self.pipeline.episodes.take(gone, at=self._clock.now())
        self.changes += self.pipeline.settle()

    def tops(self) -> Iterator[Top]:
        """Return the touch of every book that the venue answered for, if only that it has none."""
        yield from map(ticks.top_of, self.pipeline.books.take_moved())
        for book in self._without_book:
            yield ticks.top_of(book)._replace(t=self._clock.now())

    def _take(self, frame: Frame) -> None:
        step = self.pipeline.feed(frame)
        self.changes += step.changes
        self.events += step.events

    def _resume(self) -> None:
        """Go on with what is open: the terms are known now, and no book is yet."""
        for episode in self._adopted:
            self.pipeline.episodes.resume(episode)
            watched = self.pipeline.engine.watches.get(episode.subject)
            if watched is not None:
                watched.found(True)  # to be looked at though its prices may pay no more

    def _batches(self) -> Iterator[list[str]]:
        """Yield the tokens to ask for at once; no event is split over two answers."""
        batch: list[str] = []
        for event in self.pipeline.events.values():
            tokens = [leg.token_ids[0] for leg in event.markets if leg.untradable is None]
            if len(tokens) > BATCH:
                self.told.counts["too_large"] += 1
                continue
            if len(batch) + len(tokens) > BATCH:
                yield batch
                batch = []
            batch += tokens
        if batch:
            yield batch

    async def _read_books(self, tokens: list[str], clob: Clob) -> None:
        asked = self._clock.now()
        with self.told.refusals("books"):
            async for answer in clob.books(tokens):
                received = self._clock.now()
                if received - asked > MAX_AGE_NS:
                    self.told.counts["too_old"] += len(answer.asked)
                    continue
                self.told.counts["looked_at"] += len(answer.asked)
                self._take(Frame(received, "clob", answer.body, None, "/books"))
                self._note_missing(answer.missing)

    def _note_missing(self, tokens: Sequence[str]) -> None:
        if tokens:
            self._take(Frame(self._clock.now(), "clob", b"[]", None, left_out(tokens)))
            books = map(self.pipeline.books.by_token.get, tokens)
            self._without_book += [book for book in books if book is not None]

    def _was_seen(self, episode: Episode) -> bool:
        """Say whether the look told something of an episode: that it goes on, or is gone."""
        return (
            episode.fading_since is not None or episode.observations > self._observed[episode.key]
        )

    def _why(self, episode: Episode) -> str:
        """Say why an episode could not be looked at."""
        watched = self.pipeline.engine.watches.get(episode.subject)
        if watched is None:
            if episode.finding.event_id in self.pipeline.events:
                return "market_closed"
            return "venue_unreachable" if self.told.errors else "not_listed"
        if episode.rule not in watched.rules:
            return "out_of_scope"
        return "venue_unreachable" if self.told.errors else "book_stale"


def _store(look: Look) -> None:
    """Store a look, unless a stream has come back meanwhile: then it is the one to tell."""
    catalogue.store(look.events, seen_at=timezone.now())
    counts = look.told.counts
    with transaction.atomic():
        if _stream_is_back():
            counts["left_to_the_stream"] += len(look.changes)
        else:
            store.save(map(_marked, look.changes))
            ticks.store(_news(look.tops()))
            counts.update(change.change for change in look.changes)
    ticks.quarantine(look.pipeline.problems.drain())


def _stream_is_back() -> bool:
    """Ask with the stream's heartbeat held until commit: it cannot begin in between."""
    beat = Heartbeat.objects.select_for_update().filter(component=STREAM).first()
    return beat is not None and beat.age(timezone.now()) <= DEAD_AFTER


def _marked(change: SignalChange) -> SignalChange:
    """Write into what is stored that the poll saw it."""
    finding = change.finding
    if SEEN_BY_POLL in finding.facts:
        return change
    return replace(change, finding=replace(finding, facts=(*finding.facts, SEEN_BY_POLL)))


def _news(tops: Iterable[Top]) -> list[Top]:
    """Return the tops that differ from the stored quotes, of the markets that are stored."""
    given = {top.market_id: top for top in tops}
    rows = Market.objects.filter(pk__in=given).values_list(
        "pk", "quote__bid", "quote__ask", "quote__state"
    )
    return [
        given[market_id]
        for market_id, bid, ask, state in rows
        if (*given[market_id].prices, given[market_id].state) != (bid, ask, state)
    ]


# --- verification ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask of a market's first outcome in USD; None is an empty side."""

    bid: Decimal | None
    ask: Decimal | None

    def __str__(self) -> str:
        return f"{self.bid} / {self.ask}"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A market of which the venue says something else than the stream. `theirs` None: no book."""

    market: WatchedMarket
    theirs: Touch | None
    ours: Touch
    quoted_at: datetime

    def is_still(self, earlier: Doubt) -> bool:
        """Say whether it is the same doubt: not both have moved on since, as live prices do."""
        return self.theirs == earlier.theirs or self.quoted_at == earlier.quoted_at


def verify(shard: Shard, told: Told) -> None:
    """Compare the venue's touch with what the stream stored; keep what stays different."""
    counts: Counter[str] = Counter()
    markets = [market for event in shard for market in event.markets]
    first = {doubt.market: doubt for doubt in _doubts(markets, told, counts)}
    if first:
        paused_at = timezone.now()
        time.sleep(AGAIN_SECONDS)
        second = _doubts(list(first), told, Counter())
        drifted = [doubt for doubt in second if doubt.is_still(first[doubt.market])]
        if not Heartbeat.objects.filter(component=STREAM, at__gt=paused_at).exists():
            drifted = []  # it stopped meanwhile, which is all there is to say
        _quarantine(drifted)
        counts["drifted"] = len(drifted)
        counts["moved_on"] = len(first) - len(drifted)
    told.counts.update(counts)


def _doubts(markets: Sequence[WatchedMarket], told: Told, counts: Counter[str]) -> list[Doubt]:
    """Ask for books and return where the quotes say something else; count all the others."""
    answered = _ask(markets, told)
    quotes = _quotes(market.market_id for market in markets)
    doubts: list[Doubt] = []
    for market in answered:
        counts["looked_at"] += 1
        quote, theirs = quotes.get(market.market_id), answered[market]
        if quote is None:
            counts["not_followed"] += 1
        elif quote.state != "fresh":
            counts["not_fresh"] += 1  # the stream knows that it does not know
        elif theirs == Touch(quote.bid, quote.ask):
            counts["agreed"] += 1
        else:
            doubts.append(Doubt(market, theirs, Touch(quote.bid, quote.ask), quote.at))
    return doubts


def _quotes(market_ids: Iterable[str]) -> dict[str, Quote]:
    """Return the quotes of those that still trade: the list may be half a minute old."""
    trading = Market.State.TRADABLE
    rows = Quote.objects.filter(market__in=list(market_ids), market__state=trading)
    return {quote.market_id: quote for quote in rows}


def _ask(markets: Sequence[WatchedMarket], told: Told) -> dict[WatchedMarket, Touch | None]:
    """Return the venue's touch of each market that it answered for, read as the live path reads."""
    books = Books(Problems())
    kept = {market.token_ids[0]: (market, books.add(_bare_terms(market))) for market in markets}
    found: dict[WatchedMarket, Touch | None] = {}

    async def read(_: Gamma, clob: Clob) -> None:
        with told.refusals("books"):
            async for answer in clob.books(kept):
                books.answer(answer.body, time.time_ns())
                found.update({kept[token][0]: None for token in answer.missing})

    _with_venue(read, told)
    for market, book in kept.values():
        if not book.state_note:  # an answer came, and it could be read
            found[market] = Touch(*ticks.top_of(book).prices)
    ticks.quarantine(books.problems.drain())
    return found


def _bare_terms(market: WatchedMarket) -> MarketTerms:
    """Return terms that are enough to read a book by."""
    return MarketTerms(
        market_id=market.market_id,
        condition_id=market.condition_id,
        question="",
        token_ids=market.token_ids,
        outcomes=("", ""),
        tick=100,
        min_size=0,
        fee=None,
        untradable=None,
        payout=None,
        end_at=None,
    )


def _quarantine(doubts: Sequence[Doubt]) -> None:
    if doubts:
        log.warning("poll.drift", markets=len(doubts), first=doubts[0].market.market_id)
    problems, at = Problems(), time.time_ns()
    for doubt in doubts:
        detail = (
            f"the venue has {doubt.theirs or 'no book'}, the stream {doubt.ours} "
            f"since {doubt.quoted_at:%H:%M:%S.%f}"
        )
        problems.note(POLL, "drift", at=at, subject=doubt.market.market_id, detail=detail)
    ticks.quarantine(problems.drain())
