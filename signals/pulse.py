"""The desk's own pulse: a mispricing that is none, sent through the code of the live path (pure).

Two outcomes of an event that no venue has, which together cost 0.80 for a moment. They go
through books, engine and episodes of their own: what the desk watches, counts, records and
replays never hears of them. The venue's socket, the rows of a signal and its alert are
therefore not covered by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from markets.frames import OPENED, Frame
from rules.dsl import parse_rule
from rules.engine import ActiveRule
from signals.pipeline import Pipeline

TOPIC: Final = "pulse"
EVENT_ID: Final = "mpx-pulse"  # the venue's ids are numbers
RULE: Final = """
code: MPX_PULSE
title: The desk's own pulse
detector: dutch_book
params: {kinds: [yes_basket]}
dedupe: {persist_ms: 0}
outputs: {EXECUTABLE: P3, THIN: P3, BLOCKED: P3}
"""
LEGS: Final = (1, 2)
CHEAP, FAIR = "0.40", "0.60"
GROUP: Final = "0x" + "6d" * 31


@dataclass(frozen=True, slots=True)
class Beat:
    """One pulse on its way, unix ns: when it was due, and when the rule had found it."""

    key: str
    due_at: int
    found_at: int


class NoPulse(Exception):
    """The rule did not see what it must see."""


class Pulse:
    """Its books, engine and episodes; nobody else's."""

    def __init__(self) -> None:
        self._pipeline = Pipeline([ActiveRule.of(parse_rule(RULE, source="pulse"))])
        self._t = 0

    def send(self, *, at: int) -> str:
        """Let the prices fall and rise again at a time (unix ns); return the episode's key.

        Raises `NoPulse` if no rule saw it.
        """
        self._t = max(self._t, at)
        if not self._pipeline.events:
            self._feed("gamma", _listing(), req="/events")
            self._feed("ws", b"", req=OPENED)
        for leg in LEGS:
            self._feed("ws", _book(leg, FAIR, self._t))
        found = [self._feed("ws", _book(leg, CHEAP, self._t)) for leg in LEGS][-1]
        for leg in LEGS:
            self._feed("ws", _book(leg, FAIR, self._t))
        self._pipeline.settle()
        if found is None:
            raise NoPulse("two outcomes for 0.80 were no finding")
        return found

    def _feed(self, ch: str, body: bytes, req: str | None = None) -> str | None:
        """Return the key of the episode that a frame opened."""
        self._t += 1
        conn = 0 if ch == "ws" else None
        frame = Frame(self._t, "ws" if ch == "ws" else "gamma", body, conn, req)
        opened = [each for each in self._pipeline.feed(frame).changes if each.change == "opened"]
        return opened[0].key if opened else None


def _condition(leg: int) -> str:
    return f"0x6d7078{leg:058x}"


def _tokens(leg: int) -> tuple[str, str]:
    return f"{leg}1", f"{leg}2"


def _listing() -> bytes:
    event = {
        "id": EVENT_ID,
        "title": "The desk's own pulse",
        "slug": EVENT_ID,
        "active": True,
        "closed": False,
        "negRisk": True,
        "enableNegRisk": True,
        "negRiskAugmented": False,
        "markets": [_market(leg) for leg in LEGS],
    }
    return json.dumps({"events": [event]}).encode()


def _market(leg: int) -> dict[str, object]:
    return {
        "id": f"{EVENT_ID}-{leg}",
        "question": f"Does it beat ({leg})?",
        "conditionId": _condition(leg),
        "slug": f"{EVENT_ID}-{leg}",
        "outcomes": '["Yes", "No"]',
        "clobTokenIds": json.dumps(_tokens(leg)),
        "active": True,
        "closed": False,
        "archived": False,
        "acceptingOrders": True,
        "enableOrderBook": True,
        "orderPriceMinTickSize": 0.01,
        "orderMinSize": 5,
        "groupItemTitle": str(leg),
        "feesEnabled": False,
        "negRisk": True,
        "negRiskMarketID": f"{GROUP}00",
        "questionID": f"{GROUP}{leg - 1:02x}",
    }


def _book(leg: int, ask: str, t: int) -> bytes:
    told = {
        "event_type": "book",
        "market": _condition(leg),
        "asset_id": _tokens(leg)[0],
        "timestamp": str(t // 1_000_000),
        "hash": "",
        "bids": [{"price": "0.10", "size": "100"}],
        "asks": [{"price": ask, "size": "100"}],
    }
    return json.dumps(told).encode()
