"""What the API says of signals and markets: rows straight from `.values()`, and their schema.

Rows are shaped by tables instead of serializers, which cost three times as much
on a page of a hundred; the serializers here only describe the same rows to
OpenAPI, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from markets.models import Market, Outcome, Tick
from markets.similar import SimilarMarket
from signals.models import Signal

Row = dict[str, Any]

SIGNAL_COLUMNS = {
    "key": "key",
    "rule": "rule__code",
    "rule_version": "rule_version__number",
    "event_id": "event_id",
    "event_title": "event__title",
    "market_ids": "market_ids",
    "kind": "kind",
    "level": "level",
    "status": "status",
    "verdict": "verdict",
    "blocked_by": "blocked_by",
    "opened_at": "opened_at",
    "changed_at": "changed_at",
    "closed_at": "closed_at",
    "close_reason": "close_reason",
    "edge_score": "edge_score",
    "edge_bps": "edge_bps",
    "peak_edge_bps": "peak_edge_bps",
    "profit": "profit",
    "peak_profit": "peak_profit",
    "cost": "cost",
    "observations": "observations",
    "p_fill": "p_fill",
    "expected_usd": "expected_usd",
    "ml_note": "ml_note",
}
MARKET_COLUMNS = {
    "id": "id",
    "event_id": "event_id",
    "event_title": "event__title",
    "condition_id": "condition_id",
    "question": "question",
    "label": "label",
    "slug": "slug",
    "state": "state",
    "tick_size": "tick_size",
    "min_size": "min_size",
    "fee_rate": "fee_rate",
    "fee_exponent": "fee_exponent",
    "payout": "payout",
    "liquidity": "liquidity",
    "volume": "volume",
    "end_at": "end_at",
    "seen_at": "seen_at",
}
QUOTE_COLUMNS = {
    name: f"quote__{name}" for name in ("bid", "ask", "bid_size", "ask_size", "state", "at")
}
SIMILAR_COLUMNS = ("why", "decided", "inverted", "relation_id", "group_id")
TICK_COLUMNS = ("at", "bid", "ask", "bid_size", "ask_size")


def plain(row: Mapping[str, Any]) -> Row:
    """Return a row with its decimals as text; REST framework would make them floats."""
    return {
        name: format(value, "f") if isinstance(value, Decimal) else value
        for name, value in row.items()
    }


def signal_row(values: Mapping[str, Any]) -> Row:
    return plain({name: values[column] for name, column in SIGNAL_COLUMNS.items()})


def market_rows(markets: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Shape `.values()` of markets, each with its quote and its outcomes (one query more)."""
    kept = list(markets)
    sides = outcomes_of(values["id"] for values in kept)
    return [_market_row(values, sides.get(values["id"], [])) for values in kept]


def similar_rows(similar: Iterable[SimilarMarket]) -> list[Row]:
    """Return similar markets in their order, each as any market is told (two queries)."""
    listed = list(similar)
    columns = (*MARKET_COLUMNS.values(), *QUOTE_COLUMNS.values())
    found = Market.objects.filter(id__in=[each.market.pk for each in listed]).values(*columns)
    markets = {row["id"]: row for row in market_rows(found)}
    return [
        {name: getattr(each, name) for name in SIMILAR_COLUMNS}
        | {"market": markets[each.market.pk]}
        for each in listed
    ]


def _market_row(values: Mapping[str, Any], outcomes: list[Row]) -> Row:
    row = plain({name: values[column] for name, column in MARKET_COLUMNS.items()})
    quote = quote_of(values)
    return row | {
        "quote": quote and plain(quote),
        "outcomes": [plain(side | top_of(quote, side["index"])) for side in outcomes],
    }


def quote_of(values: Mapping[str, Any]) -> Row | None:
    """Return the market's latest top of book for its first outcome; None before the first."""
    if values["quote__at"] is None:
        return None
    return {name: values[column] for name, column in QUOTE_COLUMNS.items()}


def outcomes_of(market_ids: Iterable[str]) -> dict[str, list[Row]]:
    """Return the outcomes of each market, first outcome first."""
    found: dict[str, list[Row]] = {}
    rows = Outcome.objects.filter(market_id__in=list(market_ids)).order_by("market_id", "index")
    for market_id, *side in rows.values_list("market_id", "token_id", "index", "label"):
        found.setdefault(market_id, []).append(
            dict(zip(("token_id", "index", "label"), side, strict=True))
        )
    return found


def top_of(top: Mapping[str, Any] | None, index: int) -> dict[str, Decimal | None]:
    """Return bid and ask of one outcome; the second is the mirror of the first."""
    if top is None:
        return {"bid": None, "ask": None}
    bid, ask = top["bid"], top["ask"]
    if index == 0:
        return {"bid": bid, "ask": ask}
    return {
        "bid": None if ask is None else 1 - ask,
        "ask": None if bid is None else 1 - bid,
    }


def recent_ticks(market_id: str, *, limit: int) -> list[Row]:
    """Return the newest changes of a market's top of book, newest first."""
    newest = Tick.objects.filter(market_id=market_id).order_by("-at")[:limit]
    return [dict(row) for row in newest.values(*TICK_COLUMNS)]


def described(model: type[Any], name: str) -> serializers.DecimalField:
    """Describe a model's decimal column; the API writes it as a string."""
    column = model._meta.get_field(name)
    return serializers.DecimalField(
        max_digits=column.max_digits,
        decimal_places=column.decimal_places,
        allow_null=column.null,
        coerce_to_string=True,
    )


def price() -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=6, decimal_places=4, allow_null=True)


def size() -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=20, decimal_places=6, allow_null=True)


class ParameterError(serializers.Serializer[Any]):
    name = serializers.CharField()
    reason = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """RFC 9457. `code` is for programs, `detail` for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    instance = serializers.CharField()
    trace_id = serializers.CharField(help_text="Names the request in the log of the desk.")
    errors = ParameterError(many=True, required=False)  # type: ignore[assignment]


class SignalRow(serializers.Serializer[Any]):
    key = serializers.CharField(help_text="Derived from the signal's content.")
    rule = serializers.CharField()
    rule_version = serializers.IntegerField()
    event_id = serializers.CharField(allow_null=True)
    event_title = serializers.CharField(allow_null=True)
    market_ids = serializers.ListField(child=serializers.CharField())
    kind = serializers.CharField()
    level = serializers.ChoiceField(choices=Signal.Level.choices)
    status = serializers.ChoiceField(choices=Signal.Status.choices)
    verdict = serializers.CharField()
    blocked_by = serializers.ListField(child=serializers.CharField())
    opened_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    close_reason = serializers.CharField(allow_blank=True)
    edge_score = described(Signal, "edge_score")
    edge_bps = described(Signal, "edge_bps")
    peak_edge_bps = described(Signal, "peak_edge_bps")
    profit = described(Signal, "profit")
    peak_profit = described(Signal, "peak_profit")
    cost = described(Signal, "cost")
    observations = serializers.IntegerField()
    p_fill = described(Signal, "p_fill")
    expected_usd = described(Signal, "expected_usd")
    ml_note = serializers.CharField(
        allow_blank=True, help_text="Why there is no chance to fill; empty where there is one."
    )


class SignalPointRow(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    change = serializers.CharField()
    level = serializers.CharField()
    edge_bps = serializers.DecimalField(max_digits=12, decimal_places=2)
    profit = serializers.DecimalField(max_digits=18, decimal_places=6)


class SignalDetail(SignalRow):
    payload = serializers.DictField(help_text="The opportunity as `scan` prints it.")
    points = SignalPointRow(many=True, help_text="Its changes, newest first.")


class SignalPage(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True, help_text="Address of the next page.")
    results = SignalRow(many=True)


class TickRow(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    bid = price()
    ask = price()
    bid_size = size()
    ask_size = size()


class QuoteRow(TickRow):
    state = serializers.CharField(help_text="fresh, stale, awaiting, crossed or batch")


class OutcomeRow(serializers.Serializer[Any]):
    token_id = serializers.CharField()
    index = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]
    bid = price()
    ask = price()


class MarketRow(serializers.Serializer[Any]):
    id = serializers.CharField()
    event_id = serializers.CharField(allow_null=True)
    event_title = serializers.CharField(allow_null=True)
    condition_id = serializers.CharField(allow_blank=True)
    question = serializers.CharField()
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    slug = serializers.CharField(allow_blank=True)
    state = serializers.ChoiceField(choices=Market.State.choices)
    tick_size = described(Market, "tick_size")
    min_size = described(Market, "min_size")
    fee_rate = described(Market, "fee_rate")
    fee_exponent = serializers.IntegerField()
    payout = described(Market, "payout")
    liquidity = described(Market, "liquidity")
    volume = described(Market, "volume")
    end_at = serializers.DateTimeField(allow_null=True)
    seen_at = serializers.DateTimeField()
    quote = QuoteRow(allow_null=True, help_text="Of the first outcome.")
    outcomes = OutcomeRow(many=True)


class MarketDetail(MarketRow):
    ticks = TickRow(many=True, help_text="Of the first outcome, newest first.")


class MarketPage(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True, help_text="Address of the next page.")
    results = MarketRow(many=True)


class SimilarRow(serializers.Serializer[Any]):
    market = MarketRow()
    why = serializers.CharField(help_text="What the other market is to this one.")
    decided = serializers.BooleanField(help_text="A person said so; else matching found it.")
    inverted = serializers.BooleanField(help_text="It asks the opposite.")
    relation_id = serializers.IntegerField(allow_null=True)
    group_id = serializers.IntegerField(allow_null=True)


class SimilarPage(serializers.Serializer[Any]):
    results = SimilarRow(many=True)
