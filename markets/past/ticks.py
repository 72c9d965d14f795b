"""Stored ticks as a past: tops of book as the database has them, with what was listed then."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from markets.book import NO_ASK, NO_BID
from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import Frame, moment, unix_ns
from markets.models import Gap as GapRow
from markets.models import Tick
from markets.past.terms import Terms, terms_between
from markets.past.tops import Top, told_frames, with_breaks
from markets.past.value import Gap, NotAPast, Past, covered, merged

# Read a day at a time: ticks have no index by time alone, so that each piece costs a scan.
PIECE_NS = 86_400_000_000_000
BATCH = 5_000
SILENCE_NS = 300_000_000_000  # no tick of any market for so long: the stream was not there
_COLUMNS = ("at", "market_id", "bid", "ask", "bid_size", "ask_size")


def past_of_ticks(since: int, until: int) -> Past:
    """Return the ticks of [since, until) (unix ns); raise `NotAPast` for none.

    A tick is written when the price at the touch changes, so sizes are those of that
    moment: between two ticks there may have been more or less.
    """
    content = _Content(since)
    for top in tops_between(since, until):
        content.take(top)
    if not content.first_seen:
        raise NotAPast("there is no tick of that time", "database")
    whole, single = gap_rows(since, until)
    gaps = merged([*whole, *content.silences], since=content.since, until=content.until)
    terms = terms_between(since, until, first_seen=content.first_seen)
    single = [(pk, gap) for pk, gap in single if pk in terms.ids]
    return Past(
        name=f"ticks of {moment(since):%Y-%m-%d %H:%M} to {moment(until):%Y-%m-%d %H:%M}",
        sha256=content.told.hexdigest(),
        since=content.since,
        until=content.until,
        covered=covered(gaps, since=content.since, until=content.until),
        gaps=gaps,
        kind="tops",
        read=_Reader(terms, gaps, single, since, until).read,
    )


@dataclass(slots=True)
class _Content:
    """What a pass over the ticks finds: their hash, their window and its silences."""

    start: int
    since: int = 0
    until: int = 0
    first_seen: dict[str, int] = field(default_factory=dict)
    silences: list[Gap] = field(default_factory=list)
    told: hashlib._Hash = field(default_factory=hashlib.sha256)

    def take(self, top: Top) -> None:
        if not self.first_seen:
            self.since = self.until = top.t
        if top.t - self.until > SILENCE_NS:
            self.silences.append(Gap(self.until + SILENCE_NS, top.t, "no tick of any market"))
        self.until = top.t
        self.first_seen.setdefault(top.market_id, top.t)
        self.told.update(repr(tuple(top)).encode())


@dataclass(frozen=True, slots=True)
class _Reader:
    terms: Terms
    gaps: tuple[Gap, ...]
    single: list[tuple[str, Gap]]
    since: int
    until: int

    def tops(self, until: int) -> Iterator[Top]:
        listed = (top for top in tops_between(self.since, until) if top.market_id in self.terms.ids)
        return with_breaks(listed, self.single)

    def read(self, since: int | None, until: int | None) -> Iterator[Frame]:
        last = self.until if until is None else min(until, self.until)
        return told_frames(
            self.terms.pages,
            self.tops(last),
            self.gaps,
            ids=self.terms.ids,
            since=since,
            until=last,
        )


def tops_between(since: int, until: int) -> Iterator[Top]:
    """Yield the ticks of [since, until) in the order of their time; the database sorts each day."""
    for start in range(since, until, PIECE_NS):
        end = min(start + PIECE_NS, until)
        rows = (
            Tick.objects.filter(at__gte=moment(start), at__lt=moment(end))
            .order_by("at", "market_id")
            .values_list(*_COLUMNS)
        )
        for at, market_id, bid, ask, bid_size, ask_size in rows.iterator(chunk_size=BATCH):
            yield Top(
                unix_ns(at),
                market_id,
                NO_BID if bid is None else int(bid * PRICE_ONE),
                NO_ASK if ask is None else int(ask * PRICE_ONE),
                _size(bid_size),
                _size(ask_size),
            )


def _size(size: Decimal | None) -> int:
    return 0 if size is None else int(size * SIZE_ONE)


def gap_rows(since: int, until: int) -> tuple[list[Gap], list[tuple[str, Gap]]]:
    """Return the gaps of all markets (a connection was cut), and those of single ones."""
    rows = GapRow.objects.filter(opened_at__lt=moment(until)).order_by("opened_at", "id")
    whole: list[Gap] = []
    single: list[tuple[str, Gap]] = []
    for row in rows:
        gap = Gap(unix_ns(row.opened_at), _end(row, until), f"{row.get_kind_display()}: {row}")
        if gap.until <= max(since, gap.since):
            continue
        if row.kind == GapRow.Kind.CONNECTION:
            whole.append(gap)
        else:
            single.append((row.subject, gap))
    return whole, single


def _end(row: GapRow, until: int) -> int:
    """Return when a gap was over. What ended with its process goes on as a silence of ticks."""
    if row.healed_at:
        return unix_ns(row.healed_at)
    return until if row.ending == "" else unix_ns(row.opened_at)
