"""A signal's edge as a small picture for lists, and the thresholds that it is drawn against."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from mpx_site.portal.history import edge_chart
from mpx_site.portal.pictures import Chart
from rules.dsl import RuleError
from rules.kernel.finding import Limits
from rules.load import definition_of
from rules.models import RuleVersion
from rules.rule_kinds import CrossMarketRule, DutchBookRule, TemporalRule
from signals.models import Signal, SignalPoint

MOST_STRIP_POINTS = 60


def strips(signals: Sequence[Signal], *, at: datetime) -> dict[int, Chart]:
    """Draw the edge of each signal small, by its number: the newest changes, in one query.

    One that has been seen at one edge alone has its line; a direction has no edge to draw.
    """
    drawn = {signal.pk: signal for signal in signals if signal.verdict != "OBSERVED"}
    newest = Window(RowNumber(), partition_by="signal", order_by=(F("at").desc(), F("id").desc()))
    points = (
        SignalPoint.objects.filter(signal__in=drawn)
        .annotate(age=newest)
        .filter(age__lte=MOST_STRIP_POINTS)
        .order_by("signal", "at", "id")
    )
    told: dict[int, list[SignalPoint]] = {}
    for point in points:
        told.setdefault(point.signal_id, []).append(point)
    charts = {pk: edge_chart(drawn[pk], each, threshold=None, at=at) for pk, each in told.items()}
    return {pk: picture for pk, picture in charts.items() if picture is not None}


def least_of(version: RuleVersion) -> Limits | None:
    """Return what a rule asks of a basket at least; None of one for directions or bets."""
    try:
        definition = definition_of(version)
    except RuleError:
        return None
    if isinstance(definition, DutchBookRule | CrossMarketRule | TemporalRule):
        return definition.params.limits()
    return None
