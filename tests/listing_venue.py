"""A venue of which only the catalogue exists, in memory: what it lists, and what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from tests import wire_files as wire

PAGE = 2  # events


def event(number: int, *markets: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return wire.event(markets, **{"id": str(number), "title": f"Event {number}", **changes})


def market(number: int, **changes: Any) -> dict[str, Any]:
    """Return a leg of a neg-risk event; its place there is its last digit."""
    group = f"0x{changes.pop('group', number // 10):062x}"
    place = {"questionID": f"{group}{number % 10:02x}"}
    return wire.market(number, group=group, **{**place, **changes})


def plain(number: int, **changes: Any) -> dict[str, Any]:
    return wire.market(number, neg_risk=False, **changes)


class ListingVenue:
    """Answers as Gamma does. Change `events` between two passes; `extra` is only known by id."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = list(events)
        self.extra: list[dict[str, Any]] = []  # markets
        self.asked: list[tuple[str, bool]] = []  # conditions, and whether among closed ones
        self.fails_after: int | None = None  # pages

    def __getitem__(self, market_id: str) -> dict[str, Any]:
        found: dict[str, Any] = next(each for each in self._markets() if each["id"] == market_id)
        return found

    async def event_pages(self) -> AsyncIterator[bytes]:
        listed = [each for each in self.events if not each["closed"]]
        for number, first in enumerate(range(0, len(listed), PAGE)):
            if number == self.fails_after:
                raise ConnectionError("the listing broke off")
            yield _page("events", listed[first : first + PAGE])

    async def market_pages(self, *, filters: Sequence[tuple[str, str]]) -> AsyncIterator[bytes]:
        assert dict(filters) == {"order": "createdAt", "ascending": "false"}
        newest = sorted(self._markets(), key=lambda each: -int(each["id"]))
        for first in range(0, len(newest), PAGE):
            yield _page("markets", newest[first : first + PAGE])

    async def events_by_id(self, ids: Iterable[str]) -> AsyncIterator[bytes]:
        wanted = set(ids)
        yield _page("events", [each for each in self.events if each["id"] in wanted])

    async def markets_by_condition(
        self, ids: Iterable[str], *, closed: bool
    ) -> AsyncIterator[bytes]:
        wanted = set(ids)
        self.asked += [(each, closed) for each in sorted(wanted)]
        found = [each for each in self._markets() if each["conditionId"] in wanted]
        yield _page("markets", [each for each in found if bool(each.get("closed")) == closed])

    def _markets(self) -> list[dict[str, Any]]:
        inside = [
            {**each, "events": [{**head, "markets": None}]}
            for head in self.events
            for each in head["markets"]
        ]
        return [*inside, *self.extra]


def _page(kind: str, rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({kind: rows}).encode()
