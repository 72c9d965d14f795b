"""The health page: every part of the desk, gaps in the data, input that could not be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib import messages
from django.db.models import Avg, Count, Max, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from markets.models import Gap, Quarantine
from mpx_site.portal import exports, health_table, steps
from mpx_site.portal.desk import Desk
from mpx_site.portal.exports import Column
from mpx_site.portal.health_table import Row

DAY = timedelta(days=1)
SHOWN = 15
COMPONENTS = (
    Column("component", "component.name"),
    Column("state", "state"),
    Column("seen", "seen.text"),
    Column("todo", "seen.todo"),
    Column("age_seconds", "pulse.age_seconds"),
    Column("progress", "pulse.progress"),
    Column("decided", "component.decided"),
)


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gaps of a day. `mean` and `longest` are seconds to heal, None if none has healed."""

    found: int
    open: int
    lost: int
    mean: float | None
    longest: float | None
    newest: Sequence[Gap]


@dataclass(frozen=True, slots=True)
class HealthPage:
    rows: tuple[Row, ...]
    demanded: tuple[Row, ...]
    examined_at: datetime | None
    gaps: Gaps
    problems: Sequence[Quarantine]
    more_problems: int

    @property
    def worst(self) -> str:
        """Return the state of the desk: that of what counts and is worst."""
        states = {row.state for row in self.rows}
        return next(state for state in ("down", "degraded", "no data", "ok") if state in states)

    @property
    def troubled(self) -> int:
        return sum(row.state != "ok" for row in self.rows)

    @property
    def look(self) -> tuple[str, str]:
        return health_table.LOOKS[self.worst]


@require_safe
@never_cache
@steps.for_roles
def health(request: HttpRequest) -> HttpResponseBase:
    desk, staff = Desk(at=timezone.now()), steps.person(request).is_staff
    rows = health_table.table(desk, staff=staff)
    if (file := exports.answer(request, rows, COMPONENTS, name="health")) is not None:
        return file
    return render(request, "portal/health.html", {"page": page(rows, at=desk.at), "desk": desk})


@require_POST
@steps.for_roles
def examine(request: HttpRequest) -> HttpResponse:
    """Look at what takes a while: the network, the audit chain, the invariants."""
    found = health_table.on_demand.examine()
    failed = [name for name, seen in found.seen.items() if seen.state == "fail"]
    if failed:
        messages.error(request, f"Looked at {len(found.seen)} things; down: {', '.join(failed)}.")
    else:
        messages.success(request, f"Looked at {len(found.seen)} things; none is down.")
    return HttpResponseRedirect(f"{reverse('health')}#demand", status=303)


def page(rows: tuple[Row, ...], *, at: datetime) -> HealthPage:
    examined = health_table.on_demand.last
    problems = Quarantine.objects.filter(last_at__gte=at - DAY)
    newest = list(problems.order_by("-last_at", "-id")[:SHOWN])
    more = problems.count() - SHOWN if len(newest) == SHOWN else 0
    return HealthPage(
        rows=rows,
        demanded=health_table.on_demand.rows(),
        examined_at=examined.at if examined else None,
        gaps=gaps(at=at),
        problems=newest,
        more_problems=max(0, more),
    )


def gaps(*, at: datetime) -> Gaps:
    """Return the gaps that were open within a day."""
    day = Gap.objects.filter(Q(opened_at__gte=at - DAY) | Q(ending=""))
    told = day.aggregate(
        found=Count("id"),
        open=Count("id", filter=Q(ending="")),
        lost=Count("id", filter=Q(ending=Gap.Ending.PROCESS_ENDED)),
        mean=Avg("healing_seconds"),
        longest=Max("healing_seconds"),
    )
    return Gaps(**told, newest=list(day.order_by("-opened_at", "-id")[:SHOWN]))
