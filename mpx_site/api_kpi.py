"""`/api/v1/kpi/daily` and `/api/kpi/daily`: what each rule found per UTC day.

Counted from the signals themselves at each request, so it cannot disagree with them. Edge and
gap are those of a signal at its best moment: at its end there is little left of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Avg, Count, F, FloatField, Q
from django.db.models.functions import Cast, TruncDate
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from mpx_site.api import documented
from mpx_site.api_answers import BadParameters, NoQuery, asked
from mpx_site.api_rows import Row
from mpx_site.api_view import ApiView
from signals.models import Signal

DAYS, MOST_DAYS = 7, 92
EDGE = Cast("peak_edge_bps", FloatField())  # SQLite would divide whole numbers as such


class KpiQuery(serializers.Serializer[Any]):
    since = serializers.DateField(required=False, help_text="First UTC day; else a week ago.")
    until = serializers.DateField(required=False, help_text="Last UTC day; else today.")
    rule = serializers.CharField(required=False, help_text="Code of the rule.")


class KpiRow(serializers.Serializer[Any]):
    day = serializers.DateField(help_text="UTC day on which the signals opened.")
    rule = serializers.CharField()
    signals = serializers.IntegerField()
    p1 = serializers.IntegerField()
    p2 = serializers.IntegerField()
    p3 = serializers.IntegerField()
    avg_gap = serializers.DecimalField(
        max_digits=10, decimal_places=6, help_text="Mean of profit per USD of payoff, at the best."
    )
    avg_edge_bps = serializers.DecimalField(
        max_digits=12, decimal_places=2, help_text="Mean of profit over cost, at the best."
    )


class KpiList(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True, help_text="Null: all days asked for are here.")
    results = KpiRow(many=True)


class SeedKpi(serializers.Serializer[Any]):
    day = serializers.DateField()
    rule_type = serializers.CharField(help_text="The rule's code.")
    signals = serializers.IntegerField()
    p1_signals = serializers.IntegerField()
    avg_gap = serializers.FloatField()
    est_edge_bps = serializers.FloatField()


class KpiDaily(ApiView):
    """Signals by day and rule, newest day first; up to 92 days at once."""

    @documented("kpi_daily", KpiList, query=KpiQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, KpiQuery)
        first, last = _span(query)
        rows = daily(first, last, rule=query.get("rule"))
        return Response({"next": None, "results": rows})


class SeedKpiDaily(ApiView):
    """The last seven days and today, by day and rule."""

    @documented("seed_kpi_daily", SeedKpi(many=True))
    def get(self, request: Request) -> Response:
        asked(request, NoQuery)
        return Response([_seed_row(row) for row in daily(*_span({}))])


def daily(first: date, last: date, *, rule: str | None = None) -> list[Row]:
    """Return the figures of each day and rule that had signals, newest day first."""
    start, end = (datetime.combine(day, time(), UTC) for day in (first, last))
    found = Signal.objects.filter(opened_at__gte=start, opened_at__lt=end + timedelta(days=1))
    if rule is not None:
        found = found.filter(rule__code=rule)
    counted = (
        found.annotate(day=TruncDate("opened_at", tzinfo=UTC))
        .values("day", "rule__code")
        .annotate(
            n=Count("id"),
            p1=Count("id", filter=Q(level=Signal.Level.P1)),
            p2=Count("id", filter=Q(level=Signal.Level.P2)),
            p3=Count("id", filter=Q(level=Signal.Level.P3)),
            gap=Avg(EDGE / (EDGE + 10_000.0)),
            edge=Avg(EDGE),
        )
        .order_by(F("day").desc(), "rule__code")
    )
    return [_row(each) for each in counted]


def _row(counted: Mapping[str, Any]) -> Row:
    return {
        "day": counted["day"],
        "rule": counted["rule__code"],
        "signals": counted["n"],
        **{level: counted[level] for level in ("p1", "p2", "p3")},
        "avg_gap": f"{Decimal(counted['gap']):.6f}",
        "avg_edge_bps": f"{Decimal(counted['edge']):.2f}",
    }


def _seed_row(row: Row) -> Row:
    return {
        "day": row["day"],
        "rule_type": row["rule"],
        "signals": row["signals"],
        "p1_signals": row["p1"],
        "avg_gap": float(row["avg_gap"]),
        "est_edge_bps": float(row["avg_edge_bps"]),
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
