"""Between the paper venue in the stream and the database: orders in, answers out, books shown.

`Desk.work` makes one pass and can be driven by hand; `DeskThread` makes passes
in a thread of its own, so that the stream never waits for the database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections, transaction

from alerts.shared_beats import beat_part
from execution import fills
from execution.matching import Side, Take, price_units, size_units
from execution.models import LiveBook, OrderIntent
from execution.paper import BookNow, PaperBroker, PaperTerms
from execution.tickets import Ticket
from markets.books import Books
from markets.lease import LeaseLost
from markets.models import Market
from risk import limits
from risk.locking import DeskBusy
from signals.episodes import SignalChange
from signals.models import Signal
from signals.share import Share

log = structlog.stdlib.get_logger(__name__)

DESK = "desk"  # its heartbeat
PASS_SECONDS = 0.1
RETRY_SECONDS = 1.0
SHOW_EVERY = timedelta(seconds=0.5)
REMEMBERED = timedelta(hours=1)  # fills whose footprints a new process still respects
BEAT_EVERY = timedelta(seconds=5)
MOST_SHOWN = 500  # markets
FINISH_SECONDS = 5.0


def paper_terms() -> PaperTerms:
    """Return how the paper venue behaves: the environment's delays, the policy's depth."""
    return PaperTerms(
        latency_ms=settings.PAPER_LATENCY_MS,
        leg_gap_ms=settings.PAPER_LEG_GAP_MS,
        depth_share=limits.bounds().depth_share,
    )


class Desk:
    """One paper broker with its way to the database."""

    def __init__(
        self,
        books: Books,
        *,
        terms: PaperTerms | None = None,
        started: int | None = None,
        share: Share | None = None,
    ) -> None:
        """`started` (unix ns) is when this process began; now unless given.

        `share` is the shard whose orders it fills; None: all.
        """
        began = time.time_ns() if started is None else started
        self.broker = PaperBroker(books, terms=terms, started=began)
        self.stored = 0
        self.share = share
        self._own_terms = terms
        self._shown_at: datetime | None = None
        self._wanted: tuple[str, ...] = ()  # condition ids
        self._books: dict[str, BookNow] = {}  # the newest of each market, not yet written
        self._vouched: list[str] = []
        self._hurry = False  # something new was found: its books are not to wait for their turn
        self._lock = threading.Lock()

    # --- in the stream ---------------------------------------------------------------

    def on_frame(self, at: int) -> None:
        """Call after each frame that went through the pipeline (unix ns)."""
        self.broker.on_frame(at)

    def on_time(self, at: int) -> None:
        """Call a few times a second whether frames come or not (unix ns)."""
        self.broker.on_time(at)
        changed, same = self.broker.show(self._wanted)
        with self._lock:
            self._books |= {book.market_id: book for book in changed}
            self._vouched = same

    def on_signals(self, changes: Iterable[SignalChange]) -> None:
        """Show the books of what was just found: whoever opens the signal may want to buy."""
        opened = [each.finding.legs for each in changes if each.change == "opened"]
        found = {self.broker.books.by_token.get(leg.token_id) for legs in opened for leg in legs}
        changed, _ = self.broker.show(book.condition_id for book in found if book)
        with self._lock:
            self._books |= {book.market_id: book for book in changed}
            self._hurry = self._hurry or bool(changed)

    # --- beside it -------------------------------------------------------------------

    def remember(self, *, at: datetime) -> None:
        """Take over what earlier processes took of the books; call once before the first pass."""
        for fill, takes in fills.recent_takes(since=at - REMEMBERED):
            side: Side = "BUY" if fill.seq == fills.BUY else "SELL"
            levels = tuple(_take(row) for row in takes)
            self.broker.recall(levels, fill.market_id, fill.outcome_index, side)

    def work(self, *, at: datetime) -> int:
        """Store answers, hand in orders, write books down; return how many answers."""
        stored = self._store_answers()
        fills.reconcile_due(at=at)
        if self._own_terms is None:
            self.broker.terms = paper_terms()
        self.broker.accept(self._tickets(at))
        if self._shown_at is None or at - self._shown_at >= SHOW_EVERY:
            self._shown_at = at
            self._wanted = wanted_conditions()
            self._write_books()
        elif self._hurry:
            self._write_books()
        return stored

    def _tickets(self, at: datetime) -> tuple[Ticket, ...]:
        """Return the orders that wait, of a shard only those on its events."""
        found = fills.tickets(at=at)
        if not found or self.share is None or self.share.alone:
            return found
        events = fills.events_of(ticket.key[0] for ticket in found)
        return tuple(each for each in found if self.share.owns_order(events[each.key[0]]))

    def _store_answers(self) -> int:
        stored = 0
        reports = self.broker.reports
        while reports:
            report = reports[0]  # stays until it is stored: a busy database loses nothing
            stored += fills.store(report, proof=self.share.confirm if self.share else None)
            reports.popleft()
            self.broker.forget(report.ticket.key)
        self.stored += stored
        return stored

    def _write_books(self) -> None:
        with self._lock:
            books, self._books = self._books, {}
            vouched, self._hurry = self._vouched, False
        unlisted = write_books(books.values())
        with self._lock:  # their markets are on the way to the database
            self._books = {key: books[key] for key in unlisted} | self._books
        seen_at = _moment(self.broker.last_frame_at)
        LiveBook.objects.filter(pk__in=vouched, seen_at__lt=seen_at).update(seen_at=seen_at)


def wanted_conditions() -> tuple[str, ...]:
    """Return the markets whose books somebody may look at: of open signals and intents."""
    ids: dict[str, None] = {}
    intents = OrderIntent.objects.filter(status__in=("SUGGESTED", "APPROVED"))
    for plan in intents.order_by("-id").values_list("plan", flat=True):
        ids |= dict.fromkeys(leg["market_id"] for leg in plan["legs"])
    signals = Signal.objects.open().filter(level__in=("P1", "P2"))
    for market_ids in signals.order_by("-opened_at").values_list("market_ids", flat=True):
        ids |= dict.fromkeys(market_ids)
    chosen = list(ids)[:MOST_SHOWN]
    return tuple(
        Market.objects.filter(pk__in=chosen).values_list("condition_id", flat=True).order_by("id")
    )


def write_books(books: Iterable[BookNow]) -> set[str]:
    """Rewrite the live books of markets that are stored; return the markets that are not."""
    newest = {book.market_id: book for book in books}
    stored = set(Market.objects.filter(pk__in=newest).values_list("pk", flat=True))
    LiveBook.objects.bulk_create(
        [_row(newest[key]) for key in sorted(stored)],
        update_conflicts=True,
        unique_fields=["market"],
        update_fields=["state", "epoch", "bids", "asks", "changed_at", "seen_at"],
    )
    return newest.keys() - stored


def _row(book: BookNow) -> LiveBook:
    return LiveBook(
        market_id=book.market_id,
        state=book.state,
        epoch=book.epoch,
        bids=[list(level) for level in book.bids],
        asks=[list(level) for level in book.asks],
        changed_at=book.changed_at,
        seen_at=book.seen_at,
    )


def _take(row: list[str]) -> Take:
    price, size, fee, displayed = (Decimal(value) for value in row)
    return Take(price_units(price), size_units(size), fee, size_units(displayed))


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1e9, UTC)


class DeskThread(threading.Thread):
    """Makes passes until it is stopped; a database that is away is waited for.

    `failed` is the exception that ended it, if one did.
    """

    def __init__(
        self, desk: Desk, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(name="desk", daemon=True)
        self.desk = desk
        self.failed: BaseException | None = None
        self._clock = clock
        self._halt = threading.Event()
        self._remembered = False
        self._beat_at: datetime | None = None

    def run(self) -> None:
        try:
            while not self._halt.wait(PASS_SECONDS):
                self._pass()
                close_old_connections()  # not each thread of many shards can keep one
        except BaseException as error:  # told to whoever started the thread
            self.failed = error
            log.exception("desk.failed")
        finally:
            connections.close_all()

    def _pass(self) -> None:
        at = self._clock()
        try:
            if not self._remembered:
                self.desk.remember(at=at)
                self._remembered = True
            self.desk.work(at=at)
            self._beat(at)
        except LeaseLost:
            log.error("desk.not_ours")  # whoever has the shard now fills its orders
            self._halt.set()
        except (DatabaseError, DeskBusy) as error:
            log.warning("desk.retry", error=str(error))
            if isinstance(error, DatabaseError):  # of a database that is away one line a second
                self._halt.wait(RETRY_SECONDS)

    def _beat(self, at: datetime) -> None:
        if self._beat_at is None or at - self._beat_at >= BEAT_EVERY:
            self._beat_at = at
            with transaction.atomic():
                working = self.desk.broker.working
                share = self.desk.share
                number, shards = (share.number, share.shards) if share else (0, 1)
                stored = self.desk.stored
                beat_part(DESK, number, shards, at=at, progress=stored, working=working)

    def finish(self, *, timeout: float = FINISH_SECONDS) -> bool:
        """End after the pass under way; False if that took too long.

        Orders that wait stay in the database and are taken up by the next process.
        """
        self._halt.set()
        self.join(timeout)
        return not self.is_alive()
