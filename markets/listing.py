"""What the venue says about events and markets, as typed values (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

import msgspec

from markets.fills import FREE, PRICE_ONE, SIZE_ONE, Fee
from markets.polymarket.wire import DECODE_ERRORS, GammaEvent, GammaEventHead, GammaMarket

ID_LENGTH = 80
TOKEN_DIGITS = 78  # of the largest 256-bit number
MOST_SHARES = 10**12
FEE_DECIMALS = 9


OVER = frozenset({"resolved", "closed", "archived"})  # `untradable` of what trades no more


@dataclass(frozen=True, slots=True)
class MarketTerms:
    """One market as listed. Index 0 and 1 of `token_ids` and `outcomes` belong together."""

    market_id: str
    condition_id: str
    question: str
    token_ids: tuple[str, str]
    outcomes: tuple[str, str]
    tick: int  # 1e-4 USD
    min_size: int  # 1e-6 shares
    fee: Fee | None  # None: fees are on and the schedule is unknown
    untradable: str | None  # None: tradable; else why not ("closed", "paused", ...)
    payout: Decimal | None  # of outcome 0 once resolved: 0, 1 or 0.5
    end_at: datetime | None
    event_id: str | None = None
    neg_risk_id: str | None = None  # shared by all legs of a neg-risk event
    leg_number: int | None = None  # last byte of questionID inside its neg-risk event
    label: str = ""  # short name inside the event ("Spain")
    slug: str = ""
    liquidity: Decimal = Decimal(0)
    volume: Decimal = Decimal(0)
    secondary: bool = False  # the catch-all "Other" leg

    def same_terms(self, other: MarketTerms) -> bool:
        """Say whether nothing differs but the liquidity and volume figures."""
        return self == replace(other, liquidity=self.liquidity, volume=self.volume)


@dataclass(frozen=True, slots=True)
class EventTerms:
    """The venue's group of markets.

    `neg_risk`: at most one market can resolve YES. `augmented`: the listed ones
    are not exhaustive. `complete`: we hold the event object itself, so the
    list of legs is the venue's own and not just what a page happened to show.
    """

    event_id: str
    title: str
    neg_risk: bool
    augmented: bool
    markets: tuple[MarketTerms, ...]
    complete: bool = True
    slug: str = ""
    end_at: datetime | None = None
    closed: bool = False
    tags: tuple[str, ...] = ()

    def same_terms(self, other: EventTerms | None) -> bool:
        """Say whether nothing differs but the liquidity and volume figures."""
        if other is None or len(self.markets) != len(other.markets):
            return False
        if replace(self, markets=()) != replace(other, markets=()):
            return False
        return all(map(MarketTerms.same_terms, self.markets, other.markets))


class BadListing(Exception):
    """A Gamma object that cannot be understood; `field` and `reason` say why."""

    def __init__(self, field: str, reason: str, *, market_id: str = "") -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.market_id = market_id


def market_terms(obj: dict[str, object]) -> MarketTerms:
    """Read one Gamma market object; raise `BadListing` with the field at fault."""
    try:
        gamma = msgspec.convert(obj, GammaMarket, strict=False)
    except ValueError as error:  # ValidationError is one, half a character gives another
        raise BadListing("market", str(error), market_id=str(obj.get("id", ""))) from None
    try:
        return _market(gamma)
    except BadListing as error:
        error.market_id = gamma.id
        raise


def event_terms(obj: dict[str, object], *, rejected: list[BadListing] | None = None) -> EventTerms:
    """Read one Gamma event object with its markets.

    A bad market is left out and added to `rejected`; without that list it
    raises. An event that lost a market this way is no longer `complete`.
    """
    try:
        gamma = msgspec.convert(obj, GammaEvent, strict=False)
    except ValueError as error:
        raise BadListing("event", str(error)) from None
    markets, lost = [], 0
    for each in gamma.markets or ():
        try:
            markets.append(market_terms(_object(each, "market")))
        except BadListing as error:
            if rejected is None:
                raise
            rejected.append(error)
            lost += 1
    return _event(gamma, tuple(markets), complete=not lost)


def decode_page(body: bytes) -> object:
    """Return what a Gamma answer is as JSON, for `read_page`; raise `BadListing` if it is none.

    A number that JSON does not know (NaN, 1e400) is let through: it harms only its own object.
    """
    try:
        return msgspec.json.decode(body)
    except DECODE_ERRORS:
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadListing("page", f"is not JSON: {error}") from None


def read_page(page: object, *, rejected: list[BadListing]) -> tuple[EventTerms, ...]:
    """Read any Gamma answer: a page or list of events or markets, or one of either.

    Markets that come without their event are grouped by it; such an event is
    not `complete`. What cannot be read is added to `rejected`.
    """
    events: list[EventTerms] = []
    loose: dict[str, list[tuple[MarketTerms, dict[str, object]]]] = {}
    for item in page_items(page):
        try:
            obj = _object(item, "page")
            if "markets" in obj:
                events.append(event_terms(obj, rejected=rejected))
            else:
                terms = market_terms(obj)
                group = terms.event_id or terms.neg_risk_id or terms.market_id
                loose.setdefault(group, []).append((terms, obj))
        except BadListing as error:
            rejected.append(error)
    for members in loose.values():
        markets = tuple(terms for terms, _ in members)
        try:
            events.append(loose_event(markets, members[0][1]))
        except BadListing as error:
            rejected += (
                BadListing(error.field, error.reason, market_id=market.market_id)
                for market in markets
            )
    return tuple(events)


def page_items(page: object) -> list[object]:
    """Return the objects of any Gamma answer; raise `BadListing` for what is none."""
    if isinstance(page, dict):
        for key in ("events", "markets"):
            if isinstance(page.get(key), list) and "id" not in page:
                return page_items(page[key])
        return [page]
    if not isinstance(page, list):
        raise BadListing("page", "is neither a list nor an object")
    return page


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadListing(where, f"has {str(value)[:60]!r} where an object should be")
    return value


def loose_event(markets: tuple[MarketTerms, ...], obj: dict[str, object]) -> EventTerms:
    """Return what is known of an event from market objects alone; it is never `complete`."""
    heads = msgspec.convert(obj, GammaMarket, strict=False).events
    if heads:
        return _event(heads[0], markets, complete=False)
    first = markets[0]
    return EventTerms(
        event_id=first.event_id or first.neg_risk_id or first.market_id,
        title=first.question,
        neg_risk=first.neg_risk_id is not None,
        augmented=False,
        markets=tuple(replace(m, event_id=first.event_id) for m in markets),
        complete=False,
        end_at=first.end_at,
    )


def _event(head: GammaEventHead, markets: tuple[MarketTerms, ...], *, complete: bool) -> EventTerms:
    # Where both are given, only negRisk says that the outcomes exclude each other.
    neg_risk = bool(head.enable_neg_risk if head.neg_risk is None else head.neg_risk)
    return EventTerms(
        event_id=_id(head.id, "event"),
        title=_text(head.title).strip(),
        neg_risk=neg_risk,
        augmented=neg_risk and bool(head.neg_risk_augmented),
        markets=tuple(replace(m, event_id=head.id) for m in markets),
        complete=complete,
        slug=_text(head.slug),
        end_at=parse_time(head.end_date, "endDate"),
        closed=bool(head.closed),
        tags=tuple(name for tag in head.tags or () if (name := _text(tag.slug or tag.label))),
    )


def _market(gamma: GammaMarket) -> MarketTerms:
    payout = _payout(gamma)
    return MarketTerms(
        market_id=_id(gamma.id, "id"),
        condition_id=_id(gamma.condition_id, "conditionId") if gamma.condition_id else "",
        question=_text(gamma.question),
        token_ids=_tokens(gamma),
        outcomes=_names(gamma),
        tick=_tick(gamma.order_price_min_tick_size),
        min_size=_size(gamma.order_min_size),
        fee=_fee(gamma),
        untradable=_untradable(gamma, payout),
        payout=payout,
        end_at=parse_time(gamma.end_date, "endDate"),
        event_id=gamma.events[0].id if gamma.events else None,
        neg_risk_id=(gamma.neg_risk_market_id or None) if gamma.neg_risk else None,
        leg_number=_leg_number(gamma),
        label=_text(gamma.group_item_title),
        slug=_text(gamma.slug),
        liquidity=_amount(gamma.liquidity_num),
        volume=_amount(gamma.volume_num),
        secondary=bool(gamma.neg_risk_other),
    )


def _text(value: str | None) -> str:
    """Return text that every database and client takes: no NUL, no half characters."""
    return (value or "").encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _id(value: str, field: str) -> str:
    if not value or len(value) > ID_LENGTH or not value.isprintable():
        raise BadListing(field, f"{value[:20]!r} is not an id")
    return value


def _names(gamma: GammaMarket) -> tuple[str, str]:
    first, second = _pair(gamma.outcomes, "outcomes")
    return _text(first), _text(second)


def _tokens(gamma: GammaMarket) -> tuple[str, str]:
    version = gamma.version or "v1"
    if version not in ("v1", "v2"):
        raise BadListing("version", f"{version!r} is not known")
    field = "clobTokenIds" if version == "v1" else "positionIds"
    tokens = _pair(gamma.clob_token_ids if version == "v1" else gamma.position_ids, field)
    if not all(token.isascii() and token.isdigit() for token in tokens):
        raise BadListing(field, "a token id must be a decimal number")
    if max(map(len, tokens)) > TOKEN_DIGITS:
        raise BadListing(field, f"a token id has at most {TOKEN_DIGITS} digits")
    if tokens[0] == tokens[1]:
        raise BadListing(field, "both outcomes have the same token")
    return tokens


def _pair(value: str | list[str] | None, field: str) -> tuple[str, str]:
    """Return a list of two; Gamma sends it as JSON inside a string, or as a list."""
    items = _json_list(value, field)
    if len(items) != 2:
        raise BadListing(field, f"has {len(items)} items instead of 2")
    return items[0], items[1]


def _json_list(value: str | list[str] | None, field: str) -> list[str]:
    if isinstance(value, list):
        return value
    if not value:
        return []
    try:
        return msgspec.json.decode(value, type=list[str], strict=False)
    except (ValueError, RecursionError):  # DecodeError is one, half a character gives another
        raise BadListing(field, f"is not a list: {value[:60]!r}") from None


def _tick(value: Decimal | None) -> int:
    """Return the tick in 1e-4 USD; markets from before the order book have none (0.01)."""
    tick = Decimal("0.01") if value is None else value
    # The range comes first: an int of "1e999990" takes most of a minute.
    if tick.is_finite() and 0 < tick < 1:
        units = tick * PRICE_ONE
        if units and units == int(units):
            return int(units)
    raise BadListing("orderPriceMinTickSize", f"{value} is not a tick size")


def _size(value: Decimal | None) -> int:
    size = Decimal(5) if value is None else value
    if not size.is_finite() or not 0 <= size < MOST_SHARES:
        raise BadListing("orderMinSize", f"{value} is not a size")
    return int(size * SIZE_ONE)


def _amount(value: Decimal | None) -> Decimal:
    """Return an amount that is only shown; what is no number counts as none."""
    return value if value is not None and value.is_finite() else Decimal(0)


def _fee(gamma: GammaMarket) -> Fee | None:
    """Return the market's schedule, free where fees are off, None where it is unknown."""
    schedule = gamma.fee_schedule
    if schedule is None:
        return None if gamma.fees_enabled or gamma.fee_type else FREE
    rate, exponent = schedule.rate, schedule.exponent
    if not (rate.is_finite() and exponent.is_finite()):
        return None
    if not 0 <= exponent <= 4 or exponent != int(exponent):
        return None
    if not 0 <= rate < 1 or rate != round(rate, FEE_DECIMALS):
        return None
    return Fee(rate, int(exponent))


def _payout(gamma: GammaMarket) -> Decimal | None:
    """Return what outcome 0 paid, once closed and settled: 0, 1 or 0.5.

    Prices of exactly 0 and 1 are a result. The last mid may stand in for one
    (0.9664 was seen), and a half may be one, but only when the oracle says
    resolved; a closed market without either is unknown.
    """
    if not gamma.closed:
        return None
    prices = _json_list(gamma.outcome_prices, "outcomePrices")
    if len(prices) != 2:
        return None
    try:
        first, second = Decimal(prices[0]), Decimal(prices[1])
    except InvalidOperation:
        raise BadListing("outcomePrices", f"{prices} are not numbers") from None
    if not (first.is_finite() and second.is_finite()):
        raise BadListing("outcomePrices", f"{prices} are not numbers")
    if {first, second} == {Decimal(0), Decimal(1)}:
        return first
    return _rounded(first) if gamma.uma_resolution_status == "resolved" else None


def _rounded(price: Decimal) -> Decimal | None:
    if not price.is_finite() or price == 0:
        return None  # 0 and 0 is what old markets without prices carry
    if price < Decimal("0.25"):
        return Decimal(0)
    return Decimal(1) if price > Decimal("0.75") else Decimal("0.5")


def _untradable(gamma: GammaMarket, payout: Decimal | None) -> str | None:
    reasons = (
        ("resolved", payout is not None),
        ("closed", bool(gamma.closed)),
        ("archived", bool(gamma.archived)),
        ("placeholder", not gamma.active),
        ("no_order_book", not gamma.enable_order_book),
        ("paused", not gamma.accepting_orders),
    )
    return next((reason for reason, holds in reasons if holds), None)


def _leg_number(gamma: GammaMarket) -> int | None:
    """Return the last byte of questionID where its rest is the event's neg-risk id."""
    group, question = gamma.neg_risk_market_id or "", gamma.question_id or ""
    if not gamma.neg_risk or len(question) != 66 or question[:-2] != group[:-2]:
        return None
    try:
        return int(question[-2:], 16)
    except ValueError:
        return None


def parse_time(value: str | None, field: str) -> datetime | None:
    """Read the venue's times (`...Z`, naive, or `2026-06-27 08:34:20+00`) as aware UTC."""
    if not value:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):  # the year 1 or 9999 may not have a UTC time
        raise BadListing(field, f"{value[:60]!r} is not a time") from None
