"""Do two markets settle by the same rule? What a relation needs besides its logic (pure).

Text that sounds alike is not settlement that is alike: another source, another
cut-off or time zone, "at" against "by" (`detection.md` 2.3). What is not known counts
as different.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from rules.kernel.relations import Relation

CONFLICT = "metadata_conflict"

Observed = Literal["", "by", "at"]


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a market is settled. Empty text and None mean that it is not known.

    `observed` tells whether something may happen any time until the cut-off
    ("by") or is measured at that moment ("at"); `ties` names the rule for a
    draw, a cancellation or a void.
    """

    source: str = ""
    cut_off: datetime | None = None
    zone: str = ""
    observed: Observed = ""
    ties: str = ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """What differs between two markets of a relation."""

    field: str  # "source", "cut_off", "zone", "observed", "ties"
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.field}: {self.first or 'not known'} against {self.second or 'not known'}"


def conflicts_of(relation: Relation, resolutions: Mapping[str, Resolution]) -> tuple[Conflict, ...]:
    """Return what forbids to rely on a relation; its gate is `CONFLICT` where there is any.

    Source, time zone, way of observing and rule for ties must be the same for
    all members. So must the cut-off, except where each member implies the next:
    there a "by" market may end earlier than the one it implies, never later.
    """
    found = (
        conflict
        for first, second in pairwise(relation.members)
        for conflict in _between(
            resolutions.get(first, Resolution()),
            resolutions.get(second, Resolution()),
            directed=relation.type in ("implies", "ladder"),
        )
    )
    return tuple(dict.fromkeys(found))


def _between(first: Resolution, second: Resolution, *, directed: bool) -> Iterator[Conflict]:
    for field in ("source", "zone", "observed", "ties"):
        one, other = getattr(first, field), getattr(second, field)
        if not one or one.casefold() != other.casefold():
            yield Conflict(field, one, other)
    if not _cut_offs_fit(first, second, directed=directed):
        yield Conflict("cut_off", _time(first.cut_off), _time(second.cut_off))


def _cut_offs_fit(first: Resolution, second: Resolution, *, directed: bool) -> bool:
    if first.cut_off is None or second.cut_off is None:
        return False
    if directed and first.observed == second.observed == "by":
        return first.cut_off <= second.cut_off
    return first.cut_off == second.cut_off


def _time(cut_off: datetime | None) -> str:
    return "" if cut_off is None else cut_off.isoformat()
