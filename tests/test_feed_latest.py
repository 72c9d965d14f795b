"""Prices and health on the live feed: a snapshot, then what changes, the latest only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from alerts.feedlog import Place
from markets.models import Market, Quote
from mpx_site import feed_latest, feed_ticket, health
from mpx_site import feed_words as words
from mpx_site.feed_hub import Hub
from mpx_site.feed_latest import Latest
from mpx_site.feed_words import Message
from tests import portal_cast as cast
from tests.feed_memory import NOON, MemoryLog, connected, hearable_without_database


class Prices(Latest):
    """Prices that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.asks: dict[str, str] = {"1": "0.5", "2": "0.6"}

    def strangers(self, channel: str, keys: frozenset[str]) -> tuple[str, ...]:
        if self.is_away:
            raise OperationalError("gone")
        return tuple(sorted(keys - set(self.asks)))

    def snapshot(self, channel: str, keys: frozenset[str]) -> list[Message]:
        return [self.told(key, "snapshot") for key in sorted(keys)]

    def changes(self, wanted: Mapping[str, frozenset[str]]) -> list[Message]:
        found = [self.told(key, "update") for key in sorted(wanted["quotes"]) if key in self.new]
        self.new = set()
        return found

    new: set[str] = set()

    def told(self, key: str, kind: str) -> Message:
        self.place = Place("q", self.place.seq + 1)
        payload = {"key": key, "ask": self.asks[key]}
        return words.message(
            channel="quotes", kind=kind, place=self.place, at=NOON, payload=payload
        )


async def test_client_hears_a_snapshot_of_its_markets_and_then_their_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_ticket, "hearable", hearable_without_database)
    prices = Prices()
    hub = Hub(MemoryLog(), prices, poll_seconds=0.01, beat_seconds=60)
    async with connected(hub) as one, connected(hub) as other:
        refused = await one.subscribe("quotes", keys=["1", "9"])
        assert (refused["code"], "9" in refused["detail"]) == ("unknown_key", True)
        assert (await one.subscribe("quotes", keys=["1", "2"]))["mode"] == "snapshot"
        assert [(await one.hear())["d"]["ask"] for _ in range(2)] == ["0.5", "0.6"]
        await other.subscribe("quotes", keys=["2"])
        await other.hear()

        prices.asks["1"] = "0.4"
        prices.new = {"1"}

        told = await one.hear()
        assert (told["t"], told["d"]) == ("update", {"key": "1", "ask": "0.4"})
        assert await other.receive_nothing()


async def test_prices_without_a_database_are_refused_and_may_be_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_ticket, "hearable", hearable_without_database)
    prices = Prices()
    prices.is_away = True
    async with connected(Hub(MemoryLog(), prices, beat_seconds=60)) as socket:
        assert (await socket.subscribe("quotes", keys=["1"]))["code"] == "unavailable"
        prices.is_away = False
        assert (await socket.subscribe("quotes", keys=["1"]))["mode"] == "snapshot"


def rows(messages: list[Message]) -> list[tuple[str, Any]]:
    return [(json.loads(each.told.text)["t"], json.loads(each.told.text)["d"]) for each in messages]


@pytest.mark.django_db
def test_quotes_are_told_when_they_differ_from_what_was_told() -> None:
    cast.list_event(cast.view_of(0.30, 0.30, 0.30))
    market = Market.objects.order_by("pk")[0]
    Quote.objects.create(market=market, ask=Decimal("0.3"), state="fresh", at=timezone.now())
    market_id = market.pk
    latest, keys = Latest(), frozenset({market_id})

    assert latest.strangers("quotes", keys | {"nobody"}) == ("nobody",)
    [(kind, first)] = rows(latest.snapshot("quotes", keys))
    assert (kind, first["key"]) == ("snapshot", market_id)
    assert len(latest.changes({"quotes": keys})) == 1
    assert latest.changes({"quotes": keys}) == []
    Quote.objects.filter(pk=market_id).update(ask=Decimal("0.4321"), at=timezone.now())

    [(kind, row)] = rows(latest.changes({"quotes": keys}))
    assert (kind, row["key"], row["ask"]) == ("update", market_id, "0.4321")
    assert set(row) == {"key", *feed_latest.QUOTE_FIELDS}


@pytest.mark.django_db
def test_health_is_told_when_a_state_changes_and_not_as_it_ages() -> None:
    health.checkup.forget()
    latest, wanted = Latest(), {"health": frozenset[str]()}

    [(_, first)] = rows(latest.changes(wanted))
    assert (first["key"], first["status"]) == ("desk", "degraded")
    assert latest.changes(wanted) == []
    cast.beat(at=timezone.now())
    health.checkup.forget()

    [(_, now)] = rows(latest.changes(wanted))
    assert (now["status"], now["rules_heartbeat"]) == ("ok", "ok")
