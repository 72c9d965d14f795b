"""The paths and shapes that MPX was founded on (`/api/markets`, `/api/signals`).

They stay as they were for the tools that call them: lists with limit and
offset, numbers as JSON numbers. New callers use `/api/v1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.models import OutboxEntry
from markets.models import Market
from mpx_site.api import documented
from mpx_site.api_answers import NoQuery, asked
from mpx_site.api_rows import QUOTE_COLUMNS, Row, outcomes_of, quote_of, recent_ticks, top_of
from mpx_site.api_view import ApiView
from signals.models import Signal
from signals.store import alert_key

SPARK_TICKS = 100
STATUS_OF = {
    Market.State.TRADABLE: "active",
    Market.State.PAUSED: "paused",
    Market.State.PLACEHOLDER: "placeholder",
    Market.State.CLOSED: "closed",
    Market.State.RESOLVED: "resolved",
    Market.State.UNLISTED: "unlisted",
}
STATE_OF = {status: state for state, status in STATUS_OF.items()}
STATUSES = list(STATE_OF)
MARKET_VALUES = ("id", "question", "state", "end_at", "event__tags", *QUOTE_COLUMNS.values())
SIGNAL_VALUES = (
    "id",
    "key",
    "rule__code",
    "level",
    "status",
    "edge_score",
    "market_ids",
    "payload",
    "opened_at",
)


class OffsetQuery(serializers.Serializer[Any]):
    limit = serializers.IntegerField(required=False, default=20, min_value=1, max_value=200)
    offset = serializers.IntegerField(required=False, default=0, min_value=0, max_value=100_000)


class SeedMarketQuery(OffsetQuery):
    status = serializers.ChoiceField(
        choices=STATUSES,
        required=False,
        default="active",
        allow_blank=True,
        help_text="Empty: any.",
    )


class SeedSignalQuery(OffsetQuery):
    level = serializers.ChoiceField(choices=Signal.Level.choices, required=False)
    since = serializers.DateTimeField(required=False, help_text="Opened at or after.")


class SeedOption(serializers.Serializer[Any]):
    option_id = serializers.CharField(help_text="The outcome's token.")
    label = serializers.CharField()  # type: ignore[assignment]
    last_price = serializers.FloatField(
        allow_null=True, help_text="Middle of bid and ask; nobody trades at it."
    )
    last_ts = serializers.DateTimeField(allow_null=True)
    bid = serializers.FloatField(allow_null=True)
    ask = serializers.FloatField(allow_null=True)


class SeedMarket(serializers.Serializer[Any]):
    market_id = serializers.CharField()
    title = serializers.CharField()
    platform = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES)
    ends_at = serializers.DateTimeField(allow_null=True)
    tags = serializers.ListField(child=serializers.CharField())
    last_updated = serializers.DateTimeField(allow_null=True)
    options = SeedOption(many=True)


class SeedSparkPoint(serializers.Serializer[Any]):
    ts = serializers.DateTimeField()
    market_id = serializers.CharField()
    option_id = serializers.CharField()
    price = serializers.FloatField(allow_null=True)
    best_bid = serializers.FloatField(allow_null=True)
    best_ask = serializers.FloatField(allow_null=True)


class SeedMarketDetail(SeedMarket):
    sparkline = SeedSparkPoint(many=True, help_text="Newest first.")


class SeedSignal(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    signal_id = serializers.IntegerField(help_text="The same as `id`.")
    key = serializers.CharField()
    rule = serializers.CharField()
    level = serializers.ChoiceField(choices=Signal.Level.choices)
    status = serializers.ChoiceField(choices=Signal.Status.choices)
    market_id = serializers.CharField(allow_null=True, help_text="The first of `market_ids`.")
    market_ids = serializers.ListField(child=serializers.CharField())
    option_id = serializers.CharField(allow_null=True, help_text="Null for several legs.")
    edge_score = serializers.FloatField(
        help_text="Profit over cost; the expected one while a model is active."
    )
    payload_json = serializers.DictField(
        help_text="The opportunity as `scan` prints it; `transport`: what told its alert."
    )
    created_at = serializers.DateTimeField(help_text="When it opened.")


class SeedMarkets(ApiView):
    """Markets, most liquid first."""

    @documented("seed_markets_list", SeedMarket(many=True), query=SeedMarketQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, SeedMarketQuery)
        found = Market.objects.order_by("-liquidity", "id")
        if query["status"]:
            found = found.filter(state=STATE_OF[query["status"]])
        rows = list(found.values(*MARKET_VALUES)[_window(query)])
        sides = outcomes_of(row["id"] for row in rows)
        return Response([_market(row, sides.get(row["id"], [])) for row in rows])


class SeedMarketById(ApiView):
    """One market with its options and its newest ticks."""

    @documented("seed_markets_retrieve", SeedMarketDetail)
    def get(self, request: Request, market_id: str) -> Response:
        asked(request, NoQuery)
        row = Market.objects.filter(id=market_id).values(*MARKET_VALUES).first()
        if row is None:
            raise exceptions.NotFound("Market not found")
        sides = outcomes_of([market_id]).get(market_id, [])
        ticks = recent_ticks(market_id, limit=SPARK_TICKS)
        sparkline = [_spark(market_id, tick, side) for tick in ticks for side in sides]
        return Response(_market(row, sides) | {"sparkline": sparkline})


class SeedSignals(ApiView):
    """Signals, newest first."""

    @documented("seed_signals_list", SeedSignal(many=True), query=SeedSignalQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, SeedSignalQuery)
        found = Signal.objects.order_by("-opened_at", "-id")
        if "level" in query:
            found = found.filter(level=query["level"])
        if "since" in query:
            found = found.filter(opened_at__gte=query["since"])
        rows = list(found.values(*SIGNAL_VALUES)[_window(query)])
        told = _transports(row["key"] for row in rows)
        return Response([_signal(row, told) for row in rows])


def _window(query: Mapping[str, Any]) -> slice:
    return slice(query["offset"], query["offset"] + query["limit"])


def _market(values: Mapping[str, Any], sides: list[Row]) -> Row:
    quote = quote_of(values)
    at = quote["at"] if quote else None
    return {
        "market_id": values["id"],
        "title": values["question"],
        "platform": "polymarket",
        "status": STATUS_OF[values["state"]],
        "ends_at": values["end_at"],
        "tags": values["event__tags"] or [],
        "last_updated": at,
        "options": [_option(side, quote, at) for side in sides],
    }


def _option(side: Row, quote: Row | None, at: object) -> Row:
    top = top_of(quote, side["index"])
    return {
        "option_id": side["token_id"],
        "label": side["label"],
        "last_price": _middle(top),
        "last_ts": at,
        "bid": _number(top["bid"]),
        "ask": _number(top["ask"]),
    }


def _spark(market_id: str, tick: Row, side: Row) -> Row:
    top = top_of(tick, side["index"])
    return {
        "ts": tick["at"],
        "market_id": market_id,
        "option_id": side["token_id"],
        "price": _middle(top),
        "best_bid": _number(top["bid"]),
        "best_ask": _number(top["ask"]),
    }


def _transports(keys: Iterable[str]) -> dict[str, str]:
    """Return what told the alert of each signal, with commas between voices; "" while it waits
    or was held back."""
    alerts = {alert_key(key): key for key in keys}
    rows = OutboxEntry.objects.filter(key__in=alerts).values_list("key", "transport")
    told: dict[str, list[str]] = {}
    for key, transport in rows.order_by("id"):
        told.setdefault(alerts[key], []).extend([transport] if transport else [])
    return {key: ",".join(transports) for key, transports in told.items()}


def _signal(values: Mapping[str, Any], told: Mapping[str, str]) -> Row:
    legs, alerted = values["payload"].get("legs", []), told.get(values["key"])
    return {
        "id": values["id"],
        "signal_id": values["id"],
        "key": values["key"],
        "rule": values["rule__code"],
        "level": values["level"],
        "status": values["status"],
        "market_id": next(iter(values["market_ids"]), None),
        "market_ids": values["market_ids"],
        "option_id": legs[0]["token_id"] if len(legs) == 1 else None,
        "edge_score": float(values["edge_score"]),
        "payload_json": values["payload"] | ({"transport": alerted} if alerted else {}),
        "created_at": values["opened_at"],
    }


def _middle(top: Mapping[str, Decimal | None]) -> float | None:
    """Return the middle of bid and ask; None while one of them is missing."""
    bid, ask = top["bid"], top["ask"]
    return None if bid is None or ask is None else float((bid + ask) / 2)


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
