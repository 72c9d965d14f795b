"""Input that could not be used, counted by source, reason and subject (pure)."""

from __future__ import annotations

from dataclasses import dataclass

MAX_KINDS = 1_000  # distinct problems kept apart; the rest share one row per reason
SAMPLE_BYTES = 2_000


@dataclass(slots=True)
class Problem:
    """One kind of bad input since the last drain. `last_at` is in unix ns."""

    source: str
    reason: str
    subject: str
    detail: str
    sample: str
    count: int
    first_at: int
    last_at: int


class Problems:
    """Collects problems; bounded, so that a bad feed cannot fill the memory."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: dict[tuple[str, str, str], Problem] = {}

    def note(
        self,
        source: str,
        reason: str,
        *,
        at: int,
        subject: str = "",
        detail: str = "",
        sample: bytes | str = b"",
    ) -> None:
        """Count one more; the first detail and sample of each kind are kept."""
        self.total += 1
        key = (source, reason, subject[:120])
        if key not in self._seen and len(self._seen) >= MAX_KINDS:
            key = (source, reason, "(others)")
        known = self._seen.get(key)
        if known:
            known.count += 1
            known.last_at = at
            return
        text = sample if isinstance(sample, str) else sample[:SAMPLE_BYTES].decode(errors="replace")
        self._seen[key] = Problem(*key, detail[:500], text[:SAMPLE_BYTES], 1, at, at)

    def counts(self) -> dict[str, int]:
        """Return how many of each reason since the last drain."""
        found: dict[str, int] = {}
        for problem in self._seen.values():
            found[problem.reason] = found.get(problem.reason, 0) + problem.count
        return found

    def drain(self) -> list[Problem]:
        """Hand over what was collected and start anew."""
        drained = list(self._seen.values())
        self._seen = {}
        return drained
