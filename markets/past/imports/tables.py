"""Loaders of CSV files: quotes with and without sizes, prices, two sides, snapshots, trades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from markets.book import NO_ASK, NO_BID
from markets.fills import PRICE_ONE
from markets.past.columns import Price
from markets.past.imports.reading import (
    BadCell,
    Loaded,
    fraction_of,
    moment_of,
    price_of,
    side_of,
    size_of,
    table,
)
from markets.past.listed import ListedEvent, ListedMarket, made_ids
from markets.past.tops import TENTH, Top
from markets.past.value import NotAPast

Row = dict[str, str]
Load = Callable[[Path], Loaded]
SECOND_OUTCOMES = frozenset({"1", "no", "down", "false"})
FIRST_OUTCOMES = frozenset({"", "0", "yes", "up", "true"})
WORST_BID, WORST_ASK = 100, 9_900  # 1e-4 USD: what stands at the far end of most books
WORST_SHARE = 0.9  # of a file's rows; no market is quoted like this for most of its life
NEAR = 200  # 1e-4 USD: a last price may lie this far outside the quote


@dataclass(frozen=True, slots=True)
class Names:
    """What a file says of its markets besides prices, by market id."""

    questions: dict[str, str] = field(default_factory=dict)
    events: dict[str, str] = field(default_factory=dict)
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)  # fields of `ListedMarket`
    neg_risk: set[str] = field(default_factory=set)  # events


def finish(loaded: Loaded, names: Names | None = None) -> Loaded:
    """Put rows in the order of their time and list the markets that they are of."""
    told = names or Names()
    loaded.rows.sort(key=lambda row: row.t)
    firsts: dict[str, int] = {}
    for row in loaded.rows:
        firsts.setdefault(row.market_id, row.t)
    groups: dict[str, list[str]] = {}
    for market_id in firsts:
        groups.setdefault(told.events.get(market_id) or market_id, []).append(market_id)
    for event_id, members in groups.items():
        markets = tuple(_market(each, told) for each in members)
        title = told.questions.get(members[0]) or event_id
        event = ListedEvent(event_id, title, markets, neg_risk=event_id in told.neg_risk)
        loaded.pages.append((min(firsts[each] for each in members), event))
    loaded.pages.sort(key=lambda page: page[0])
    return loaded


def _market(market_id: str, told: Names) -> ListedMarket:
    # Where a file has no fee it is unknown, and no order is called executable for want of one.
    terms = {"tick": 10, "fee": None} | told.terms.get(market_id, {})
    question = told.questions.get(market_id) or market_id
    return ListedMarket(market_id, question, made_ids(market_id), **terms)


def _quote(t: int, market_id: str, bid: int, ask: int) -> Price:
    if bid == NO_BID or ask == NO_ASK:
        raise BadCell("bid" if bid == NO_BID else "ask", "is empty")
    not_crossed(bid, ask)
    return Price(t, market_id, bid, ask)


def not_crossed(bid: int, ask: int) -> None:
    if bid >= ask:
        raise BadCell("bid", "is not below the ask (crossed)")


def _name(text: str, column: str) -> str:
    if not text or len(text) > 80 or not text.isprintable():
        raise BadCell(column, "is no id")
    return text


# --- one's own history ----------------------------------------------------------------------


def quotes(path: Path) -> Loaded:
    """Load the product's own CSV of quotes with sizes."""
    loaded, names = Loaded(path, "quotes", "tops"), Names()
    for line, row in table(path):
        with loaded.row(line):
            loaded.rows.append(_own_quote(row, names))
    return finish(loaded, names)


def _own_quote(row: Row, names: Names) -> Top:
    t, market_id = moment_of(row["ts"], "ts"), _name(row["market_id"], "market_id")
    bid = side_of(row["bid"], "bid", empty=NO_BID)
    ask = side_of(row["ask"], "ask", empty=NO_ASK)
    sizes = [size_of(row["bid_size"], "bid_size"), size_of(row["ask_size"], "ask_size")]
    not_crossed(bid, ask)
    outcome = row.get("outcome", "").strip().lower()
    if outcome in SECOND_OUTCOMES:
        bid, ask, sizes = PRICE_ONE - ask, PRICE_ONE - bid, sizes[::-1]
    elif outcome not in FIRST_OUTCOMES:
        raise BadCell("outcome", "is neither 0, yes, 1 nor no")
    if (bid != NO_BID and not sizes[0]) or (ask != NO_ASK and not sizes[1]):
        raise BadCell("bid_size" if not sizes[0] else "ask_size", "is nothing, with a price")
    if market_id not in names.terms:
        _remember(market_id, row, names)
    return Top(t, market_id, bid, ask, *sizes)


def _remember(market_id: str, row: Row, names: Names) -> None:
    """Take over what the first row of a market says of its terms."""
    names.questions[market_id], names.events[market_id] = row.get("question", ""), ""
    terms: dict[str, Any] = {}
    if rate := row.get("fee_rate", ""):
        terms["fee"] = (f"{fraction_of(rate, 'fee_rate'):f}", 1)
    if tick := row.get("tick_size", ""):
        terms["tick"] = price_of(tick, "tick_size")
    if least := row.get("min_size", ""):
        terms["min_size"] = size_of(least, "min_size")
    names.terms[market_id] = terms
    if event_id := row.get("event_id", ""):
        names.events[market_id] = _name(event_id, "event_id")
        if row.get("neg_risk", "").strip().lower() in ("1", "true", "yes"):
            names.neg_risk.add(event_id)


# --- public formats -------------------------------------------------------------------------


def bare_quotes(path: Path) -> Loaded:
    """Load quotes without sizes: ts, slug, bid, ask."""
    loaded, names = Loaded(path, "bare-quotes", "prices"), Names()
    for line, row in table(path):
        with loaded.row(line):
            bid = side_of(row["bid"], "bid", empty=NO_BID)
            ask = side_of(row["ask"], "ask", empty=NO_ASK)
            slug = _name(row["slug"], "slug")
            loaded.rows.append(_quote(moment_of(row["ts"], "ts"), slug, bid, ask))
            names.events[slug] = slug.rpartition("-")[0]
    return finish(loaded, names)


def price_rows(path: Path) -> Loaded:
    """Load prices of both outcomes: timestamp, market_id, yes_price, no_price."""
    loaded = Loaded(path, "price-rows", "prices")
    for line, row in table(path):
        with loaded.row(line):
            market_id = _name(row["market_id"], "market_id")
            yes, no = (price_of(row[name], name) for name in ("yes_price", "no_price"))
            if abs(yes + no - PRICE_ONE) > NEAR:
                raise BadCell("no_price", "and yes_price are not 1 USD together")
            loaded.rows.append(around(moment_of(row["timestamp"], "timestamp"), market_id, yes))
    return finish(loaded)


def around(t: int, market_id: str, price: int) -> Price:
    """Return a price as the middle of a quote a tenth of a cent to each side."""
    return Price(t, market_id, max(price - TENTH, 1), min(price + TENTH, PRICE_ONE - 1))


@dataclass(frozen=True, slots=True)
class SideQuote:
    """A quote of one outcome, recorded for itself; prices in 1e-4 USD, `t` in unix ns."""

    line: int
    t: int
    market_id: str
    second: bool
    bid: int
    ask: int


def side_quotes(path: Path, loaded: Loaded) -> list[SideQuote]:
    """Read quotes of both outcomes in millionths of a USD: timestamp_ms, market_ts, side, ..."""
    found = []
    for line, row in table(path):
        with loaded.row(line):
            side = row["side"].strip().lower()
            if side not in SECOND_OUTCOMES | FIRST_OUTCOMES:
                raise BadCell("side", "is neither yes, up, no nor down")
            bid, ask = (_millionths(row[name], name) for name in ("bid", "ask"))
            t = moment_of(row["timestamp_ms"], "timestamp_ms")
            market_id = _name(row["market_ts"], "market_ts")
            found.append(SideQuote(line, t, market_id, side in SECOND_OUTCOMES, bid, ask))
    worst = sum(each.bid <= WORST_BID and each.ask >= WORST_ASK for each in found)
    if found and worst > WORST_SHARE * len(found):
        raise NotAPast(
            f"its recorder wrote the worst level of each side, not the best: {worst} of "
            f"{len(found)} rows are 0.01 to 0.99 (columns bid, ask)",
            str(path),
        )
    return sorted(found, key=lambda each: (each.market_id, each.t))


def _millionths(text: str, column: str) -> int:
    return price_of(f"{Decimal(text) / 1_000_000}" if text.isdigit() else text, column)


def both_sides(path: Path) -> Loaded:
    """Load two sides recorded apart: the newest of each must be each other's mirror."""
    loaded = Loaded(path, "both-sides", "prices")
    newest: dict[tuple[str, bool], SideQuote] = {}
    for quote in side_quotes(path, loaded):
        newest[quote.market_id, quote.second] = quote
        other = newest.get((quote.market_id, not quote.second))
        if other is None:
            continue  # nothing to hold it against yet
        if (quote.bid, quote.ask) != (PRICE_ONE - other.ask, PRICE_ONE - other.bid):
            loaded.refuse(quote.line, "bid", "is not the mirror of the other side's quote")
            continue
        yes = other if quote.second else quote
        try:
            loaded.rows.append(_quote(quote.t, quote.market_id, yes.bid, yes.ask))
        except BadCell as error:
            loaded.refuse(quote.line, error.column, error.why)
    return finish(loaded)


def snapshots(path: Path) -> Loaded:
    """Load snapshots of prices with quotes; the last price must be near the quote."""
    loaded = Loaded(path, "snapshots", "prices")
    for line, row in table(path):
        with loaded.row(line):
            bid = side_of(row["best_bid"], "best_bid", empty=NO_BID)
            ask = side_of(row["best_ask"], "best_ask", empty=NO_ASK)
            price = round(Decimal(row["yes_price"] or "0") * PRICE_ONE)
            quote = _quote(
                moment_of(row["snapshot_time"], "snapshot_time"),
                _name(row["market_id"], "market_id"),
                bid,
                ask,
            )
            if not bid - NEAR <= price <= ask + NEAR:
                raise BadCell("yes_price", "is far outside the quote of the same row")
            loaded.rows.append(quote)
    return finish(loaded)


def trades(path: Path) -> Loaded:
    """Load fills of the data API: the price of each is a price, and nobody's offer."""
    loaded, names = Loaded(path, "trades", "prices"), Names()
    for line, row in table(path):
        with loaded.row(line):
            if row["type"] != "TRADE":
                raise BadCell("type", "is no trade")
            price = price_of(row["price"], "price")
            if row["outcomeIndex"] not in ("0", "1"):
                raise BadCell("outcomeIndex", "is neither 0 nor 1")
            yes = PRICE_ONE - price if row["outcomeIndex"] == "1" else price
            market_id = _name(row["conditionId"], "conditionId")
            names.questions[market_id], names.events[market_id] = row["title"], row["eventSlug"]
            loaded.rows.append(around(moment_of(row["timestamp"], "timestamp"), market_id, yes))
    return finish(loaded, names)


def price_changes(path: Path) -> Loaded:
    """Load entries of `price_change` messages: the touch, once the size behind it was told.

    The touch is that of each entry; its size is what an entry said of that price last.
    """
    loaded = Loaded(path, "price-changes", "tops")
    sizes: dict[tuple[str, str, int], int] = {}
    last: dict[str, tuple[int, ...]] = {}
    clock = 0
    for line, row in table(path):
        with loaded.row(line):
            if row["type"] != "P":
                continue  # a trade says nothing of the book
            clock = max(clock, moment_of(row["ts_ms"], "ts_ms"))  # as received: never backwards
            token = _name(row["token"], "token")
            buys = "BUY" if row["side"] == "BUY" else "SELL"
            sizes[token, buys, price_of(row["price"], "price")] = size_of(row["size"], "size")
            bid = side_of(row["best_bid"], "best_bid", empty=NO_BID)
            ask = side_of(row["best_ask"], "best_ask", empty=NO_ASK)
            not_crossed(bid, ask)
            behind = sizes.get((token, "BUY", bid), 0), sizes.get((token, "SELL", ask), 0)
            if not all(behind):
                raise BadCell("size", "of the touch was not told yet")
            if last.get(token) != (bid, ask, *behind):
                last[token] = (bid, ask, *behind)
                loaded.rows.append(Top(clock, token, bid, ask, *behind))
    return finish(loaded)


def assumed(loaded: Loaded, *, size: int | None, fee_rate: Decimal | None) -> Loaded:
    """Take quotes as good for so many 1e-6 shares, and markets as of a fee: said in the name."""
    if size is not None and loaded.kind == "prices":
        loaded.rows = [Top(*row[:4], size, size) for row in loaded.rows]
        loaded.kind = "tops"
        loaded.notes.append(f"sizes are assumed: {size / 1_000_000:g} shares at each quote")
    if fee_rate is not None:
        fee = (f"{fee_rate:f}", 1)
        loaded.pages = [(t, _with_fee(event, fee)) for t, event in loaded.pages]
        loaded.notes.append(f"the fee rate is assumed where it is not told: {fee_rate:f}")
    return loaded


def _with_fee(event: ListedEvent, fee: tuple[str, int]) -> ListedEvent:
    markets = (each if each.fee else replace(each, fee=fee) for each in event.markets)
    return replace(event, markets=tuple(markets))


def joined(parts: Sequence[Loaded]) -> Loaded:
    """Return files of one format as one; of two rows of a market at one time the later file's."""
    first = parts[0]
    if len(parts) == 1:
        return first
    rows: dict[tuple[str, int], Top | Price] = {}
    for part in parts:
        rows.update(((row.market_id, row.t), row) for row in part.rows)
    pages = {(t, event.event_id): (t, event) for part in parts for t, event in part.pages}
    return Loaded(
        first.path,
        first.format,
        first.kind,
        read=sum(part.read for part in parts),
        rows=sorted(rows.values(), key=lambda row: row.t),
        pages=sorted(pages.values(), key=lambda page: page[0]),
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
    )
