"""The data-quality ledger: of a window, what was known of each market and why the rest was not.

    told = coverage_of(since, until)          # aware UTC datetimes, since < until
    told.share                                # 0 to 1 of all market time; None: none followed
    told.markets[0]                           # the worst covered market: share, missing, breaks

Three queries for gaps, silences of the stream and contradictions with REST, one for the
markets; it takes milliseconds for a day of 2,000 markets. A cut connection counts against
every market, for it is not stored which it carried: shares are a lower bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q

from alerts.models import Trouble
from markets.models import Gap, Market, Quarantine, Quote

STREAM: Final = "stream"  # the component whose silence is a gap of everything
NOT_THERE: Final = "stream silent"
DRIFT: Final = "drift"
NOTHING: Final = timedelta(0)
# Reasons of the quarantine by which what we hold and what the venue says do not agree.
CONTRADICTED: Final = (DRIFT, "bad_value", "bad_answer")

Stretch = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class MarketCoverage:
    """How much of the window one market's book was known. `followed` is its part of the window."""

    market_id: str
    question: str
    followed: timedelta
    missing: timedelta
    breaks: int  # of its own book; those of connections not counted

    @property
    def share(self) -> float:
        return 1 - self.missing / self.followed if self.followed else 1.0


@dataclass(frozen=True, slots=True)
class Missing:
    """All gaps of one kind and reason; `total` and `longest` as far as they lie in the window."""

    kind: str  # CONNECTION, ASSET, FRAME or STREAM
    reason: str
    count: int
    books: int  # the most that one of them blinded; 0 for all
    total: timedelta
    longest: timedelta
    open: int


@dataclass(frozen=True, slots=True)
class Epochs:
    """One connection: how often it was cut in the window, so how many epochs its books had."""

    connection: str
    epochs: int
    cut: timedelta
    last_at: datetime | None  # of the last cut


@dataclass(frozen=True, slots=True)
class Drift:
    """A book that did not agree with what the venue said over REST, or with its hash."""

    market_id: str
    reason: str
    count: int  # since it is counted, not of the window alone
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a window of the desk's data is worth. Markets are worst covered first."""

    since: datetime
    until: datetime
    markets: tuple[MarketCoverage, ...]
    missing: tuple[Missing, ...]
    epochs: tuple[Epochs, ...]
    drift: tuple[Drift, ...]
    blind: timedelta  # in which nothing at all was known

    @property
    def followed(self) -> timedelta:
        return sum((market.followed for market in self.markets), NOTHING)

    @property
    def share(self) -> float | None:
        """Return the known share of all followed market time; None if nothing was followed."""
        followed = self.followed
        lost = sum((market.missing for market in self.markets), NOTHING)
        return 1 - lost / followed if followed else None


def coverage_of(since: datetime, until: datetime) -> Ledger:
    """Return the ledger of [since, until); times still to come are the caller's to leave out."""
    gaps = _gaps(since, until)
    silences = _silences(since, until)
    blind = _merged([*silences, *(_stretch(gap, since, until) for gap in gaps if _is_whole(gap))])
    return Ledger(
        since=since,
        until=until,
        markets=_markets(gaps, blind, since, until),
        missing=_missing(gaps, silences, since, until),
        epochs=_epochs(gaps, since, until),
        drift=_drift(since, until),
        blind=_length(blind),
    )


def _gaps(since: datetime, until: datetime) -> list[Gap]:
    rows = Gap.objects.filter(opened_at__lt=until)
    # One whose process ended has no end of its own: the stream's silence goes on from there.
    reaching = Q(healed_at__gt=since) | Q(ending="") | Q(healed_at=None, opened_at__gte=since)
    return list(rows.filter(reaching).order_by("opened_at", "id"))


def _is_whole(gap: Gap) -> bool:
    return gap.kind == Gap.Kind.CONNECTION


def _stretch(gap: Gap, since: datetime, until: datetime) -> Stretch:
    end = gap.healed_at or (until if gap.ending == "" else gap.opened_at)
    return max(gap.opened_at, since), max(min(end, until), max(gap.opened_at, since))


def _silences(since: datetime, until: datetime) -> list[Stretch]:
    rows = Trouble.objects.filter(component=STREAM, since__lt=until)
    found = rows.filter(Q(ended_at=None) | Q(ended_at__gt=since)).order_by("since", "id")
    return [(max(row.since, since), min(row.ended_at or until, until)) for row in found]


def _markets(
    gaps: Sequence[Gap], blind: Sequence[Stretch], since: datetime, until: datetime
) -> tuple[MarketCoverage, ...]:
    own: dict[str, list[Stretch]] = defaultdict(list)
    for gap in gaps:
        if not _is_whole(gap):
            own[gap.subject].append(_stretch(gap, since, until))
    found = []
    quotes = Quote.objects.select_related("market").filter(market__created_at__lt=until)
    for quote in quotes.order_by("market_id").only(
        "at", "market__question", "market__created_at", "market__state"
    ):
        begin, end = _followed(quote, since, until)
        if begin < end:
            found.append(_market(quote, own.get(quote.market_id, ()), blind, begin, end))
    return tuple(sorted(found, key=lambda each: (each.share, each.market_id)))


def _followed(quote: Quote, since: datetime, until: datetime) -> Stretch:
    """Return in what part of a window a market's book was to be known."""
    over = quote.market.state not in Market.UNFINISHED
    return max(quote.market.created_at, since), min(quote.at, until) if over else until


def _market(
    quote: Quote,
    own: Sequence[Stretch],
    blind: Sequence[Stretch],
    begin: datetime,
    end: datetime,
) -> MarketCoverage:
    dark = blind if not own else _merged([*blind, *own])
    return MarketCoverage(
        market_id=quote.market_id,
        question=quote.market.question,
        followed=end - begin,
        missing=_length((max(a, begin), min(b, end)) for a, b in dark),
        breaks=len(own),
    )


def _missing(
    gaps: Sequence[Gap], silences: Sequence[Stretch], since: datetime, until: datetime
) -> tuple[Missing, ...]:
    groups: dict[tuple[str, str], list[Gap]] = defaultdict(list)
    for gap in gaps:
        groups[gap.kind, gap.reason].append(gap)
    found = [_of_reason(key, rows, since, until) for key, rows in groups.items()]
    if silences:
        lengths = [end - begin for begin, end in silences]
        still = sum(end == until for _, end in silences)
        found.append(
            Missing(
                "STREAM", NOT_THERE, len(lengths), 0, sum(lengths, NOTHING), max(lengths), still
            )
        )
    return tuple(sorted(found, key=lambda each: (-each.total, each.kind, each.reason)))


def _of_reason(
    key: tuple[str, str], rows: Sequence[Gap], since: datetime, until: datetime
) -> Missing:
    stretches = [_stretch(row, since, until) for row in rows]
    lengths = [end - begin for begin, end in stretches]
    still = sum(row.ending == "" for row in rows)
    books = max(row.books for row in rows)
    return Missing(*key, len(rows), books, sum(lengths, NOTHING), max(lengths), still)


def _epochs(gaps: Sequence[Gap], since: datetime, until: datetime) -> tuple[Epochs, ...]:
    cuts: dict[str, list[Gap]] = defaultdict(list)
    for gap in gaps:
        if _is_whole(gap):
            cuts[gap.subject].append(gap)
    return tuple(
        Epochs(
            connection=name,
            epochs=len(rows) + 1,
            cut=_length(_merged(_stretch(row, since, until) for row in rows)),
            last_at=rows[-1].opened_at,
        )
        for name, rows in sorted(cuts.items())
    )


def _drift(since: datetime, until: datetime) -> tuple[Drift, ...]:
    rows = Quarantine.objects.filter(
        reason__in=CONTRADICTED, last_at__gte=since, first_at__lt=until
    ).order_by("-count", "id")
    return tuple(Drift(row.subject, row.reason, row.count, row.last_at) for row in rows)


def _merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join what overlaps; in order."""
    joined: list[Stretch] = []
    for begin, end in sorted(stretches):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        elif begin < end:
            joined.append((begin, end))
    return joined


def _length(stretches: Iterable[Stretch]) -> timedelta:
    return sum((max(end - begin, NOTHING) for begin, end in stretches), NOTHING)
