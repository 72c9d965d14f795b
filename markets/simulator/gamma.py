"""What the catalogue answers: Gamma event objects in the spelling of real ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from markets.fills import PRICE_ONE
from markets.simulator.catalogue import EventSpec, MarketSpec
from markets.simulator.ladder import PRICE_TEXT
from markets.simulator.state import LiveEvent, LiveMarket

Json = dict[str, object]
PICTURE = "https://polymarket-upload.s3.us-east-2.amazonaws.com/simulated.png"
CREATOR = "0x91430CaD2d3975766499717fA0D66A78D814E5c5"
RESOLVER = "0x2F5e3684cb1F318ec51b00Edba38d79Ac2c0aA9d"

PAID: dict[int | None, tuple[str, str]] = {0: ("1", "0"), 1: ("0", "1"), None: ("0.5", "0.5")}


def moment(now: int) -> datetime:
    """Turn unix ns into an aware time."""
    return datetime.fromtimestamp(now // 10**9, UTC) + timedelta(microseconds=now // 1000 % 10**6)


def _iso(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat() + "Z"


def _listed(values: tuple[str, ...]) -> str:
    """Encode a list the way Gamma does: as JSON inside a string."""
    return json.dumps(values, ensure_ascii=False)


def event_object(event: LiveEvent, *, now: int) -> Json:
    """Give a whole event with its markets, as of now."""
    live = {leg.spec.market_id: leg for leg in event.legs}
    return _event(
        event,
        [_market(event, market, live.get(market.market_id), now) for market in event.spec.markets],
        now,
    )


def market_object(event: LiveEvent, market: MarketSpec, *, now: int) -> Json:
    """Give one market as of now, with what the venue then says of its event."""
    own = (leg for leg in event.legs if leg.spec.market_id == market.market_id)
    return {**_market(event, market, next(own, None), now), "events": [_event(event, None, now)]}


def _event(event: LiveEvent, markets: list[Json] | None, now: int) -> Json:
    spec = event.spec
    closed = event.resolved
    liquidity = sum(_liquidity(leg) for leg in event.legs)
    volume = sum(leg.volume for leg in event.legs)
    return {
        "id": spec.event_id,
        "ticker": spec.slug,
        "slug": spec.slug,
        "title": spec.title,
        "description": spec.description,
        "resolutionSource": spec.source,
        "startDate": _iso(spec.listed_at),
        "creationDate": _iso(spec.listed_at),
        "endDate": _iso(max(market.end_at or spec.end_at for market in spec.markets)),
        "image": PICTURE,
        "icon": PICTURE,
        "active": True,
        "closed": closed,
        "archived": False,
        "new": False,
        "featured": False,
        "restricted": True,
        "liquidity": liquidity,
        "volume": volume,
        "openInterest": volume / 4,
        "createdAt": _iso(spec.listed_at),
        "updatedAt": _iso(moment(now)),
        "competitive": 0.9,
        "volume24hr": volume / 20,
        "enableOrderBook": True,
        "liquidityClob": liquidity,
        "negRisk": spec.neg_risk_id is not None,
        **({"negRiskMarketID": spec.neg_risk_id} if spec.neg_risk_id else {}),
        "commentCount": 0,
        **({} if markets is None else {"markets": markets}),
        **_series(spec),
        "tags": [_tag(label) for label in spec.category.tags],
        "cyom": False,
        **({"closedTime": _iso(moment(event.resolved_at or now))} if closed else {}),
        "showAllOutcomes": True,
        "showMarketImages": True,
        "enableNegRisk": spec.neg_risk_id is not None,
        "automaticallyActive": True,
        "negRiskAugmented": spec.kind == "augmented",
        "pendingDeployment": False,
        "deploying": False,
        "requiresTranslation": False,
    }


def _series(spec: EventSpec) -> Json:
    """Up/down rounds recur and belong to a series; nothing else here does."""
    if spec.kind != "up_down":
        return {}
    slug = "-".join(spec.slug.split("-")[:3])
    series = {
        "id": "10684",
        "ticker": slug,
        "slug": slug,
        "title": spec.title.split(" - ")[0],
        "seriesType": "single",
        "recurrence": slug.rsplit("-")[-1],
        "active": True,
        "closed": False,
    }
    return {"series": [series], "seriesSlug": slug}


def _tag(label: str) -> Json:
    number = sum(label.encode()) + 100_000
    slug = label.lower().replace(" ", "-")
    return {"id": str(number), "label": label, "slug": slug, "forceShow": False,
            "requiresTranslation": False}  # fmt: skip


def _liquidity(leg: LiveMarket) -> float:
    return sum(leg.book.bids.sizes[-10:] + leg.book.asks.sizes[-10:]) / 2 / 10**6


def _market(event: LiveEvent, market: MarketSpec, leg: LiveMarket | None, now: int) -> Json:
    spec = event.spec
    closed = market.settled or event.resolved
    volume = leg.volume if leg else 0.0
    liquidity = _liquidity(leg) if leg else 0.0
    return {
        "id": market.market_id,
        "question": market.question,
        "conditionId": market.condition_id,
        "slug": market.slug,
        "resolutionSource": spec.source,
        "endDate": _iso(market.end_at or spec.end_at),
        **({} if closed else {"liquidity": f"{liquidity:.5f}".rstrip("0").rstrip(".")}),
        "startDate": _iso(spec.listed_at),
        "image": PICTURE,
        "icon": PICTURE,
        "description": spec.description,
        "outcomes": _listed(market.outcomes),
        **_prices(event, market, leg),
        "volume": f"{volume:.6f}".rstrip("0").rstrip("."),
        "active": not market.placeholder,
        "closed": closed,
        "marketMakerAddress": "",
        "createdAt": _iso(spec.listed_at),
        "updatedAt": _iso(moment(now)),
        **({"closedTime": _closed_time(event)} if closed else {}),
        "new": False,
        "featured": False,
        "submitted_by": CREATOR,
        "archived": False,
        "resolvedBy": RESOLVER,
        "restricted": True,
        "groupItemTitle": market.label,
        "groupItemThreshold": str(spec.markets.index(market)),
        "questionID": market.question_id,
        "enableOrderBook": True,
        "orderPriceMinTickSize": market.tick / PRICE_ONE,
        "orderMinSize": 5,
        **({"umaResolutionStatus": "resolved"} if closed else {}),
        "volumeNum": volume,
        **({} if closed else {"liquidityNum": liquidity}),
        "endDateIso": f"{market.end_at or spec.end_at:%Y-%m-%d}",
        "startDateIso": f"{spec.listed_at:%Y-%m-%d}",
        "hasReviewedDates": True,
        "clobTokenIds": _listed(market.token_ids),
        "umaBond": "500",
        "umaReward": "5",
        "volumeClob": volume,
        **({} if closed else {"liquidityClob": liquidity}),
        **({"makerBaseFee": 1000, "takerBaseFee": 1000} if spec.category.rate else {}),
        "customLiveness": 0,
        "acceptingOrders": not (closed or event.halted or (leg and leg.paused)),
        **_group(spec, market),
        "ready": False,
        "funded": False,
        "acceptingOrdersTimestamp": _iso(spec.listed_at.replace(microsecond=0)),
        "cyom": False,
        "competitive": 0.9,
        "pagerDutyNotificationEnabled": False,
        "approved": True,
        "rewardsMinSize": 0,
        "rewardsMaxSpread": 0,
        **_touch(leg),
        "automaticallyActive": True,
        "clearBookOnStart": True,
        "manualActivation": False,
        "negRiskOther": market.other,
        "umaResolutionStatuses": _listed(("proposed", "resolved") if closed else ()),
        "pendingDeployment": False,
        "deploying": False,
        "rfqEnabled": False,
        **({"eventStartTime": _iso(spec.starts_at)} if spec.starts_at else {}),
        "holdingRewardsEnabled": False,
        "feesEnabled": bool(spec.category.rate),
        "requiresTranslation": False,
        **_fees(spec),
    }


def _closed_time(event: LiveEvent) -> str:
    """A leg that had resolved before we came did so an hour after its listing."""
    if event.resolved_at is None:
        return f"{event.spec.listed_at + timedelta(hours=1):%Y-%m-%d %H:%M:%S}+00"
    return f"{moment(event.resolved_at):%Y-%m-%d %H:%M:%S}+00"


def _prices(event: LiveEvent, market: MarketSpec, leg: LiveMarket | None) -> Json:
    """Resolved markets show 0 and 1, placeholders nothing, the rest half a tick of rounding."""
    if market.settled or event.resolved:
        return {"outcomePrices": _listed(PAID[leg.winner if leg else 1])}
    if leg is None:
        return {}
    mid = (leg.book.best_bid + leg.book.best_ask) // 2
    return {"outcomePrices": _listed((PRICE_TEXT[mid], PRICE_TEXT[PRICE_ONE - mid]))}


def _group(spec: EventSpec, market: MarketSpec) -> Json:
    if not spec.neg_risk_id:
        return {"negRisk": False, "negRiskRequestID": ""}
    return {"negRisk": True, "negRiskMarketID": spec.neg_risk_id,
            "negRiskRequestID": market.request_id}  # fmt: skip


def _touch(leg: LiveMarket | None) -> Json:
    bid, ask = leg.touch if leg else (0, PRICE_ONE)
    last = float(leg.book.last_trade or 0) if leg else 0
    return {"spread": (ask - bid) / PRICE_ONE, "lastTradePrice": last,
            "bestBid": bid / PRICE_ONE, "bestAsk": ask / PRICE_ONE}  # fmt: skip


def _fees(spec: EventSpec) -> Json:
    category = spec.category
    if not category.rate:
        return {"feeType": None}
    schedule = {"exponent": 1, "rate": category.rate / PRICE_ONE, "takerOnly": True,
                "rebateRate": category.rebate}  # fmt: skip
    return {"feeType": category.fee_type, "feeSchedule": schedule}
