"""What is held, what it is worth, and what it can lose."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from execution import positions
from execution.positions import EventPosition, Position, Totals
from risk import limits


@dataclass(frozen=True, slots=True)
class PositionsPage:
    """Open positions by event, and the result of what was closed. `cap` is per event (USD)."""

    held: tuple[EventPosition, ...]
    closed: tuple[Position, ...]
    totals: Totals
    cap: Decimal


def page() -> PositionsPage:
    return PositionsPage(
        held=positions.by_event(),
        closed=tuple(each for each in positions.positions() if not each.shares),
        totals=positions.totals(),
        cap=limits.bounds().event_exposure,
    )


@require_safe
@never_cache
def position_list(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/positions.html", {"page": page()})
