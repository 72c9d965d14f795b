"""What is held, what it is worth, and what it can lose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Max, Sum
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from execution import positions
from execution.holdings import ZERO
from execution.models import OrderIntent, PositionEntry
from execution.positions import EventPosition, Position, Totals
from mpx_site.portal import exports, steps
from mpx_site.portal.exports import Column
from risk import limits

MOST_CLOSED = 100
POSITIONS = (
    Column("event_id", "market.event_id"),
    Column("event", "market.event.title"),
    Column("market_id", "market.pk"),
    Column("market", lambda each: each.market.label or each.market.question),
    Column("outcome", "outcome"),
    Column("token_id", "token_id"),
    Column("shares", "shares"),
    Column("avg_cost_usd", "avg_cost"),
    Column("cost_usd", "cost"),
    Column("mark_usd", "mark"),
    Column("unrealised_usd", "unrealised"),
    Column("realised_usd", "realised"),
    Column("until", "until"),
)


@dataclass(frozen=True, slots=True)
class PositionsPage:
    """Open positions by event, and the result of what was closed, the last one first.

    `more_closed` is how many were closed before those. `cap` is per event (USD).
    """

    held: tuple[EventPosition, ...]
    closed: tuple[Position, ...]
    more_closed: int
    totals: Totals
    cap: Decimal


def page() -> PositionsPage:
    """Read all entries twice: once by outcome, once by event."""
    every, held = positions.positions(), positions.by_event()
    closed = _last_first(each for each in every if not each.shares)
    return PositionsPage(
        held=held,
        closed=closed[:MOST_CLOSED],
        more_closed=max(0, len(closed) - MOST_CLOSED),
        totals=_totals(every, held),
        cap=limits.bounds().event_exposure,
    )


def _last_first(closed: Iterable[Position]) -> tuple[Position, ...]:
    entries = PositionEntry.objects.order_by().values_list("token_id")
    last = dict(entries.annotate(last=Max("id")))
    return tuple(sorted(closed, key=lambda each: last[each.token_id], reverse=True))


def _totals(every: Sequence[Position], held: Sequence[EventPosition]) -> Totals:
    """Return what `positions.totals` does, of what was read already."""
    open_ones = [each for group in held for each in group.positions]
    gains = [each.unrealised for each in open_ones if each.unrealised is not None]
    return Totals(
        realised=sum((each.realised for each in every), ZERO),
        unrealised=sum(gains, ZERO),
        unmarked=len(open_ones) - len(gains),
        fees=OrderIntent.objects.aggregate(paid=Sum("fees"))["paid"] or ZERO,
        locked=sum((group.cost for group in held), ZERO),
        worst_value=sum((group.worst_value for group in held), ZERO),
    )


@require_safe
@never_cache
@steps.for_roles
def position_list(request: HttpRequest) -> HttpResponseBase:
    file = exports.answer(request, positions.positions, POSITIONS, name="positions")
    if file is not None:
        return file
    return render(request, "portal/positions.html", {"page": page()})
