"""`/api/v1`: signals and markets, read-only, for programs. See `docs/api.md`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from markets.models import Market
from markets.similar import similar_markets
from mpx_site.api_answers import (
    PROBLEM_JSON,
    NoQuery,
    PagedQuery,
    asked,
    page,
    read_cursor,
    write_cursor,
)
from mpx_site.api_rows import (
    MARKET_COLUMNS,
    QUOTE_COLUMNS,
    SIGNAL_COLUMNS,
    MarketDetail,
    MarketPage,
    Problem,
    SignalDetail,
    SignalPage,
    SimilarPage,
    market_rows,
    plain,
    recent_ticks,
    signal_row,
    similar_rows,
)
from mpx_site.api_view import ApiView
from signals.models import Signal, SignalPoint

View = TypeVar("View", bound=Callable[..., Response])

POINTS_SHOWN = 500
TICKS_SHOWN = 200


def documented(
    operation: str, answer: Any, *, query: type[serializers.Serializer[Any]] | None = None
) -> Callable[[View], View]:
    """Describe a read-only view to OpenAPI, its refusals included."""
    refusals = {(status, PROBLEM_JSON): Problem for status in (400, 401, 403, 404, 503)}
    described: Callable[[View], View] = extend_schema(
        operation_id=operation,
        parameters=[query] if query else [],
        responses={200: answer, **refusals},
    )
    return described


class SignalQuery(PagedQuery):
    level = serializers.ChoiceField(choices=Signal.Level.choices, required=False)
    status = serializers.ChoiceField(choices=Signal.Status.choices, required=False)
    rule = serializers.CharField(required=False, help_text="Code of the rule.")
    kind = serializers.CharField(required=False)
    event = serializers.CharField(required=False, help_text="Id of the event.")
    since = serializers.DateTimeField(required=False, help_text="Opened at or after.")
    until = serializers.DateTimeField(required=False, help_text="Opened before.")


SIGNAL_FILTERS = {
    "level": "level",
    "status": "status",
    "rule": "rule__code",
    "kind": "kind",
    "event": "event_id",
    "since": "opened_at__gte",
    "until": "opened_at__lt",
}


class MarketQuery(PagedQuery):
    state = serializers.ChoiceField(choices=Market.State.choices, required=False)
    event = serializers.CharField(required=False, help_text="Id of the event.")
    q = serializers.CharField(required=False, max_length=100, help_text="Part of the question.")


MARKET_FILTERS = {"state": "state", "event": "event_id", "q": "question__icontains"}


class Signals(ApiView):
    """Signals, newest first. A page after a page never repeats one, whatever opens meanwhile."""

    @documented("signals_list", SignalPage, query=SignalQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, SignalQuery)
        found = Signal.objects.filter(**_filters(query, SIGNAL_FILTERS))
        position = read_cursor(query.get("cursor"), tuple[datetime, int])
        size = query["page_size"]
        rest = _signals_after(found, position).values("id", *SIGNAL_COLUMNS.values())
        rows = list(rest[: size + 1])
        last = rows[size - 1] if len(rows) > size else None
        cursor = write_cursor((last["opened_at"], last["id"])) if last else None
        return Response(page(request, list(map(signal_row, rows[:size])), next_cursor=cursor))


def _signals_after(
    found: QuerySet[Signal], position: tuple[datetime, int] | None
) -> QuerySet[Signal]:
    newest = found.order_by("-opened_at", "-id")
    if position is None:
        return newest
    opened_at, last_id = position
    return newest.filter(
        Q(opened_at__lt=opened_at) | Q(opened_at=opened_at, id__lt=last_id),
        opened_at__lte=opened_at,  # the part of the condition that the index can serve
    )


class SignalByKey(ApiView):
    """One signal with its arithmetic and its changes."""

    @documented("signals_retrieve", SignalDetail)
    def get(self, request: Request, key: str) -> Response:
        asked(request, NoQuery)
        columns = SIGNAL_COLUMNS.values()
        values = Signal.objects.filter(key=key).values("id", "payload", *columns).first()
        if values is None:
            raise exceptions.NotFound(f"No signal has the key {key}.")
        points = SignalPoint.objects.filter(signal_id=values["id"]).order_by("-at", "-id")
        told = points.values("at", "change", "level", "edge_bps", "profit")[:POINTS_SHOWN]
        return Response(
            signal_row(values) | {"payload": values["payload"], "points": list(map(plain, told))}
        )


class Markets(ApiView):
    """Markets by id, so that pages stay in place while liquidity moves."""

    @documented("markets_list", MarketPage, query=MarketQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, MarketQuery)
        found = Market.objects.filter(**_filters(query, MARKET_FILTERS)).order_by("id")
        position = read_cursor(query.get("cursor"), tuple[str])
        if position:
            found = found.filter(id__gt=position[0])
        size = query["page_size"]
        rows = list(found.values(*MARKET_COLUMNS.values(), *QUOTE_COLUMNS.values())[: size + 1])
        cursor = write_cursor((rows[size - 1]["id"],)) if len(rows) > size else None
        return Response(page(request, market_rows(rows[:size]), next_cursor=cursor))


class MarketById(ApiView):
    """One market with both outcomes, its quote and its newest ticks."""

    @documented("markets_retrieve", MarketDetail)
    def get(self, request: Request, market_id: str) -> Response:
        asked(request, NoQuery)
        columns = (*MARKET_COLUMNS.values(), *QUOTE_COLUMNS.values())
        rows = market_rows(Market.objects.filter(id=market_id).values(*columns))
        if not rows:
            raise exceptions.NotFound(f"No market has the id {market_id}.")
        ticks = recent_ticks(market_id, limit=TICKS_SHOWN)
        return Response(rows[0] | {"ticks": list(map(plain, ticks))})


class SimilarMarkets(ApiView):
    """Markets that speak of the same: related ones first, then those of its groups."""

    @documented("markets_similar", SimilarPage)
    def get(self, request: Request, market_id: str) -> Response:
        asked(request, NoQuery)
        market = Market.objects.filter(id=market_id).first()
        if market is None:
            raise exceptions.NotFound(f"No market has the id {market_id}.")
        return Response({"results": similar_rows(similar_markets(market))})


class NoSuchPath(ApiView):
    """Anything else under `/api/`, whatever the method."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise exceptions.NotFound(f"There is no {request.path}. /api/schema/ lists what there is.")


def _filters(query: dict[str, Any], table: dict[str, str]) -> dict[str, Any]:
    return {lookup: query[name] for name, lookup in table.items() if name in query}
