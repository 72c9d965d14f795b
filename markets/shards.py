"""Which stream has which events: shards by event, connected events together (pure).

An event belongs to shard sha256(its id) mod N: the same on every machine and release. What
approved relations connect is in one shard, because a rule across events needs all their
books: the whole set goes where its smallest event id belongs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


def shard_of(event_id: str, shards: int) -> int:
    """Return the shard of an event that is connected to no other, 0 to `shards` - 1."""
    return int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:8]) % shards


@dataclass(frozen=True, slots=True)
class Placement:
    """All events on so many shards. `anchors` has the events that are connected to others."""

    shards: int
    anchors: Mapping[str, str]  # the smallest id of its set, by event id

    @classmethod
    def of(cls, ties: Iterable[Collection[str]], *, shards: int) -> Placement:
        """Place events so that those of each tie are together; ties that meet are one set."""
        leads: dict[str, str] = {}
        for tie in ties:
            roots = sorted({_root(leads, event_id) for event_id in tie}, key=_by_number)
            leads.update(dict.fromkeys(roots, roots[0]) if roots else {})
        anchors = {event_id: _root(leads, event_id) for event_id in leads}
        return cls(shards, {each: anchor for each, anchor in anchors.items() if each != anchor})

    def shard(self, event_id: str) -> int:
        return shard_of(self.anchors.get(event_id, event_id), self.shards)


def smallest(event_ids: Iterable[str]) -> str:
    """Return the event that decides for all of them."""
    return min(event_ids, key=_by_number)


def _root(leads: Mapping[str, str], event_id: str) -> str:
    while (lead := leads.get(event_id, event_id)) != event_id:
        event_id = lead
    return event_id


def _by_number(event_id: str) -> tuple[int, str]:
    """Order ids as the numbers that the venue's are."""
    return len(event_id), event_id
