"""What the venue says about events and markets, as typed values (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from markets.fills import Fee


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
