"""How markets ended in some data, and the same data with other endings (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace as with_fields

from markets.frames import Frame
from markets.listing import BadListing, decode_page, read_page
from rules import house


def endings(frames: Iterable[Frame]) -> tuple[dict[str, int], int]:
    """Return when each market was told as resolved, and how many were quoted after that.

    Those that were resolved when the data begin are left out.
    """
    ends: dict[str, int] = {}
    known: set[str] = set()
    conditions: dict[str, str] = {}
    quoted: set[str] = set()
    for frame in frames:
        if frame.ch == "gamma" and not house.is_ours(frame.req):
            for market_id, condition, over in _resolved(frame.body):
                if over and market_id in known:
                    ends.setdefault(market_id, frame.t)
                    conditions[condition] = market_id
                elif not over:
                    known.add(market_id)
        elif conditions and frame.ch == "ws" and frame.req is None:
            text = frame.body.decode(errors="replace")
            quoted |= {pk for condition, pk in conditions.items() if condition in text}
    return ends, len(quoted)


def _resolved(body: bytes) -> Iterator[tuple[str, str, bool]]:
    try:
        events = read_page(decode_page(body), rejected=[])
    except BadListing:
        return
    for event in events:
        for market in event.markets:
            yield market.market_id, market.condition_id, market.payout is not None


def other_ending(frame: Frame, ends: Mapping[str, int]) -> Frame:
    """Return a listing in which the other side of each of these markets has won."""
    if frame.ch != "gamma" or house.is_ours(frame.req) or b"outcomePrices" not in frame.body:
        return frame
    try:
        page = json.loads(frame.body)
    except ValueError:
        return frame
    _turn(page, ends)
    return with_fields(frame, body=json.dumps(page).encode())


def _turn(part: Any, ends: Mapping[str, int]) -> None:
    for each in part if isinstance(part, list) else part.values():
        if isinstance(each, list | dict):
            _turn(each, ends)
    if not isinstance(part, dict) or str(part.get("id")) not in ends or not part.get("closed"):
        return
    if "outcomePrices" in part:
        prices = part["outcomePrices"]
        told = json.loads(prices) if isinstance(prices, str) else prices
        turned = list(reversed(told)) if isinstance(told, list) else told
        part["outcomePrices"] = json.dumps(turned) if isinstance(prices, str) else turned
