"""The order books' routes: books one by one and in batches, and what a market trades by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from markets.fills import PRICE_ONE
from markets.simulator.catalogue import MarketSpec
from markets.simulator.gamma import Json
from markets.simulator.ladder import Book
from markets.simulator.server_http import Reply, Request, error, told
from markets.simulator.shelf import Shelf
from markets.simulator.state import LiveEvent, LiveMarket
from markets.simulator.world import World

BATCH_MAX = 500
NO_BOOK = "No orderbook exists for the requested token id"


class _Asked(msgspec.Struct, frozen=True):
    token_id: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What the CLOB says of a market. `winner` None while open, and when `halves`."""

    condition_id: str
    question_id: str
    question: str
    slug: str
    description: str
    token_ids: tuple[str, str]
    outcomes: tuple[str, str]
    prices: tuple[float, float]
    tick: int
    min_size: int
    rate: float
    neg_risk_id: str
    closed: bool
    trades: bool
    end_at: str
    winner: int | None = None
    halves: bool = False
    is_v2: bool = False


class Clob:
    """Answers for the books of a world and the shelf beside it."""

    def __init__(self, world: World, shelf: Shelf) -> None:
        self._world = world
        self._shelf = shelf

    def answer(self, request: Request) -> Reply | None:
        """Answer a CLOB request; None: not one."""
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["ok"]:
                return told("OK")
            case "GET", ["time"]:
                stage = self._world.stage
                return told((stage.now + stage.skew) // 10**9)
            case "GET", ["book"]:
                return self._book(request.first("token_id") or "")
            case "POST", ["books"]:
                return self._books(request.body)
            case "GET", ["tick-size"]:
                return self._tick_size(request.first("token_id") or "")
            case "GET", ["tick-size", token]:
                return self._tick_size(token)
            case "GET", ["clob-markets", condition]:
                return self._terms(condition, compact=True)
            case "GET", ["markets", condition] if condition.startswith("0x"):
                return self._terms(condition, compact=False)
            case "POST", ["order" | "orders"]:
                return error(401, "Unauthorized/Invalid api key")
        return None

    def book(self, token: str) -> tuple[Book, int] | None:
        """Find the book of a token and which outcome it is; None: there is none (yet, any more)."""
        place = self._world.stage.places.get(token)
        if place:
            return place[0].book, place[1]
        on_shelf = self._shelf.by_token(token)
        book = self._shelf.book(on_shelf[0]) if on_shelf else None
        return (book, on_shelf[1]) if on_shelf and book else None

    def book_answers(self, tokens: Sequence[str]) -> list[str]:
        """Write the books of those tokens that have one, as `/book` answers them."""
        found = (self.book(token) for token in dict.fromkeys(tokens))
        return [book.answer(at, book.digest(at)) for book, at in filter(None, found)]

    def _book(self, token: str) -> Reply:
        if not token.isdecimal() or len(token) > 78:
            return error(400, "Invalid token id")
        texts = self.book_answers([token])
        return Reply(200, texts[0].encode()) if texts else error(404, NO_BOOK)

    def _books(self, body: bytes) -> Reply:
        try:
            asked = msgspec.json.decode(body, type=list[_Asked])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return error(400, "Invalid payload")
        if len(asked) > BATCH_MAX:
            return error(400, "Payload exceeds the limit")
        texts = self.book_answers([one.token_id for one in asked])
        return Reply(200, f"[{','.join(texts)}]".encode())

    def _tick_size(self, token: str) -> Reply:
        if not token.isdecimal():
            return error(400, "Invalid token id")
        found = self.book(token)
        if not found:
            return error(404, "market not found")
        return told({"minimum_tick_size": float(found[0].tick_text)})

    def _terms(self, condition: str, *, compact: bool) -> Reply:
        if len(condition) != 66:
            return error(400, "Invalid condition id")
        terms = self._find(condition)
        if terms is None:
            return error(404, "market not found")
        return told(_compact(terms) if compact else _full(terms))

    def _find(self, condition: str) -> Terms | None:
        stage = self._world.stage
        for event in (*stage.events.values(), *stage.over.values()):
            for spec in event.spec.markets:
                if spec.condition_id == condition:
                    legs = (leg for leg in event.legs if leg.spec.market_id == spec.market_id)
                    return _live_terms(event, spec, next(legs, None))
        at = self._shelf.by_condition(condition)
        return None if at is None else _shelf_terms(self._shelf, at)


def _live_terms(event: LiveEvent, spec: MarketSpec, leg: LiveMarket | None) -> Terms:
    closed = spec.settled or event.resolved
    winner = leg.winner if leg else (1 if spec.settled else None)
    halves = event.resolved and leg is not None and winner is None
    mid = (leg.book.best_bid + leg.book.best_ask) / 2 / PRICE_ONE if leg else 0.5
    return Terms(
        condition_id=spec.condition_id, question_id=spec.question_id, question=spec.question,
        slug=spec.slug, description=event.spec.description, token_ids=spec.token_ids,
        outcomes=spec.outcomes, prices=_prices(mid, winner, halves=halves), tick=spec.tick,
        min_size=5, rate=event.rate / PRICE_ONE, neg_risk_id=event.spec.neg_risk_id or "",
        closed=closed, trades=not (closed or event.halted or (leg is not None and leg.paused)),
        end_at=f"{event.spec.end_at:%Y-%m-%dT%H:%M:%SZ}", winner=winner, halves=halves,
    )  # fmt: skip


def _shelf_terms(shelf: Shelf, at: int) -> Terms:
    listed = shelf.market(at, with_event=False)
    book = shelf.book(at)
    mid = (book.best_bid + book.best_ask) / 2 / PRICE_ONE if book else 0.5
    winner = shelf.winner(at)
    return Terms(
        condition_id=shelf.condition_id(at), question_id=str(listed["questionID"]),
        question=shelf.question(at), slug=shelf.slug(at), description=str(listed["description"]),
        token_ids=shelf.token_ids(at), outcomes=shelf.outcomes(at),
        prices=_prices(mid, winner, halves=False), tick=shelf.tick(at),
        min_size=shelf.min_size(at), rate=shelf.rate(at), neg_risk_id=shelf.neg_risk_id(at) or "",
        closed=shelf.closed(at), trades=shelf.trades(at), end_at=str(listed["endDate"]),
        winner=winner, is_v2=shelf.is_v2(at),
    )  # fmt: skip


def _prices(mid: float, winner: int | None, *, halves: bool) -> tuple[float, float]:
    if halves:
        return 0.5, 0.5
    if winner is not None:
        return (0, 1) if winner else (1, 0)
    return round(mid, 4), round(1 - mid, 4)


def _compact(terms: Terms) -> Json:
    """Write the terms as `/clob-markets`: what is false, zero or none is left out."""
    said: Json = {
        "c": terms.condition_id,
        "t": [
            {"t": token, "o": outcome}
            for token, outcome in zip(terms.token_ids, terms.outcomes, strict=True)
        ],
        "mts": terms.tick / PRICE_ONE,
        "mos": terms.min_size,
        "nr": bool(terms.neg_risk_id),
        "fd": {"r": terms.rate, "e": 1, "to": True} if terms.rate else None,
        "mbf": 1000 if terms.rate else 0,
        "tbf": 1000 if terms.rate else 0,
        "ao": terms.trades,
        "cbos": True,
        "v": "v2" if terms.is_v2 else None,
    }
    return {key: value for key, value in said.items() if value}


def _full(terms: Terms) -> Json:
    tokens = [
        {"token_id": token, "outcome": outcome, "price": terms.prices[at],
         "winner": terms.winner == at}
        for at, (token, outcome) in enumerate(zip(terms.token_ids, terms.outcomes, strict=True))
    ]  # fmt: skip
    return {
        "enable_order_book": not terms.closed,
        "active": True,
        "closed": terms.closed,
        "archived": False,
        "accepting_orders": terms.trades,
        "accepting_order_timestamp": None,
        "minimum_order_size": terms.min_size,
        "minimum_tick_size": terms.tick / PRICE_ONE,
        "condition_id": terms.condition_id,
        "question_id": terms.question_id,
        "question": terms.question,
        "description": terms.description,
        "market_slug": terms.slug,
        "end_date_iso": terms.end_at,
        "game_start_time": None,
        "seconds_delay": 0,
        "fpmm": "",
        "maker_base_fee": 0,
        "taker_base_fee": 1000 if terms.rate else 0,
        "notifications_enabled": True,
        "neg_risk": bool(terms.neg_risk_id),
        "neg_risk_market_id": terms.neg_risk_id,
        "rewards": {"rates": None, "min_size": 0, "max_spread": 0},
        "is_50_50_outcome": terms.halves,
        "tokens": tokens,
        "tags": ["All"],
    }
