"""Terms that are asked for again and again: soon, never lost, and no more than once a second."""

from __future__ import annotations

import asyncio
from typing import Any

from markets import ingest
from markets.books import Books
from markets.ingest import Followed, Ingest
from markets.problems import Problems


class Asked(Ingest):
    """Notes when terms were asked for, in steps of the pause."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(
            gamma=nothing, clob=nothing, ws_url="", books=Books(Problems()),
            watched=nothing, take=nothing, clock=lambda: 0,
        )  # fmt: skip
        self._followed["77"] = Followed("77", ())
        self.asked: list[str] = []

    async def _fetch_terms(self, event_ids: list[str]) -> None:
        self.asked += event_ids


def test_terms_asked_for_again_too_soon_are_read_once_more_after_the_pause(monkeypatch):
    monkeypatch.setattr(ingest, "CONFIRM_PAUSE", 0.2)
    seen: list[int] = []

    async def run() -> None:
        terms = Asked()
        async with terms._tasks:
            for _ in range(3):
                terms.confirm("77")
                await asyncio.sleep(0.02)
            seen.append(len(terms.asked))
            await asyncio.sleep(0.3)
            seen.append(len(terms.asked))

    asyncio.run(run())

    assert seen == [1, 2]
