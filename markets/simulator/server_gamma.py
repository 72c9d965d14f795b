"""The catalogue's routes: keyset pages, the old arrays, and single objects."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Literal

from markets.simulator.catalogue import MarketSpec
from markets.simulator.gamma import Json, event_object, market_object
from markets.simulator.server_http import Reply, Request, told
from markets.simulator.shelf import Shelf
from markets.simulator.state import LiveEvent
from markets.simulator.world import World

Kind = Literal["markets", "events"]
Key = tuple[float, int]  # what rows are sorted by: a value, then the id
DEFAULT_LIMIT = 20
LIMIT_MAX: dict[Kind, int] = {"markets": 100, "events": 500}
ARRAY_LIMIT_MAX, OFFSET_MAX = 100, 10_000
LIST_MAX = 100  # values of one repeated parameter
PICKS = ("id", "slug", "condition_ids", "question_ids", "clob_token_ids", "position_ids")
ORDERS = frozenset({"id", "volumeNum", "liquidityNum", "volume24hr", "startDate", "endDate",
                    "createdAt"})  # fmt: skip
# Query parameter to (field, is it the least).
RANGES = {
    f"{name}_{end}": (field, end == "min")
    for name, field in (
        ("volume_num", "volumeNum"), ("liquidity_num", "liquidityNum"), ("volume", "volume"),
        ("liquidity", "liquidity"), ("end_date", "endDate"), ("start_date", "startDate"),
    )
    for end in ("min", "max")
}  # fmt: skip
KEPT_SECONDS = 30  # a sorted listing stays as it was while somebody pages through it


class BadQuery(Exception):
    """The question cannot be answered; carries the reply."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.reply = told({"type": "validation error", "error": text}, 422)


@dataclass(frozen=True, slots=True)
class Row:
    """One listed thing: `number` is its id, `make` gives the object as of now."""

    number: int
    closed: bool
    version: str
    make: Callable[[], Json]


@dataclass(frozen=True, slots=True)
class Question:
    """What a listing was asked for. `picks` are ids, slugs and so on, by parameter."""

    kind: Kind
    limit: int
    closed: bool
    versions: frozenset[str]
    picks: dict[str, tuple[str, ...]]
    ranges: tuple[tuple[str, float], ...]
    tag: str | None
    order: str
    ascending: bool

    @property
    def signature(self) -> str:
        """Tell apart the questions that must not share a cursor."""
        parts = (self.kind, self.closed, sorted(self.versions), sorted(self.picks.items()),
                 self.ranges, self.tag, self.order, self.ascending)  # fmt: skip
        return repr(parts)

    @property
    def plain(self) -> bool:
        """Whether rows come by id and need not be looked into."""
        return self.order == "id" and self.ascending and not self.ranges and self.tag is None


def _question(kind: Kind, request: Request, *, limit_max: int) -> Question:
    picks = {name: tuple(request.query[name]) for name in PICKS if name in request.query}
    if any(len(values) > LIST_MAX for values in picks.values()):
        raise BadQuery(f"at most {LIST_MAX} values")
    order = request.first("order") or "id"
    if order not in ORDERS:
        raise BadQuery("order fields are not valid")
    versions = frozenset(request.query.get("version", ["v1"]))
    if not versions <= {"v1", "v2"}:
        raise BadQuery("version is not valid")
    return Question(
        kind=kind,
        limit=min(_count(request, "limit", DEFAULT_LIMIT), limit_max),
        closed=request.first("closed") == "true",
        versions=versions,
        picks=picks,
        ranges=tuple(
            (name, _number(values[0])) for name, values in request.query.items() if name in RANGES
        ),
        tag=request.first("tag_id"),
        order=order,
        ascending=request.first("ascending") != "false",
    )


def _count(request: Request, name: str, default: int) -> int:
    text = request.first(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise BadQuery(f"{name} must be a number")
    return int(text)


class Gamma:
    """Answers for the catalogue of a world and the shelf beside it."""

    def __init__(self, world: World, shelf: Shelf) -> None:
        self._world = world
        self._shelf = shelf
        self._sorted: dict[str, tuple[int, list[tuple[Key, Row]]]] = {}

    def answer(self, request: Request) -> Reply | None:
        """Answer a catalogue request; None: not one."""
        parts = request.path.strip("/").split("/")
        kind: Kind = "events" if parts[0] == "events" else "markets"
        try:
            match parts:
                case ["tags"]:
                    return told(self._tags())
                case ["markets" | "events"]:
                    return self._array(kind, request)
                case ["markets" | "events", "keyset"]:
                    return self._page(kind, request)
                case ["markets" | "events", "slug", slug]:
                    return self._single(self._picked(kind, "slug", slug))
                case ["markets" | "events", number] if number.isdecimal():
                    return self._single(self._picked(kind, "id", number))
        except BadQuery as bad:
            return bad.reply
        return None

    def _page(self, kind: Kind, request: Request) -> Reply:
        if "offset" in request.query:
            raise BadQuery("offset is not supported, use after_cursor")
        question = _question(kind, request, limit_max=LIMIT_MAX[kind])
        after = _opened(request.first("after_cursor"), question)
        found = list(islice(self._after(question, after), question.limit + 1))
        page: Json = {kind: [row.make() for _, row in found[: question.limit]]}
        if len(found) > question.limit:
            page["next_cursor"] = _sealed(found[question.limit - 1][0], question)
        return told(page)

    def _array(self, kind: Kind, request: Request) -> Reply:
        question = _question(kind, request, limit_max=ARRAY_LIMIT_MAX)
        offset = _count(request, "offset", 0)
        if offset > OFFSET_MAX:
            raise BadQuery(f"offset must be at most {OFFSET_MAX}")
        rows = islice(self._after(question, None), offset, offset + question.limit)
        return told([row.make() for _, row in rows])

    def _single(self, rows: list[Row]) -> Reply:
        if not rows:
            return told({"type": "not found error", "error": "id not found"}, 404)
        return told(rows[0].make())

    def _tags(self) -> list[object]:
        tags: dict[object, object] = {}
        for event in self._world.stage.events.values():
            listed = event_object(event, now=self._world.now)["tags"]
            tags |= {tag["id"]: tag for tag in listed} if isinstance(listed, list) else {}
        return list(tags.values())[:LIST_MAX]

    # --- walking ----------------------------------------------------------

    def _after(self, question: Question, after: Key | None) -> Iterator[tuple[Key, Row]]:
        """Yield the rows beyond a sort key, each with its own."""
        if question.plain:
            for row in self._matching(question, after[1] + 1 if after else 0):
                yield (0.0, row.number), row
            return
        for key, row in self._ordered(question):
            if after is None or (key > after if question.ascending else key < after):
                yield key, row

    def _matching(self, question: Question, least: int = 0) -> Iterator[Row]:
        rows = self._chosen(question) if question.picks else self._all(question.kind, least)
        for row in rows:
            open_or_not = row.closed == question.closed
            if row.number >= least and open_or_not and row.version in question.versions:
                yield row

    def _ordered(self, question: Question) -> list[tuple[Key, Row]]:
        now = self._world.now // 10**9
        name = f"{self._shelf.revision}:{question.signature}"
        kept = self._sorted.get(name)
        if kept and now - kept[0] < KEPT_SECONDS:
            return kept[1]
        made = ((row, row.make()) for row in self._matching(question))
        keyed = [
            ((_value(obj, question.order), row.number), row)
            for row, obj in made
            if _fits(obj, question)
        ]
        keyed.sort(key=lambda pair: pair[0], reverse=not question.ascending)
        self._sorted = {name: (now, keyed)}
        return keyed

    def _chosen(self, question: Question) -> list[Row]:
        """Look up what was asked for by name: everything that fits any value of each list."""
        found: dict[int, Row] | None = None
        for name, values in question.picks.items():
            rows = {row.number: row for value in values
                    for row in self._picked(question.kind, name, value)}  # fmt: skip
            found = rows if found is None else {n: rows[n] for n in found if n in rows}
        return [row for _, row in sorted((found or {}).items())]

    # --- rows -------------------------------------------------------------

    def _all(self, kind: Kind, least: int) -> Iterator[Row]:
        yield from sorted(self._live(kind), key=lambda row: row.number)
        yield from self._shelved(kind, least)

    def _live(self, kind: Kind) -> Iterator[Row]:
        stage = self._world.stage
        for event in (*stage.over.values(), *stage.events.values()):
            if kind == "events":
                yield self._event_row(event)
            else:
                for market in event.spec.markets:
                    yield self._market_row(event, market)

    def _event_row(self, event: LiveEvent) -> Row:
        make = partial(_event_now, self._world, event)
        return Row(int(event.spec.event_id), event.resolved, "v1", make)

    def _market_row(self, event: LiveEvent, market: MarketSpec) -> Row:
        make = partial(_market_now, self._world, event, market)
        return Row(int(market.market_id), market.settled or event.resolved, "v1", make)

    def _shelved(self, kind: Kind, least: int) -> Iterator[Row]:
        shelf = self._shelf
        id_of = shelf.market_id if kind == "markets" else shelf.event_id
        step = id_of(1) - id_of(0)
        first = max(0, -(-(least - id_of(0)) // step))
        for at in range(first, shelf.count if kind == "markets" else shelf.event_count):
            yield self._shelf_row(kind, at)

    def _shelf_row(self, kind: Kind, at: int) -> Row:
        shelf = self._shelf
        if kind == "markets":
            version = "v2" if shelf.is_v2(at) else "v1"
            return Row(shelf.market_id(at), shelf.closed(at), version, partial(shelf.market, at))
        version = "v2" if shelf.is_v2(shelf.legs(at)[0]) else "v1"
        return Row(shelf.event_id(at), shelf.event_closed(at), version, partial(shelf.event, at))

    def _picked(self, kind: Kind, name: str, value: str) -> list[Row]:
        """Find what has a certain id, slug, condition or token."""
        found = [row for row, names in self._named(kind) if value in names.get(name, ())]
        at = self._on_shelf(kind, name, value)
        return found + ([] if at is None else [self._shelf_row(kind, at)])

    def _named(self, kind: Kind) -> Iterator[tuple[Row, dict[str, Iterable[str]]]]:
        stage = self._world.stage
        for event in (*stage.over.values(), *stage.events.values()):
            if kind == "events":
                names: dict[str, Iterable[str]] = {
                    "id": (event.spec.event_id,),
                    "slug": (event.spec.slug,),
                }
                yield self._event_row(event), names
                continue
            for spec in event.spec.markets:
                yield self._market_row(event, spec), {
                    "id": (spec.market_id,), "slug": (spec.slug,),
                    "condition_ids": (spec.condition_id,), "question_ids": (spec.question_id,),
                    "clob_token_ids": spec.token_ids,
                }  # fmt: skip

    def _on_shelf(self, kind: Kind, name: str, value: str) -> int | None:
        shelf = self._shelf
        if name == "id" and (not value.isdecimal() or len(value) > 18):
            return None
        if kind == "events":
            by_id = shelf.by_event_id(int(value)) if name == "id" else None
            return shelf.by_event_slug(value) if name == "slug" else by_id
        match name:
            case "id":
                return shelf.by_market_id(int(value))
            case "slug":
                return shelf.by_slug(value)
            case "condition_ids":
                return shelf.by_condition(value)
            case "clob_token_ids" | "position_ids":
                place = shelf.by_token(value)
                fits = place and shelf.is_v2(place[0]) == (name == "position_ids")
                return place[0] if place and fits else None
        return None


def _event_now(world: World, event: LiveEvent) -> Json:
    return event_object(event, now=world.now)


def _market_now(world: World, event: LiveEvent, market: MarketSpec) -> Json:
    return market_object(event, market, now=world.now)


# --- filters and cursors ---------------------------------------------------


def _number(value: object) -> float:
    """Read a number or a date; dates as unix seconds. Raises BadQuery."""
    text = str(value)
    try:
        if text.count("-") == 2:
            return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        return float(text)
    except ValueError:
        raise BadQuery(f"{text[:50]!r} is neither a number nor a date") from None


def _value(obj: Json, field: str) -> float:
    return _number(obj.get(field) or 0)


def _fits(obj: Json, question: Question) -> bool:
    """Hold an object against the ranges and the tag that were asked for."""
    if question.tag is not None and question.tag not in _tag_ids(obj):
        return False
    return all(_within(obj, *RANGES[name], bound) for name, bound in question.ranges)


def _within(obj: Json, field: str, is_least: bool, bound: float) -> bool:
    if obj.get(field) is None:
        return False
    value = _value(obj, field)
    return value >= bound if is_least else value <= bound


def _tag_ids(obj: Json) -> set[object]:
    """Collect the tags of an event, or of the events a market names."""
    heads = obj.get("events", [obj])
    tags = [head.get("tags") for head in heads] if isinstance(heads, list) else []
    return {tag["id"] for listed in tags if listed for tag in listed}


def _sealed(key: Key, question: Question) -> str:
    """Write a cursor: where to go on, bound to what was asked."""
    text = json.dumps([*key, question.signature])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _opened(cursor: str | None, question: Question) -> Key | None:
    """Read a cursor. Raises BadQuery when it is not one of ours or belongs to other filters."""
    if not cursor:
        return None
    try:
        value, number, signature = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, binascii.Error):
        raise BadQuery("after_cursor is not valid") from None
    if signature != question.signature:
        raise BadQuery("after_cursor belongs to another query")
    return float(value), int(number)
