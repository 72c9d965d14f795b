"""Channels of which only the latest value counts: prices of single markets, and health."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from django.utils import timezone

from alerts.feedlog import Place
from markets.models import Market, Quote
from mpx_site import feed_words as words
from mpx_site.api_rows import plain
from mpx_site.feed_words import Message
from mpx_site.health import checkup

AT_ONCE = 500  # keys in one query
QUOTE_FIELDS = ("bid", "ask", "bid_size", "ask_size", "state", "at")
DESK = "desk"  # the one key of health

Row = dict[str, Any]


class Latest:
    """What these channels told last. Used by the hub, in its one database thread."""

    def __init__(self) -> None:
        self.place = Place(secrets.token_hex(4), 0)
        self._told: dict[tuple[str, str], Row] = {}

    def strangers(self, channel: str, keys: frozenset[str]) -> tuple[str, ...]:
        """Return the keys that nobody knows, in order."""
        if channel != "quotes":
            return ()
        known = Market.objects.filter(pk__in=keys).values_list("pk", flat=True)
        return tuple(sorted(keys - set(known)))

    def snapshot(self, channel: str, keys: frozenset[str]) -> list[Message]:
        """Return what is known now. A market without a quote says nothing yet."""
        return [self._tell(channel, "snapshot", row) for row in _rows(channel, keys)]

    def changes(self, wanted: Mapping[str, frozenset[str]]) -> list[Message]:
        """Return what differs from what was last told of the keys that somebody wants."""
        told = []
        for channel, keys in wanted.items():
            for row in _rows(channel, keys):
                if self._told.get((channel, row["key"])) != row:
                    self._told[channel, row["key"]] = row
                    told.append(self._tell(channel, "update", row))
        self._forget(wanted)
        return told

    def _tell(self, channel: str, kind: str, row: Row) -> Message:
        self.place = Place(self.place.epoch, self.place.seq + 1)
        at = row.get("at") or timezone.now()
        return words.message(channel=channel, kind=kind, place=self.place, at=at, payload=row)

    def _forget(self, wanted: Mapping[str, frozenset[str]]) -> None:
        self._told = {
            (channel, key): row
            for (channel, key), row in self._told.items()
            if key in (wanted.get(channel) or {DESK})
        }


def _rows(channel: str, keys: frozenset[str]) -> Iterable[Row]:
    return _quotes(sorted(keys)) if channel == "quotes" else [_health()]


def _quotes(keys: list[str]) -> Iterable[Row]:
    for start in range(0, len(keys), AT_ONCE):
        some = Quote.objects.filter(pk__in=keys[start : start + AT_ONCE])
        for row in some.values("market_id", *QUOTE_FIELDS):
            yield {"key": row.pop("market_id")} | plain(row)


def _health() -> Row:
    """Return the desk's states without their ages, which change all the time."""
    row: Row = checkup.get().row()
    components = {name: each["state"] for name, each in row["components"].items()}
    named = {name: row[name] for name in ("status", "db", "rules_heartbeat")}
    return {"key": DESK} | named | {"components": components}
