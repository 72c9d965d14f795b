"""The rules' texts of markets: taken out of the venue's pages, kept beside the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.db import transaction

from markets.listing import BadListing, decode_page, parse_time
from markets.models import Market
from markets.relation_models import MarketText

MOST_RULES = 20_000  # characters kept; the venue's longest are about 6,000
MOST_SOURCE = 1_000
AT_ONCE = 500  # markets in one statement


@dataclass(frozen=True, slots=True)
class RulesText:
    """By what a market settles, as the venue lists it. `opened_at` is when it was listed."""

    market_id: str
    rules: str
    source: str
    opened_at: datetime | None


class _GammaText(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    id: str
    description: str | None = None
    resolution_source: str | None = None
    start_date: str | None = None
    created_at: str | None = None


def texts_in(page: object) -> Iterator[RulesText]:
    """Yield the texts in any decoded Gamma answer; an object that cannot be read is left out.

    So is one that says nothing of its rules: an excerpt, which takes no text away.
    The listing is made of the same objects (`markets.listing.read_page`) and is where
    what is wrong with them is said.
    """
    for market in _markets_in(page):
        try:
            gamma = msgspec.convert(market, _GammaText, strict=False)
            if gamma.description is not None:
                yield _text(gamma)
        except (ValueError, BadListing):
            continue


def _markets_in(page: object) -> Iterator[object]:
    if isinstance(page, list):
        for each in page:
            yield from _markets_in(each)
    elif isinstance(page, dict):
        if "id" in page and "markets" not in page:
            yield page  # a market: the events nested in it are only their heads
        for key in ("events", "markets"):
            if key == "markets" or "id" not in page:
                yield from _markets_in(page.get(key))


def _text(gamma: _GammaText) -> RulesText:
    opened = parse_time(gamma.start_date, "startDate") or parse_time(gamma.created_at, "createdAt")
    return RulesText(
        market_id=gamma.id,
        rules=_storable(gamma.description, MOST_RULES),
        source=_storable(gamma.resolution_source, MOST_SOURCE),
        opened_at=opened,
    )


def _storable(text: str | None, most: int) -> str:
    """Return text as every database takes it: without NUL and half characters."""
    cut = (text or "")[:most]
    return cut.encode("utf-8", "replace").decode().replace("\0", "\ufffd").strip()


class TextsTold:
    """Remembers texts that were told, so that only news of them reach the database."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}  # hashes by market

    def news_in(self, pages: Iterable[bytes]) -> list[RulesText]:
        """Return the texts of undecoded Gamma answers that differ from those last told."""
        news = []
        for page in pages:
            for text in texts_in(_decoded(page)):
                if self._told.get(text.market_id) != hash(text):
                    self._told[text.market_id] = hash(text)
                    news.append(text)
        return news


def _decoded(page: bytes) -> object:
    try:
        return decode_page(page)
    except BadListing:
        return []  # said where the listing itself is read


@transaction.atomic
def store_texts(texts: Iterable[RulesText], *, at: datetime) -> frozenset[str]:
    """Write the texts of stored markets that are new or differ; return the ids of those."""
    wanted = {text.market_id: text for text in texts}
    changed: set[str] = set()
    for ids in chunks(sorted(wanted)):
        known = Market.objects.filter(pk__in=ids).values_list("pk", flat=True)
        stored = {row.pk: row for row in MarketText.objects.filter(pk__in=ids)}
        rows = [_row(wanted[pk], at) for pk in known if not _is_stored(wanted[pk], stored.get(pk))]
        MarketText.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["market"],
            update_fields=["rules", "source", "opened_at", "changed_at"],
        )
        changed |= {row.pk for row in rows}
    return frozenset(changed)


def _row(text: RulesText, at: datetime) -> MarketText:
    return MarketText(
        market_id=text.market_id,
        rules=text.rules,
        source=text.source,
        opened_at=text.opened_at,
        changed_at=at,
    )


def _is_stored(text: RulesText, row: MarketText | None) -> bool:
    if row is None:
        return False
    return (text.rules, text.source, text.opened_at) == (row.rules, row.source, row.opened_at)


def chunks(ids: Iterable[Any]) -> Iterator[list[Any]]:
    """Cut ids into parts that fit one statement."""
    listed = list(ids)
    return (listed[at : at + AT_ONCE] for at in range(0, len(listed), AT_ONCE))
