"""`/api/v1/kpi/daily` and `/api/kpi/daily`: what each rule found per UTC day.

Exact at each request: `execution.kpi_store` keeps the days that are final and counts the others.
Edge and gap are those of a signal at its best moment: at its end there is little left of them.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from execution import kpi_store
from execution.kpi import Kpi
from execution.kpi_rows import row_of
from mpx_site.api import documented
from mpx_site.api_answers import BadParameters, NoQuery, asked
from mpx_site.api_rows import Row
from mpx_site.api_view import ApiView
from mpx_site.kpi_coverage import coverage

DAYS, MOST_DAYS = 7, 92


class KpiQuery(serializers.Serializer[Any]):
    since = serializers.DateField(required=False, help_text="First UTC day; else a week ago.")
    until = serializers.DateField(required=False, help_text="Last UTC day; else today.")
    rule = serializers.CharField(required=False, help_text="Code of the rule.")


def _usd(told: str) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=20, decimal_places=6, help_text=told)


def _lifetime(told: str) -> serializers.IntegerField:
    return serializers.IntegerField(
        allow_null=True, help_text=f"{told} of the signals that closed lived no longer, in ms."
    )


class KpiRow(serializers.Serializer[Any]):
    day = serializers.DateField(help_text="UTC day on which the signals opened.")
    rule = serializers.CharField()
    signals = serializers.IntegerField()
    p1 = serializers.IntegerField()
    p2 = serializers.IntegerField()
    p3 = serializers.IntegerField()
    priced = serializers.IntegerField(help_text="Have an edge: all but directions and bets.")
    avg_gap = serializers.DecimalField(
        max_digits=16,
        decimal_places=6,
        allow_null=True,
        help_text="Mean of profit per USD of payoff, at the best; null: nothing is priced.",
    )
    avg_edge_bps = serializers.DecimalField(
        max_digits=16,
        decimal_places=2,
        allow_null=True,
        help_text="Mean of profit over cost, at the best; null: nothing is priced.",
    )
    p1_profit_usd = _usd("Of P1 at their best moment, added up.")
    missed = serializers.IntegerField(help_text="P1 that closed without an order approved.")
    missed_profit_usd = _usd("Of those at their best moment, added up.")
    suggested = serializers.IntegerField(help_text="Orders for these signals.")
    approved = serializers.IntegerField(help_text="Of them, whatever became of them then.")
    filled = serializers.IntegerField()
    rejected = serializers.IntegerField()
    expired = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    failed = serializers.IntegerField()
    acceptance = serializers.DecimalField(
        max_digits=5,
        decimal_places=4,
        allow_null=True,
        help_text="Approved share of the orders that were decided; null: none was.",
    )
    captured_usd = _usd("What kept baskets pay at worst and was sold, less what was spent.")
    closed = serializers.IntegerField(help_text="Signals that have closed.")
    lifetime_p50_ms = _lifetime("50 %")
    lifetime_p90_ms = _lifetime("90 %")
    lifetime_p99_ms = _lifetime("99 %")
    final = serializers.BooleanField(help_text="False while a signal or order of it is open.")
    coverage = serializers.DecimalField(
        max_digits=5,
        decimal_places=4,
        allow_null=True,
        help_text="Share of the day in which the books were known; null: none was followed.",
    )


class KpiList(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True, help_text="Null: all days asked for are here.")
    results = KpiRow(many=True)


class SeedKpi(serializers.Serializer[Any]):
    day = serializers.DateField()
    rule_type = serializers.CharField(help_text="The rule's code.")
    signals = serializers.IntegerField()
    p1_signals = serializers.IntegerField()
    avg_gap = serializers.FloatField(allow_null=True, help_text="Null: a rule of directions.")
    est_edge_bps = serializers.FloatField(allow_null=True)


class KpiDaily(ApiView):
    """Signals and orders by day and rule, newest day first; up to 92 days at once."""

    @documented("kpi_daily", KpiList, query=KpiQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, KpiQuery)
        first, last = _span(query)
        kpis = newest_first(kpi_store.daily(first, last, rule=query.get("rule")))
        covered = coverage(first, last, at=timezone.now())
        rows = [row_of(kpi) | {"coverage": covered[kpi.day].told} for kpi in kpis]
        return Response({"next": None, "results": rows})


class SeedKpiDaily(ApiView):
    """The last seven days and today, by day and rule."""

    @documented("seed_kpi_daily", SeedKpi(many=True))
    def get(self, request: Request) -> Response:
        asked(request, NoQuery)
        return Response([_seed_row(kpi) for kpi in newest_first(kpi_store.figures(*_span({})))])


def newest_first(kpis: list[Kpi]) -> list[Kpi]:
    return sorted(kpis, key=lambda kpi: (-kpi.day.toordinal(), kpi.rule))


def _seed_row(kpi: Kpi) -> Row:
    counts = kpi.counts
    return {
        "day": kpi.day,
        "rule_type": kpi.rule,
        "signals": counts.signals,
        "p1_signals": counts.p1,
        "avg_gap": None if counts.gap is None else round(float(counts.gap), 6),
        "est_edge_bps": None if counts.edge_bps is None else round(float(counts.edge_bps), 2),
    }


def _span(query: dict[str, Any]) -> tuple[date, date]:
    """Return the first and the last day asked for."""
    last: date = query.get("until") or timezone.now().date()
    if last < date.min + timedelta(days=DAYS) or last == date.max:
        raise BadParameters("invalid_parameter", [("until", "is no day of ours")])
    first: date = query.get("since") or last - timedelta(days=DAYS)
    if not first <= last < first + timedelta(days=MOST_DAYS):
        told = f"must not be after `until`, and at most {MOST_DAYS} days before it"
        raise BadParameters("invalid_parameter", [("since", told)])
    return first, last
