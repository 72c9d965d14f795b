"""What the venue said of events and markets at a moment, from the rows of now and their history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import Frame, moment, unix_ns
from markets.models import Event, Market, Outcome, TermsChange
from markets.past.listed import ListedEvent, ListedMarket, made_ids

Ids = dict[str, tuple[str, str, str]]
Field = TermsChange.Field
NEVER = 2**63
NEW_WITHIN = 3_600_000_000_000  # ns between what the venue told and our own row
UNLISTED = Market.State.UNLISTED


@dataclass(slots=True)
class Terms:
    """The listings of a window: pages at its beginning and at each change inside it."""

    ids: Ids  # condition and tokens by market id
    pages: list[Frame]


def terms_between(since: int, until: int, *, first_seen: Mapping[str, int]) -> Terms:
    """Return what was listed from `since` to `until` (unix ns), as it was known then.

    Told of are the events of the markets in `first_seen`, which says since when each is
    seen in the data. A market that became known inside the window is listed from then on.
    Only its own terms have a history; an event that is neg-risk counts as always so.
    """
    markets = _markets(first_seen)
    sides = _sides()
    ids = {market.pk: _ids(market, sides.get(market.pk, {})) for market in markets}
    now = {
        market.pk: _listed(market, ids[market.pk], sides.get(market.pk, {})) for market in markets
    }
    changes = _changes(since)
    for change in reversed(changes):  # from now back to the beginning of the window
        if change.market_id in now:
            now[change.market_id] = _with(now[change.market_id], change.field, change.old)
    births = _births(markets, changes, first_seen)
    return Terms(ids, list(_pages(markets, now, births, changes, since, until)))


def _markets(seen: Collection[str]) -> list[Market]:
    """Return the markets that were seen, with all others of their events."""
    rows = Market.objects.select_related("event").order_by("id")
    events = {row.event_id for row in rows if row.pk in seen and row.event_id}
    return [row for row in rows if row.pk in seen or row.event_id in events]


def _changes(since: int) -> list[TermsChange]:
    return [*TermsChange.objects.filter(at__gt=moment(since)).order_by("at", "id")]


def _births(
    markets: list[Market], changes: list[TermsChange], first_seen: Mapping[str, int]
) -> dict[str, int]:
    """Return since when each market is listed: with its event, unless it was added later.

    An event without some of its outcomes would look as if those that are there were all.
    """
    seen: dict[str, int] = {}
    for market in markets:
        key = market.event_id or market.pk
        known = min(unix_ns(market.created_at), first_seen.get(market.pk, NEVER))
        seen[key] = min(seen.get(key, NEVER), known)
    born = {market.pk: unix_ns(market.created_at) for market in markets}
    added = {
        change.market_id: unix_ns(change.at)
        for change in reversed(changes)
        if change.field == Field.LEG
        and not change.old
        # A row from before: it was listed, went, and came back, which its state tells.
        and born.get(change.market_id, 0) >= unix_ns(change.at) - NEW_WITHIN
    }
    return {
        market.pk: max(seen[market.event_id or market.pk], added.get(market.pk, 0))
        for market in markets
    }


def _sides() -> dict[str, dict[int, Outcome]]:
    found: dict[str, dict[int, Outcome]] = defaultdict(dict)
    for outcome in Outcome.objects.order_by("market_id", "index"):
        found[outcome.market_id][outcome.index] = outcome
    return found


def _ids(market: Market, sides: dict[int, Outcome]) -> tuple[str, str, str]:
    condition, first, second = made_ids(market.pk)
    if len(sides) == 2:
        first, second = sides[0].token_id, sides[1].token_id
    return market.condition_id or condition, first, second


def _listed(market: Market, ids: tuple[str, str, str], sides: dict[int, Outcome]) -> ListedMarket:
    fee = None if market.fee_rate is None else (f"{market.fee_rate:f}", market.fee_exponent)
    return ListedMarket(
        market.pk,
        market.question,
        ids,
        outcomes=(sides[0].label, sides[1].label) if len(sides) == 2 else ("Yes", "No"),
        tick=int(market.tick_size * PRICE_ONE),
        min_size=int(market.min_size * SIZE_ONE),
        fee=fee,
        state=market.state,
        payout=market.payout,
        end_at=market.end_at,
        label=market.label,
        other=market.other,
        leg_number=market.leg_number,
    )


def _with(market: ListedMarket, field: str, value: str) -> ListedMarket:
    """Return a market with one of its terms as a row of history has it."""
    if field == Field.TICK_SIZE:
        return replace(market, tick=int(Decimal(value or "0.01") * PRICE_ONE))
    if field == Field.MIN_SIZE:
        return replace(market, min_size=int(Decimal(value or "5") * SIZE_ONE))
    if field == Field.FEE_RATE:
        exponent = market.fee[1] if market.fee else 1
        return replace(market, fee=(value, exponent) if value else None)
    if field == Field.FEE_EXPONENT and market.fee:
        return replace(market, fee=(market.fee[0], int(value or "1")))
    if field == Field.QUESTION:
        return replace(market, question=value)
    if field == Field.END_AT:
        return replace(market, end_at=datetime.fromisoformat(value) if value else None)
    if field == Field.STATE:
        return replace(market, state=value or UNLISTED)
    if field == Field.PAYOUT:
        return replace(market, payout=Decimal(value) if value else None)
    return market


def _pages(
    markets: list[Market],
    then: dict[str, ListedMarket],
    born_at: dict[str, int],
    changes: list[TermsChange],
    since: int,
    until: int,
) -> Iterator[Frame]:
    """Yield each event as of `since`, and again whenever something in it changed."""
    groups: dict[str, list[Market]] = defaultdict(list)
    for market in markets:
        groups[market.event_id or market.pk].append(market)
    group_of = {market.pk: key for key, members in groups.items() for market in members}
    news: dict[int, list[TermsChange]] = defaultdict(list)
    for change in changes:
        if change.market_id in group_of:
            news[unix_ns(change.at)].append(change)
    moments = {since, *news, *born_at.values()}
    told: set[str] = set()
    for t in sorted(each for each in moments if since <= each < until):
        touched = {group_of[change.market_id] for change in news.get(t, ())}
        for change in news.get(t, ()):
            then[change.market_id] = _with(then[change.market_id], change.field, change.new)
        touched |= {group_of[pk] for pk, born in born_at.items() if born == t}
        for key in sorted(groups) if t == since else sorted(touched):
            members = [then[each.pk] for each in groups[key] if born_at[each.pk] <= t]
            legs = tuple(each for each in members if each.state != UNLISTED)
            if legs or key in told:
                told.add(key)
                yield _event(groups[key][0].event, key, legs).frame(t)


def _event(event: Event | None, key: str, legs: tuple[ListedMarket, ...]) -> ListedEvent:
    if event is None:
        return ListedEvent(key, legs[0].question if legs else key, legs)
    return ListedEvent(
        event.pk,
        event.title,
        legs,
        neg_risk=event.neg_risk,
        augmented=event.augmented,
        end_at=event.end_at,
        tags=tuple(map(str, event.tags)),
        slug=event.slug,
    )
