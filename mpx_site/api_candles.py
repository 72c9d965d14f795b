"""`/api/v1/markets/{id}/candles`: a market's touch by minute or hour."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from markets.candles import MOST, WIDTHS, Candle, candles
from markets.models import Market
from mpx_site.api import documented
from mpx_site.api_answers import BadParameters, asked
from mpx_site.api_rows import Row, plain
from mpx_site.api_view import ApiView

FIELDS = tuple(Candle.__dataclass_fields__)
DEFAULT_CANDLES = 240
PLACES = Decimal("0.00001")  # half a tick of 0.0001
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def in_our_time(at: datetime) -> None:
    """Raise `ValidationError` for a time from which no window can be reckoned."""
    if not EARLIEST <= at <= LATEST:
        raise serializers.ValidationError("must lie between 2000 and 2100")


class CandleQuery(serializers.Serializer[Any]):
    width = serializers.ChoiceField(choices=sorted(WIDTHS), default="1h")
    since = serializers.DateTimeField(
        required=False,
        validators=[in_our_time],
        help_text=f"Else {DEFAULT_CANDLES} candles before `until`.",
    )
    until = serializers.DateTimeField(
        required=False, validators=[in_our_time], help_text="Else now."
    )


def _price(told: str) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=8, decimal_places=5, allow_null=True, help_text=told)


class CandleRow(serializers.Serializer[Any]):
    """One minute or hour with at least one change of the best prices."""

    start = serializers.DateTimeField()
    open = _price("Middle of bid and ask, the first of it; null: no change had both.")
    high = _price("The highest middle.")
    low = _price("The lowest middle.")
    close = _price("The last middle.")
    bid = _price("The last bid; null: there was none.")
    ask = _price("The last ask; null: there was none.")
    high_bid = _price("The best bid.")
    low_ask = _price("The best ask.")
    ticks = serializers.IntegerField(help_text="Changes of the best prices.")


class Candles(serializers.Serializer[Any]):
    width = serializers.ChoiceField(choices=sorted(WIDTHS))
    results = CandleRow(many=True, help_text=f"Oldest first; the newest {MOST} of a long window.")


class MarketCandles(ApiView):
    """Candles of the first outcome; for the second, 1 minus each with bid and ask exchanged."""

    @documented("markets_candles", Candles, query=CandleQuery)
    def get(self, request: Request, market_id: str) -> Response:
        query = asked(request, CandleQuery)
        if not Market.objects.filter(id=market_id).exists():
            raise exceptions.NotFound(f"No market has the id {market_id}.")
        width, until = query["width"], query.get("until") or timezone.now()
        since = query.get("since") or until - DEFAULT_CANDLES * WIDTHS[width]
        if since >= until:
            raise BadParameters("invalid_parameter", [("since", "must be before until")])
        found = candles(market_id, since=since, until=until, width=width)
        return Response({"width": width, "results": [plain(_row(each)) for each in found]})


def _row(candle: Candle) -> Row:
    values = {name: getattr(candle, name) for name in FIELDS}
    return {
        name: value.quantize(PLACES) if isinstance(value, Decimal) else value
        for name, value in values.items()
    }
