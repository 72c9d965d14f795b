"""`/api/v1/data-quality`: how much of each market was known in a window, and why not the rest."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from markets.ledger import Drift, Epochs, Ledger, MarketCoverage, Missing, coverage_of
from mpx_site.api import documented
from mpx_site.api_answers import BadParameters, asked
from mpx_site.api_candles import in_our_time
from mpx_site.api_view import ApiView

DAY, MOST = timedelta(days=1), timedelta(days=92)
MOST_MARKETS = 1_000


class QualityQuery(serializers.Serializer[Any]):
    since = serializers.DateTimeField(
        required=False, validators=[in_our_time], help_text="Else a day before `until`."
    )
    until = serializers.DateTimeField(
        required=False, validators=[in_our_time], help_text="Else now, and never later."
    )
    markets = serializers.IntegerField(
        required=False, min_value=0, max_value=MOST_MARKETS, default=50,
        help_text="How many markets are listed, worst covered first.",
    )  # fmt: skip


class MarketQuality(serializers.Serializer[Any]):
    market_id = serializers.CharField()
    question = serializers.CharField()
    share = serializers.FloatField(help_text="Known share of the time it was followed, 0 to 1.")
    followed_seconds = serializers.FloatField()
    missing_seconds = serializers.FloatField()
    breaks = serializers.IntegerField(help_text="Gaps of its own book, connections aside.")


class MissingRow(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="CONNECTION, ASSET, FRAME or STREAM.")
    reason = serializers.CharField(allow_blank=True)
    count = serializers.IntegerField()
    books = serializers.IntegerField(help_text="Blinded by one of them at most; 0: all.")
    total_seconds = serializers.FloatField()
    longest_seconds = serializers.FloatField()
    open = serializers.IntegerField()


class EpochRow(serializers.Serializer[Any]):
    connection = serializers.CharField()
    epochs = serializers.IntegerField(help_text="One more than it was cut.")
    cut_seconds = serializers.FloatField()
    last_at = serializers.DateTimeField(allow_null=True)


class DriftRow(serializers.Serializer[Any]):
    market_id = serializers.CharField(allow_blank=True)
    reason = serializers.CharField()
    count = serializers.IntegerField(help_text="Since it was first seen.")
    last_at = serializers.DateTimeField()


class QualityAnswer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    share = serializers.FloatField(
        allow_null=True, help_text="Of all followed market time; null: nothing was followed."
    )
    blind_seconds = serializers.FloatField(help_text="In which nothing at all was known.")
    followed = serializers.IntegerField(help_text="Markets.")
    markets = MarketQuality(many=True)
    missing = MissingRow(many=True)
    epochs = EpochRow(many=True)
    drift = DriftRow(many=True)


class DataQuality(ApiView):
    """Coverage of the desk's own data in a window of at most 92 days.

    A cut connection counts against every market: shares are a lower bound.
    """

    @documented("data_quality", QualityAnswer, query=QualityQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, QualityQuery)
        told = coverage_of(*_window(query, timezone.now()))
        return Response(answer(told, markets=query["markets"]))


def _window(query: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    until = min(query.get("until") or now, now)
    since: datetime = query.get("since") or until - DAY
    if not since < until <= since + MOST:
        told = "must be before `until` and now, and at most 92 days before"
        raise BadParameters("invalid_parameter", [("since", told)])
    return since, until


def answer(told: Ledger, *, markets: int) -> dict[str, Any]:
    return {
        "since": told.since,
        "until": told.until,
        "share": told.share,
        "blind_seconds": told.blind.total_seconds(),
        "followed": len(told.markets),
        "markets": [_row(each) | {"share": each.share} for each in told.markets[:markets]],
        "missing": [_row(each) for each in told.missing],
        "epochs": [_row(each) for each in told.epochs],
        "drift": [_row(each) for each in told.drift],
    }


def _row(row: MarketCoverage | Missing | Epochs | Drift) -> dict[str, Any]:
    """Return a row's fields; spans get their unit into the name."""
    found = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if isinstance(value, timedelta):
            found[f"{field.name}_seconds"] = value.total_seconds()
        else:
            found[field.name] = value
    return found
