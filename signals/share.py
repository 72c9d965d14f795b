"""A stream's part of the venue: the shard that it holds, what is in it, and the lease it has.

Without shards there is one share, of everything, and its names are those of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from alerts import shared_beats
from markets.lease import Claim, LeaseLost
from markets.shards import Placement, smallest
from signals.models import Signal, SignalQuerySet

STREAM: Final = "stream"
# How long an event that came to this shard waits: by then whoever had it has let go of it.
# The other reads placements every 2 s and its watch list every 4 s.
HANDOVER_SECONDS: Final = 15.0


class Share:
    """One shard as a process holds it. `lost` once somebody else has it.

    Threads of the process read it; only its owner (`signals.sharing`) changes it.
    """

    def __init__(self, number: int, claim: Claim, placement: Placement) -> None:
        self.number = number
        self.claim = claim
        self.lost = False
        self.version = 0  # another one: other events are in it
        self._placements: tuple[tuple[Placement, float], ...] = ((placement, float("inf")),)

    @property
    def shards(self) -> int:
        return self._placements[0][0].shards

    @property
    def alone(self) -> bool:
        """Say whether it is all there is."""
        return self.shards == 1

    @property
    def name(self) -> str:
        """Return what its signals, gaps and heartbeat are told under."""
        return shared_beats.part_names(STREAM, self.shards)[self.number]

    def owns(self, event_id: str) -> bool:
        """Say whether an event is ours: now, and for as long as another may still have it."""
        return all(each.shard(event_id) == self.number for each, _ in self._placements)

    def owns_order(self, event_ids: Iterable[str]) -> bool:
        """Say whether orders on these events are ours to fill: exactly one shard's are."""
        return self.owns(smallest(event_ids))

    def use(self, placement: Placement, *, now: float) -> None:
        """Take over how events are placed; `now` is the monotonic clock.

        What leaves is ours no more at once, what comes is ours when the time is over.
        """
        newest, _ = self._placements[-1]
        known = [pair for pair in self._placements if pair[1] > now]
        if placement != newest:
            known[-1] = (newest, now + HANDOVER_SECONDS)
            known.append((placement, float("inf")))
        if tuple(known) != self._placements:
            self._placements = tuple(known)
            self.version += 1

    def confirm(self) -> None:
        """Make sure in a transaction that the shard is ours until it commits.

        Raises `LeaseLost`.
        """
        try:
            self.claim.confirm()
        except LeaseLost:
            self.lost = True
            raise

    @property
    def others(self) -> tuple[str, ...]:
        """Return the names of the other shards."""
        names = shared_beats.part_names(STREAM, self.shards)
        return tuple(name for name in names if name != self.name)

    def left_open(self) -> SignalQuerySet:
        """Return the signals that are ours to close: all but those of other shards."""
        return Signal.objects.exclude(stream__in=self.others)

    def folder(self, whole: Path) -> Path:
        """Return where it keeps what it receives."""
        return whole if self.alone else whole / f"shard-{self.number}"

    def file(self, whole: Path | None) -> Path | None:
        """Return what it records to: `night.jsonl.gz` becomes `night-0.jsonl.gz`."""
        if whole is None or self.alone:
            return whole
        stem, dot, rest = whole.name.partition(".")
        return whole.with_name(f"{stem}-{self.number}{dot}{rest}")
