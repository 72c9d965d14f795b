"""One sign of life of a stage that several processes share: as old as that of its oldest part.

Whoever asks how `stream` is needs to know nothing of its shards: the row is only as fresh as
the part that beat longest ago, and there is none before every part has beaten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from alerts import journal
from alerts.models import Heartbeat

OLDEST: Final = ("last_frame_at",)  # the least of all parts is true of all
WORST: Final = ("mean_us", "last_healing_seconds")


def part_names(component: str, parts: int) -> tuple[str, ...]:
    """Return the heartbeats that a stage has: its own where there is one part, else theirs."""
    return (component,) if parts == 1 else tuple(f"{component}-{n}" for n in range(parts))


def beat_part(
    component: str, number: int, parts: int, *, at: datetime, progress: int, **detail: object
) -> None:
    """Note that a part is alive, and what that makes of the whole. Call it in a transaction."""
    names = part_names(component, parts)
    journal.beat(names[number], at=at, progress=progress, **detail)
    if parts == 1:
        return
    rows = list(Heartbeat.objects.filter(component__in=names).order_by("component"))
    if len(rows) == parts:
        journal.beat(
            component,
            at=min(row.at for row in rows),
            progress=sum(row.progress for row in rows),
            **joined([row.detail for row in rows]),
        )


def forget_others(component: str, parts: int) -> None:
    """Delete the beats of parts that there were when the stage was cut in another way."""
    stale = Heartbeat.objects.filter(component__startswith=f"{component}-")
    stale.exclude(component__in=part_names(component, parts)).delete()


def missed_parts(component: str, parts: int, *, at: datetime, within: timedelta) -> tuple[str, ...]:
    """Return the parts without a sign of life within a time, by name; empty for one part."""
    if parts == 1:
        return ()
    alive = Heartbeat.objects.filter(at__gte=at - within).values_list("component", flat=True)
    return tuple(sorted(set(part_names(component, parts)) - set(alive)))


def joined(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what the parts tell; of a time the oldest counts, of a duration the worst."""
    names = dict.fromkeys(name for detail in details for name in detail)
    return {
        name: _joined(name, [each[name] for each in details if each.get(name) is not None])
        for name in names
    }


def _joined(name: str, told: Sequence[Any]) -> Any:
    if not told:
        return None
    if name in OLDEST:
        return min(told)
    if name in WORST:
        return max(told)
    first = told[0]
    if isinstance(first, Mapping):
        return joined(told)
    if isinstance(first, list):
        return [row for rows in told for row in rows]
    return sum(told) if isinstance(first, int | float) and not isinstance(first, bool) else first
