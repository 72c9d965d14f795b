"""A pipeline fed by hand with frames in the venue's own shape; all of it can be fed again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from markets.book import Book
from markets.frames import Frame
from rules import house
from rules.dsl import parse_rule
from rules.engine import ActiveRule
from rules.kernel.relations import Relation
from signals.episodes import SignalChange
from signals.pipeline import Pipeline
from tests import wire_files as wire

MS = 1_000_000
SECOND = 1_000_000_000
START = wire.T0 * MS

DUTCH = "code: DUTCH_BOOK_DETECT\ntitle: Dutch book\ndetector: dutch_book\n"
CROSS = "code: CROSS_MARKET_MISPRICE\ntitle: Related markets\ndetector: cross_market\n"
ENDGAME = "code: ENDGAME_SWEEP\ntitle: Endgame\ndetector: endgame\n"
TILT = """
code: ORDER_BOOK_IMBALANCE
title: Book tilted
detector: imbalance
params: {min_depth_usd: 0}
"""


def rule(text: str) -> ActiveRule:
    return ActiveRule.of(parse_rule(text, source="test"))


def market_id(number: int) -> str:
    return str(wire.market(number)["id"])


def event_id(number: int) -> str:
    return str(9_000 + number)


def plain(number: int, **changes: Any) -> dict[str, Any]:
    """Return an event with one market of the same number."""
    return wire.event([wire.market(number, neg_risk=False, **changes)], neg_risk=False,
                      id=event_id(number))  # fmt: skip


class Hand:
    """Feeds one frame at a time and keeps what came of each."""

    def __init__(self, *texts: str, confirm_terms: bool = False) -> None:
        self.rules = [rule(text) for text in texts]
        self.pipeline = Pipeline(self.rules, confirm_terms=confirm_terms)
        self.frames: list[Frame] = []
        self.changes: list[SignalChange] = []
        self.now = START

    def __getitem__(self, number: int) -> Book:
        return self.pipeline.books.by_market[wire.condition(number)]

    def wait(self, ms: int) -> None:
        """Let the next frame come so much later."""
        self.now += ms * MS

    def feed(self, ch: Any, body: bytes, req: str | None = None) -> list[SignalChange]:
        frame = Frame(self.now, ch, body, req=req)
        self.frames.append(frame)
        changes = list(self.pipeline.feed(frame).changes)
        self.changes += changes
        return changes

    def list(self, *events: dict[str, Any]) -> list[SignalChange]:
        return self.feed("gamma", json.dumps({"events": events}).encode(), "/events/keyset")

    def show(
        self, number: int, bid: float, ask: float, *, sizes: tuple[int, int] = (100, 100)
    ) -> list[SignalChange]:
        """Show one level a side."""
        told = wire.book(number, [(ask, sizes[1])], [(bid, sizes[0])])
        stamp = str(self.now // MS)
        return self.feed(
            "ws", json.dumps({**told, "event_type": "book", "timestamp": stamp}).encode()
        )

    def sweep(self, times: int = 1) -> list[SignalChange]:
        """Let seconds pass, with a frame about nothing in each."""
        before = len(self.changes)
        for _ in range(times):
            self.wait(1_001)
            self.feed("ws", b"[]")
        return self.changes[before:]

    def relate(self, *relations: Relation) -> list[SignalChange]:
        rows = [
            {"type": each.type, "members": each.members, "approved": each.approved,
             "blocked_by": each.blocked_by, "basis": each.basis}
            for each in relations
        ]  # fmt: skip
        return self.feed("gamma", json.dumps({"relations": rows}).encode(), house.RELATIONS)

    def use_rules(self, *texts: str) -> list[SignalChange]:
        canonical = [rule(text).definition.canonical() for text in texts]
        return self.feed("gamma", house.rules_body(canonical), house.RULES)

    def told(self, *, at: bool = False) -> list[tuple[Any, ...]]:
        """Return what happened to signals so far, in ms since the start."""
        return [
            (each.change, each.level, *([(each.at - START) // MS] if at else ()))
            for each in self.changes
        ]


def fed(rules: Sequence[ActiveRule], frames: Iterable[Frame]) -> str:
    """Return the digest of frames that are fed to a new pipeline, its end included."""
    pipeline = Pipeline(rules)
    for frame in frames:
        pipeline.feed(frame)
    pipeline.stop()
    return pipeline.digest.hexdigest()
