"""What one shard hears of a venue that tells everything: a simulated or a recorded one.

A frame about other shards' markets is emptied, not dropped: time passes in every shard as it
does in a stream that has them all, so their signals together are the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from markets.frames import Frame
from rules.house import is_ours
from signals.share import Share

EMPTY = b"[]"


class Sieve:
    """Knows from the listings which market is of which event."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._event_of: dict[str, str] = {}  # by condition id

    def __call__(self, frame: Frame) -> Frame:
        if (frame.ch == "ws" and frame.req is not None) or is_ours(frame.req):
            return frame
        try:
            told = msgspec.json.decode(frame.body)
        except msgspec.MsgspecError:
            return frame  # the pipeline tells of it
        kept = self._page(told) if frame.ch == "gamma" else self._messages(told)
        if kept is told:
            return frame
        return msgspec.structs.replace(frame, body=msgspec.json.encode(kept))

    def _messages(self, told: Any) -> Any:
        messages = told if isinstance(told, list) else [told]
        kept = [each for each in messages if self._is_heard(each)]
        return told if len(kept) == len(messages) else kept

    def _is_heard(self, message: Any) -> bool:
        """Let through what is of our events, or of no market that is known."""
        market = message.get("market") if isinstance(message, dict) else None
        event_id = self._event_of.get(market) if isinstance(market, str) else None
        return event_id is None or self._share.owns(event_id)

    def _page(self, told: Any) -> Any:
        events = told.get("events") if isinstance(told, dict) else told
        if not isinstance(events, list):
            return told
        for event in events:
            self._learn(event)
        kept = [each for each in events if self._is_ours(each)]
        if len(kept) == len(events):
            return told
        return {**told, "events": kept} if isinstance(told, dict) else kept

    def _learn(self, event: Any) -> None:
        if isinstance(event, dict):
            for market in event.get("markets") or ():
                self._event_of[str(market.get("conditionId"))] = str(event.get("id"))

    def _is_ours(self, event: Any) -> bool:
        return not isinstance(event, dict) or self._share.owns(str(event.get("id")))
