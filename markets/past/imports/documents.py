"""Loaders of JSON files: price histories of events, dumps of a top-of-book cache, and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from markets.fills import PRICE_ONE
from markets.past.imports.reading import (
    Loaded,
    moment_of,
    price_of,
    side_of,
    size_of,
    table,
    text_of,
)
from markets.past.imports.tables import around, finish, not_crossed
from markets.past.listed import ListedEvent, ListedMarket, made_ids
from markets.past.tops import Top
from markets.past.value import NotAPast


def document(path: Path) -> Any:
    try:
        with text_of(path) as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise NotAPast(f"is no JSON: {error}", str(path)) from None


def price_history(path: Path) -> Loaded:
    """Load events with the price history of each outcome and what it paid in the end."""
    loaded = Loaded(path, "price-history", "prices")
    for number, event in enumerate(document(path)["events"], start=1):
        try:
            _event(loaded, number, event)
        except (KeyError, TypeError, AttributeError) as error:
            loaded.refuse(number, "events", f"an event lacks {error}")
    loaded.rows.sort(key=lambda row: row.t)
    loaded.pages.sort(key=lambda page: page[0])
    return loaded


def _event(loaded: Loaded, number: int, event: Mapping[str, Any]) -> None:
    rows = []
    for outcome in event["outcomes"]:
        for point in outcome["history"]:
            with loaded.row(number):
                price = price_of(str(point["p"]), "p")
                rows.append(around(moment_of(str(point["t"]), "t"), outcome["token_id"], price))
    loaded.rows += rows
    if not rows:
        loaded.notes.append(f"event {event['id']} has no price")
        return
    listed = ListedEvent(
        str(event["id"]),
        str(event["title"]),
        tuple(_outcome(outcome, event) for outcome in event["outcomes"]),
        end_at=_time(event["end_date"]),
        slug=str(event["slug"]),
    )
    loaded.pages.append((min(row.t for row in rows), listed))
    over = max(max(row.t for row in rows), moment_of(event["closed_time"], "closed_time"))
    loaded.pages.append((over + 1, _resolved(listed, event["outcomes"])))


def _outcome(outcome: Mapping[str, Any], event: Mapping[str, Any]) -> ListedMarket:
    token = str(outcome["token_id"])
    condition, _, second = made_ids(token)
    name = str(outcome["name"])
    return ListedMarket(
        token,
        f"{event['title']} {name}",
        (condition, token, second),
        tick=10,
        fee=None,
        label=name,
        end_at=_time(event["end_date"]),
    )


def _resolved(event: ListedEvent, outcomes: list[Mapping[str, Any]]) -> ListedEvent:
    """Return the event with its result, told only when it was over."""
    markets = tuple(
        replace(market, state="RESOLVED", payout=Decimal(str(outcome["yes_final_price"])))
        for market, outcome in zip(event.markets, outcomes, strict=True)
    )
    return replace(event, markets=markets)


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def top_dump(path: Path) -> Loaded:
    """Load a dump of a top-of-book cache: one touch a token, with sizes, at one moment."""
    loaded = Loaded(path, "top-dump", "tops")
    told = document(path)
    at = moment_of(str(told["snapshotAt"]), "snapshotAt")
    for number, (token, top) in enumerate(told["topOfBookByAssetId"].items(), start=1):
        with loaded.row(number):
            bid, bid_size = _level(top, "bestBid", empty=0)
            ask, ask_size = _level(top, "bestAsk", empty=PRICE_ONE)
            not_crossed(bid, ask)
            loaded.rows.append(Top(at, token, bid, ask, bid_size, ask_size))
    return finish(loaded)


def _level(top: Mapping[str, Any], name: str, *, empty: int) -> tuple[int, int]:
    """Return price and size of a side; one without a size is nobody's."""
    size = size_of(str(top[f"{name}Size"] or 0), f"{name}Size")
    price = side_of(str(top[name] if top[name] is not None else ""), name, empty=empty)
    return (empty, 0) if price == empty or not size else (price, size)


def labels(path: Path) -> dict[str, Decimal]:
    """Read what markets paid: slug, y (0 or 1)."""
    found = {}
    for _, row in table(path):
        if row["y"] in ("0", "1"):
            found[row["slug"]] = Decimal(row["y"])
    return found


def with_results(loaded: Loaded, paid: Mapping[str, Decimal]) -> Loaded:
    """Tell results once the last quote of an event has come; nothing of them is known before."""
    lasts: dict[str, int] = {}
    for row in loaded.rows:
        lasts[row.market_id] = row.t
    for _, event in list(loaded.pages):
        members = [market for market in event.markets if market.market_id in paid]
        if members:
            over = max(lasts[market.market_id] for market in event.markets)
            markets = tuple(
                replace(market, state="RESOLVED", payout=paid[market.market_id])
                if market.market_id in paid
                else market
                for market in event.markets
            )
            loaded.pages.append((over + 1, replace(event, markets=markets)))
    loaded.pages.sort(key=lambda page: page[0])
    return loaded
