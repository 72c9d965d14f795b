"""One moment of the venue from files: events and markets with their books (pure).

Gamma objects say what is traded, CLOB books at which prices. Whatever does not fit
is named as a `DataProblem` and marks the market it is about; the rest goes on.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from markets.fills import PRICE_ONE, Ladder, mirrored
from markets.listing import EventTerms, MarketTerms
from rules.data_quality import DataProblem
from rules.kernel.baskets import missing_legs, yes_payout
from rules.kernel.finding import EventView, MarketView
from rules.snapshot_books import ReadBook, read_books
from rules.snapshot_listing import Listing, read_listing

GZIP_MAGIC = b"\x1f\x8b"


class UnreadableFile(Exception):
    """A file that is not JSON; line and column count from 1, None where there is no place."""

    def __init__(self, name: str, reason: str, *, place: tuple[int, int] | None = None) -> None:
        where = f"{name}:{place[0]}:{place[1]}" if place else name
        super().__init__(f"{where}: {reason}")
        self.name = name
        self.reason = reason
        self.place = place


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that can be looked at. `books_used` counts books that belong to a listed market."""

    events: tuple[EventView, ...]
    singles: tuple[MarketView, ...]
    problems: tuple[DataProblem, ...]
    newest_at: datetime | None
    books_used: int

    def markets(self) -> dict[str, MarketView]:
        """Return every market by its id."""
        views = [*self.singles, *(view for event in self.events for view in event.markets)]
        return {view.terms.market_id: view for view in views}


def read_json(name: str, raw: bytes) -> object:
    """Return what a file says, plain or gzipped; numbers stay the text they are written in.

    Raises `UnreadableFile`.
    """
    try:
        plain = gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
        text = plain.decode("utf-8-sig")
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise UnreadableFile(name, error.msg, place=(error.lineno, error.colno)) from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        place = (before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise UnreadableFile(name, "not UTF-8 text", place=place) from None
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(name, f"damaged gzip data: {error}") from None
    except RecursionError:
        raise UnreadableFile(name, "nested too deeply") from None


def read_snapshot(*, gamma: Iterable[object], books: Iterable[object]) -> Snapshot:
    """Join Gamma pages and CLOB books, both as returned by `read_json`."""
    listing = read_listing(gamma)
    held, book_problems = read_books(books)
    owners = _owners(listing)
    problems = [*listing.problems, *(_placed(problem, owners) for problem in book_problems)]
    problems += _strangers(held, owners)
    events = tuple(_event_view(event, held, problems) for event in listing.events)
    singles = tuple(_single_view(terms, held, problems) for terms in listing.singles)
    times = [book.at_ms for book in held.values() if book.at_ms is not None]
    return Snapshot(
        events=events,
        singles=singles,
        problems=tuple(sorted(set(problems), key=lambda problem: problem.order)),
        newest_at=_at(max(times)) if times else None,
        books_used=sum(1 for t, book in held.items() if t in owners and (book.asks or book.bids)),
    )


def _at(unix_ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(unix_ms / 1000, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _owners(listing: Listing) -> dict[str, MarketTerms]:
    markets = [*listing.singles, *(market for event in listing.events for market in event.markets)]
    return {token: market for market in markets for token in market.token_ids}


def _placed(problem: DataProblem, owners: Mapping[str, MarketTerms]) -> DataProblem:
    market = owners.get(problem.token_id or "")
    if market is None:
        return problem
    return replace(problem, event_id=market.event_id, market_id=market.market_id)


def _strangers(
    held: Mapping[str, ReadBook], owners: Mapping[str, MarketTerms]
) -> Iterator[DataProblem]:
    for token_id in held:
        if token_id not in owners:
            yield DataProblem("unknown_token", "no given market has it", token_id=token_id)


# --- markets with their books --------------------------------------------------------


def _event_view(
    event: EventTerms, held: Mapping[str, ReadBook], problems: list[DataProblem]
) -> EventView:
    legs = [(market, _books_of(market, held)) for market in event.markets]
    if not event.neg_risk:
        views = tuple(_market_view(market, books, problems) for market, books in legs)
        return EventView(replace(event, markets=tuple(view.terms for view in views)), views)
    problems += _event_problems(event, any(books for _, books in legs))
    views = tuple(
        _market_view(market, books, problems) if books else _bookless(market, problems)
        for market, books in legs
    )
    return EventView(replace(event, markets=tuple(view.terms for view in views)), views)


def _event_problems(event: EventTerms, priced: bool) -> Iterator[DataProblem]:
    if event.augmented:
        detail = "outcomes may be added: the listed ones are not exhaustive"
        yield DataProblem("augmented", detail, event_id=event.event_id)
    if not event.complete:
        detail = "the event object is not given in full: its list of legs is not known"
        yield DataProblem("missing_leg", detail, event_id=event.event_id or None)
    gaps = missing_legs(event)
    if gaps:
        detail = f"leg numbers {', '.join(map(str, gaps))} are not listed"
        yield DataProblem("missing_leg", detail, event_id=event.event_id or None)
    ids = {market.neg_risk_id for market in event.markets}
    if len(ids) > 1:
        detail = "its markets do not share one negRiskMarketID"
        yield DataProblem("metadata_conflict", detail, event_id=event.event_id or None)


def _bookless(terms: MarketTerms, problems: list[DataProblem]) -> MarketView:
    if terms.untradable is None:
        problems.append(_about(terms, "missing_leg", "no book is given for it"))
    elif terms.payout is None:
        problems.append(_about(terms, "not_tradable", terms.untradable))
    return MarketView(terms, ((), ()), () if yes_payout(terms) == 0 else ("missing_leg",))


def _single_view(
    terms: MarketTerms, held: Mapping[str, ReadBook], problems: list[DataProblem]
) -> MarketView:
    return _market_view(terms, _books_of(terms, held), problems)


def _books_of(terms: MarketTerms, held: Mapping[str, ReadBook]) -> list[tuple[int, ReadBook]]:
    """Return the given books of a market with the outcome each is of."""
    return [(i, held[token]) for i, token in enumerate(terms.token_ids) if token in held]


def _market_view(
    terms: MarketTerms, books: list[tuple[int, ReadBook]], problems: list[DataProblem]
) -> MarketView:
    if not books:
        problems.append(_about(terms, "no_book", terms.untradable or "no book is given for it"))
        return MarketView(terms, ((), ()))
    if terms.untradable is not None:
        problems.append(_about(terms, "not_tradable", terms.untradable))
    elif terms.fee is None:
        problems.append(_about(terms, "unknown_fee", "fees are on and no schedule is given"))
    found = [*_conflicts(terms, books)]
    asks, distrust = _joined_asks(books)
    found += (_about(terms, code, detail) for code, detail in distrust)
    if terms.untradable is None and not (asks[0] and asks[1]):
        found.append(_one_sided(terms, asks))
    problems += found
    blocking = {problem.problem for problem in found} - {"one_sided", "empty_book"}
    if not _contradicts(terms, books):
        blocking.discard("metadata_conflict")
    return MarketView(_strictest(terms, books), asks, tuple(sorted(blocking)))


def _about(terms: MarketTerms, code: str, detail: str, token: str | None = None) -> DataProblem:
    return DataProblem(code, detail, terms.event_id or None, terms.market_id, token)


def _joined_asks(
    books: list[tuple[int, ReadBook]],
) -> tuple[tuple[Ladder, Ladder], list[tuple[str, str]]]:
    """Return what can be bought of each outcome, and why that is not to be trusted.

    One book is both: outcome 1 is offered at 1 - bid. Where both books are given
    and only one could be read whole, that one counts.
    """
    whole = [pair for pair in books if pair[1].whole]
    if len(books) == 2 and len(whole) == 1:
        books = whole
    outcome, book = books[0]
    asks = _both_asks(outcome, book)
    distrust = []
    if any(each.bids and each.asks and each.bids[0][0] >= each.asks[0][0] for _, each in books):
        distrust.append(("crossed", "a bid is at or above an ask"))
    if len(books) == 2 and _both_asks(*books[1]) != asks:
        distrust.append(("incoherent_pair", _difference(asks, _both_asks(*books[1]))))
        asks = (books[0][1].asks, books[1][1].asks)
    return asks, distrust


def _both_asks(outcome: int, book: ReadBook) -> tuple[Ladder, Ladder]:
    other = mirrored(book.bids)
    return (book.asks, other) if outcome == 0 else (other, book.asks)


def _difference(first: tuple[Ladder, Ladder], second: tuple[Ladder, Ladder]) -> str:
    for outcome in (0, 1):
        for level, other in zip(first[outcome], second[outcome], strict=False):
            if level != other:
                return f"outcome {outcome} is offered at {_text(level)} or at {_text(other)}"
    return "one book has levels that the other lacks"


def _text(level: tuple[int, int]) -> str:
    return f"{level[0] / PRICE_ONE:.4f} x {level[1] / 1e6:.2f}"


def _one_sided(terms: MarketTerms, asks: tuple[Ladder, Ladder]) -> DataProblem:
    if not asks[0] and not asks[1]:
        return _about(terms, "empty_book", "no bid and no ask")
    missing = 0 if not asks[0] else 1
    detail = f"nothing is offered of {terms.outcomes[missing]!r}"
    return _about(terms, "one_sided", detail, terms.token_ids[missing])


def _conflicts(terms: MarketTerms, books: list[tuple[int, ReadBook]]) -> Iterator[DataProblem]:
    """Name where a book states other terms than Gamma does."""
    for outcome, book in books:
        pairs = (
            ("market", book.condition_id, terms.condition_id or None),
            ("neg_risk", book.neg_risk, terms.neg_risk_id is not None),
            ("tick_size", book.tick, terms.tick),
            ("min_order_size", book.min_size, terms.min_size),
        )
        for name, stated, listed in pairs:
            if stated is not None and listed is not None and stated != listed:
                detail = f"{name}: the book says {stated}, Gamma {listed}"
                token = terms.token_ids[outcome]
                yield _about(terms, "metadata_conflict", detail, token)


def _contradicts(terms: MarketTerms, books: list[tuple[int, ReadBook]]) -> bool:
    """Say that a book may be of another market, or of one with other exclusivity."""
    return any(
        (terms.condition_id and book.condition_id not in (None, terms.condition_id))
        or book.neg_risk not in (None, terms.neg_risk_id is not None)
        for _, book in books
    )


def _strictest(terms: MarketTerms, books: list[tuple[int, ReadBook]]) -> MarketTerms:
    """Return the terms with the coarser tick and the larger minimum where the two differ."""
    tick = max([terms.tick, *(book.tick for _, book in books if book.tick)])
    least = max([terms.min_size, *(book.min_size for _, book in books if book.min_size)])
    if (tick, least) == (terms.tick, terms.min_size):
        return terms
    return replace(terms, tick=tick, min_size=least)
