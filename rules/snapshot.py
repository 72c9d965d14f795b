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

from markets.fills import PRICE_ONE, Ladder, mirrored, on_tick, up_to_tick
from markets.listing import EventTerms, MarketTerms
from rules.data_quality import DataProblem
from rules.kernel.baskets import missing_legs
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
    singles = tuple(
        _market_view(terms, _books_of(terms, held), problems, exclusive=False)
        for terms in listing.singles
    )
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
    problems += _event_problems(event)
    if not any(books for _, books in legs):
        if any(market.payout is None for market in event.markets):
            problems.append(_of_event(event, "no_book", f"for none of its {len(legs)} markets"))
        return EventView(event, tuple(map(_unseen, event.markets)))
    views = tuple(
        _market_view(market, books, problems, exclusive=event.neg_risk)
        if books or not event.neg_risk
        else _missing_leg(market, problems)
        for market, books in legs
    )
    return EventView(replace(event, markets=tuple(view.terms for view in views)), views)


def _of_event(event: EventTerms, code: str, detail: str) -> DataProblem:
    if event.event_id:
        return DataProblem(code, detail, event_id=event.event_id)
    group = next((m.neg_risk_id for m in event.markets if m.neg_risk_id), "")
    return DataProblem(code, f"{detail} (negRiskMarketID {group})")


def _event_problems(event: EventTerms) -> Iterator[DataProblem]:
    if not event.neg_risk:
        return
    if event.augmented:
        detail = "outcomes may be added: the listed ones are not exhaustive"
        yield _of_event(event, "augmented", detail)
    if not event.complete:
        detail = "the event object is not given in full: its list of legs is not known"
        yield _of_event(event, "missing_leg", detail)
    gaps = missing_legs(event)
    if gaps:
        detail = f"leg numbers {', '.join(map(str, gaps))} are not listed"
        yield _of_event(event, "missing_leg", detail)
    if len({market.neg_risk_id for market in event.markets}) > 1:
        detail = "its markets do not share one negRiskMarketID"
        yield _of_event(event, "metadata_conflict", detail)


def _unseen(terms: MarketTerms) -> MarketView:
    return MarketView(terms, ((), ()), ("missing_leg",))


def _missing_leg(terms: MarketTerms, problems: list[DataProblem]) -> MarketView:
    problems += _without_book(terms, "missing_leg")
    return _unseen(terms)


def _without_book(terms: MarketTerms, code: str) -> Iterator[DataProblem]:
    """Say why a market has no book, unless it is resolved and needs none."""
    if terms.untradable is None:
        yield _about(terms, code, "no book is given for it")
    elif terms.payout is None:
        yield _about(terms, "not_tradable", terms.untradable)


def _books_of(terms: MarketTerms, held: Mapping[str, ReadBook]) -> list[tuple[int, ReadBook]]:
    """Return the given books of a market with the outcome each is of."""
    return [(i, held[token]) for i, token in enumerate(terms.token_ids) if token in held]


def _market_view(
    terms: MarketTerms,
    books: list[tuple[int, ReadBook]],
    problems: list[DataProblem],
    *,
    exclusive: bool,
) -> MarketView:
    """Join a market with its books. `exclusive`: its event says that it is neg-risk."""
    if not books:
        problems += _without_book(terms, "no_book")
        return MarketView(terms, ((), ()))
    found = [*_forbidden(terms), *_conflicts(terms, books, exclusive)]
    asks, distrust = _joined_asks(books)
    found += (_about(terms, code, detail) for code, detail in distrust)
    terms = _strictest(terms, books)
    asks = _reachable(terms, asks, found)
    if terms.untradable is None and not (asks[0] and asks[1]):
        found.append(_one_sided(terms, asks))
    problems += found
    blocking = [code for code, _ in distrust]
    if _contradicts(terms, books, exclusive):
        blocking.append("metadata_conflict")
    return MarketView(terms, asks, tuple(sorted(blocking)))


def _forbidden(terms: MarketTerms) -> Iterator[DataProblem]:
    if terms.untradable is not None:
        yield _about(terms, "not_tradable", terms.untradable)
    elif terms.fee is None:
        yield _about(terms, "unknown_fee", "fees are on and no schedule is given")


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


def _reachable(
    terms: MarketTerms, asks: tuple[Ladder, Ladder], found: list[DataProblem]
) -> tuple[Ladder, Ladder]:
    """Leave out levels that no limit price on the tick can take, and name any off the tick."""
    off = sum(not on_tick(price, terms.tick) for side in asks for price, _ in side)
    if not off:
        return asks
    detail = f"{off} levels are not on the tick of {terms.tick / PRICE_ONE:g}"
    found.append(_about(terms, "off_tick", detail))
    first, second = (
        tuple(level for level in side if up_to_tick(level[0], terms.tick) < PRICE_ONE)
        for side in asks
    )
    return first, second


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


def _conflicts(
    terms: MarketTerms, books: list[tuple[int, ReadBook]], exclusive: bool
) -> Iterator[DataProblem]:
    """Name where a book states other terms than Gamma does."""
    for outcome, book in books:
        pairs = (
            ("market", book.condition_id, terms.condition_id or None),
            ("neg_risk", book.neg_risk, exclusive or terms.neg_risk_id is not None),
            ("tick_size", book.tick, terms.tick),
            ("min_order_size", book.min_size, terms.min_size),
        )
        for name, stated, listed in pairs:
            if stated is not None and listed is not None and stated != listed:
                detail = f"{name}: the book says {stated}, Gamma {listed}"
                token = terms.token_ids[outcome]
                yield _about(terms, "metadata_conflict", detail, token)


def _contradicts(terms: MarketTerms, books: list[tuple[int, ReadBook]], exclusive: bool) -> bool:
    """Say that a book may be of another market, or of one that excludes no other.

    Other conflicts are harmless: the stricter terms are used.
    """
    return any(
        (terms.condition_id and book.condition_id not in (None, terms.condition_id))
        or (exclusive and book.neg_risk is False)
        for _, book in books
    )


def _strictest(terms: MarketTerms, books: list[tuple[int, ReadBook]]) -> MarketTerms:
    """Return the terms with the coarser tick and the larger minimum where the two differ."""
    tick = max([terms.tick, *(book.tick for _, book in books if book.tick)])
    least = max([terms.min_size, *(book.min_size for _, book in books if book.min_size)])
    if (tick, least) == (terms.tick, terms.min_size):
        return terms
    return replace(terms, tick=tick, min_size=least)
