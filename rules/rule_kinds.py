"""The detectors a rule may name, and their parameters with units, bounds and defaults.

A new one is a params class, a subclass of `ArbitrageRule` or `ObservedRule`, and a row of
`DETECTORS`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from markets.fills import PRICE_ONE
from rules.kernel.endgame import EndgameParams
from rules.kernel.finding import Limits
from rules.kernel.imbalance import ImbalanceParams
from rules.kernel.spike import SpikeParams
from rules.kernel.trend import TrendParams
from rules.rule_schema import (
    ArbitrageRule,
    Number,
    ObservedRule,
    Part,
    RuleDefinition,
    distinct,
)

BasketKind = Literal["binary", "yes_basket", "no_basket"]
RelatedKind = Literal["implies", "exclusive", "exhaustive", "equivalent", "ladder", "lp"]
Price = Annotated[Number, Field(gt=0, lt=1)]


def _amount(default: str, about: str, **bounds: Any) -> Any:
    """Return a field of zero or more, with its default as the example."""
    bounds = {"ge": 0, **bounds}
    return Field(default=Decimal(default), description=about, examples=[default], **bounds)


def _count(default: int, about: str, *, least: int, most: int) -> Any:
    bounds = f"whole number, {least} to {most}"
    return Field(
        default=default,
        ge=least,
        le=most,
        description=f"{about}, {bounds}",
        examples=[f"{default}"],
    )


def _switch(default: bool, about: str) -> Any:
    return Field(default=default, description=f"{about}, true or false", examples=["true"])


def _units(price: Decimal) -> int:
    """Return USD as 1e-4 USD, rounded to the nearest."""
    return round(price * PRICE_ONE)


# --- arbitrage ---------------------------------------------------------------------------


class _ArbitrageParams(Part):
    """What separates THIN from EXECUTABLE, and what bounds one finding's cost."""

    capital_usd: Annotated[Number, Field(gt=0)] | None = Field(
        default=None,
        description="USD that bound one finding's cost, null for no bound",
        examples=["200"],
    )
    min_profit_usd: Number = _amount("0.50", "USD, 0 or more")
    min_edge_bps: Number = _amount("20", "basis points of cost, 0 or more")

    def limits(self) -> Limits:
        """Return what the kernel decides THIN and the size by."""
        return Limits(self.capital_usd, self.min_profit_usd, self.min_edge_bps)


class DutchBookParams(Part):
    """Baskets whose worst payoff is above their cost (fees inside the cost)."""

    ALL: ClassVar[tuple[BasketKind, ...]] = ("binary", "no_basket", "yes_basket")

    kinds: Annotated[tuple[BasketKind, ...], Field(min_length=1), AfterValidator(distinct)] = Field(
        default=ALL, description="at least one", examples=["[binary, yes_basket, no_basket]"]
    )
    capital_usd: Annotated[Number, Field(gt=0)] | None = Field(
        default=None,
        description="USD that bound one basket's cost, null for no bound",
        examples=["200"],
    )
    min_profit_usd: Number = _amount("0.50", "USD, 0 or more")
    min_edge_bps: Number = _amount("20", "basis points of cost, 0 or more")

    def limits(self) -> Limits:
        """Return what the kernel decides THIN and the size by."""
        return Limits(self.capital_usd, self.min_profit_usd, self.min_edge_bps)


class DutchBookRule(ArbitrageRule):
    """Binary pairs and baskets over the outcomes of one event."""

    detector: Literal["dutch_book"]
    params: DutchBookParams = Field(
        default=DutchBookParams(), description="a mapping", examples=["min_profit_usd: 0.50"]
    )


class CrossMarketParams(_ArbitrageParams):
    """What related markets must be worth together (fees inside the cost)."""

    ALL: ClassVar[tuple[RelatedKind, ...]] = (
        "equivalent",
        "exclusive",
        "exhaustive",
        "implies",
        "ladder",
        "lp",
    )

    kinds: Annotated[tuple[RelatedKind, ...], Field(min_length=1), AfterValidator(distinct)] = (
        Field(default=ALL, description="at least one", examples=["[implies, ladder, lp]"])
    )
    min_annualised_pct: Number = _amount("0", "percent a year until the markets end, 0 or more")
    watch_list: bool = _switch(True, "tell of relations that nobody approved yet")


class CrossMarketRule(ArbitrageRule):
    """Markets related by what people approved: pairs, unions, ladders and sets of these."""

    detector: Literal["cross_market"]
    params: CrossMarketParams = Field(
        default=CrossMarketParams(), description="a mapping", examples=["min_profit_usd: 0.50"]
    )


class TemporalParams(_ArbitrageParams):
    """What a date ladder must be worth, and how long its money may be locked."""

    min_annualised_pct: Number = _amount("5", "percent a year until the last date, 0 or more")
    max_days: Annotated[int, Field(ge=1, le=3650)] | None = Field(
        default=365,
        description="days until the last date, 1 to 3650, null for any",
        examples=["365"],
    )


class TemporalRule(ArbitrageRule):
    """Date ladders: by an earlier date implies by a later one."""

    detector: Literal["temporal"]
    params: TemporalParams = Field(
        default=TemporalParams(), description="a mapping", examples=["max_days: 365"]
    )


# --- observed ----------------------------------------------------------------------------


class SpikeRuleParams(Part):
    """When a move of the mid is a spike, and which books are looked at."""

    threshold: Number = _amount("24", "standard deviations, above 0", gt=0)
    drift: Number = _amount("0.5", "standard deviations an update, 0 or more")
    variance_weight: Number = _amount("0.005", "above 0, up to 1", gt=0, le=1)
    winsor: Number = _amount("9", "variances, 1 or more", ge=1)
    floor_ticks: Number = _amount("0.5", "ticks, above 0", gt=0)
    persist_updates: int = _count(2, "updates", least=1, most=100)
    refractory_updates: int = _count(50, "updates", least=0, most=100_000)
    warmup_updates: int = _count(100, "updates", least=1, most=100_000)
    idle_secs: Number = _amount("1", "seconds, 0 for never")
    max_spread: Price = _amount("0.05", "USD, between 0 and 1", gt=0, lt=1)
    min_depth_usd: Number = _amount("20", "USD behind each touch, 0 or more")
    hold_secs: Number = _amount("60", "seconds, 0 or more")
    window_secs: Number = _amount("0", "seconds that pct_change_gt looks back, 0 for none")
    pct_change_gt: Number = _amount("0", "share of the price (0.03 is 3 %), 0 for any")
    min_liquidity: Number = _amount("0", "USD as the venue states them, 0 for any")

    def kernel(self) -> SpikeParams:
        """Return them as the kernel counts."""
        return SpikeParams(
            threshold=float(self.threshold),
            drift=float(self.drift),
            variance_weight=float(self.variance_weight),
            winsor=float(self.winsor),
            floor_ticks=float(self.floor_ticks),
            persist_updates=self.persist_updates,
            refractory_updates=self.refractory_updates,
            warmup_updates=self.warmup_updates,
            max_spread=_units(self.max_spread),
            min_depth_usd=float(self.min_depth_usd),
            window_secs=float(self.window_secs),
            pct_change_gt=float(self.pct_change_gt),
            min_liquidity=float(self.min_liquidity),
            idle_secs=float(self.idle_secs),
            hold_secs=float(self.hold_secs),
        )


class SpikeRule(ObservedRule):
    """Prices that jumped and stayed."""

    detector: Literal["spike"]
    params: SpikeRuleParams = Field(
        default=SpikeRuleParams(), description="a mapping", examples=["threshold: 24"]
    )


class EndgameRuleParams(Part):
    """Which near-certain outcomes are looked at, what is feared, and how much is bet."""

    min_price: Price = _amount("0.95", "USD, between 0 and 1", gt=0, lt=1)
    max_price: Price = _amount("0.999", "USD, between 0 and 1", gt=0, lt=1)
    minutes_to_end: Number = _amount("1440", "minutes, above 0", gt=0)
    min_liquidity: Number = _amount("0", "USD as the venue states them, 0 for any")
    min_ev_bps: Number = _amount("20", "basis points of cost, 0 or more")
    confidence: Number = _amount("0.95", "0.5 to 0.9999", ge=Decimal("0.5"), le=Decimal("0.9999"))
    dispute_pct: Number = _amount("1", "percent of markets, 0 to 100", le=100)
    flip_pct: Number = _amount("10", "percent of disputes, 0 to 50", le=50)
    dispute_days: Number = _amount("7", "days, 0 or more")
    settle_hours: Number = _amount("24", "hours, 0 or more")
    capital_rate_pct: Number = _amount("5", "percent a year, 0 or more")
    bankroll_usd: Number = _amount("1000", "USD, above 0", gt=0)
    kelly_share: Number = _amount("0.25", "share of the bankroll, above 0, up to 1", gt=0, le=1)
    tell_insufficient: bool = _switch(True, "tell of what there is too little history for")
    sports_before_close: bool = _switch(False, "bet on sports before they end")
    post_event: bool = _switch(False, "look at markets past their end, too")
    post_event_hours: Number = _amount("72", "hours past the end, above 0", gt=0)
    post_event_min_price: Price = _amount("0.99", "USD, between 0 and 1", gt=0, lt=1)

    def kernel(self) -> EndgameParams:
        """Return them as the kernel counts."""
        return EndgameParams(
            min_price=_units(self.min_price),
            max_price=_units(self.max_price),
            minutes_to_end=float(self.minutes_to_end),
            min_liquidity=float(self.min_liquidity),
            min_ev_bps=float(self.min_ev_bps),
            confidence=float(self.confidence),
            dispute_pct=float(self.dispute_pct),
            flip_pct=float(self.flip_pct),
            dispute_days=float(self.dispute_days),
            settle_hours=float(self.settle_hours),
            capital_rate_pct=float(self.capital_rate_pct),
            bankroll_usd=float(self.bankroll_usd),
            kelly_share=float(self.kelly_share),
            tell_insufficient=self.tell_insufficient,
            sports_before_close=self.sports_before_close,
            post_event=self.post_event,
            post_event_hours=float(self.post_event_hours),
            post_event_min_price=_units(self.post_event_min_price),
        )


class EndgameRule(ObservedRule):
    """Near-certain outcomes near their end, judged by what became of their like."""

    detector: Literal["endgame"]
    params: EndgameRuleParams = Field(
        default=EndgameRuleParams(), description="a mapping", examples=["min_price: 0.95"]
    )


class ImbalanceRuleParams(Part):
    """When a book counts as tilted."""

    levels: int = _count(5, "levels of each side", least=1, most=50)
    threshold: Price = _amount("0.6", "between 0 and 1", gt=0, lt=1)
    rearm_below: Number = _amount("0.3", "0 up to the threshold", lt=1)
    persist_secs: Number = _amount("3", "seconds, 0 or more")
    max_spread: Price = _amount("0.03", "USD, between 0 and 1", gt=0, lt=1)
    min_depth_usd: Number = _amount("500", "USD in these levels together, 0 or more")

    def kernel(self) -> ImbalanceParams:
        """Return them as the kernel counts."""
        return ImbalanceParams(
            levels=self.levels,
            threshold=float(self.threshold),
            rearm_below=float(min(self.rearm_below, self.threshold)),
            persist_secs=float(self.persist_secs),
            max_spread=_units(self.max_spread),
            min_depth_usd=float(self.min_depth_usd),
        )


class ImbalanceRule(ObservedRule):
    """Books of which one side outweighs the other."""

    detector: Literal["imbalance"]
    params: ImbalanceRuleParams = Field(
        default=ImbalanceRuleParams(), description="a mapping", examples=["threshold: 0.6"]
    )


class TrendRuleParams(Part):
    """Which channel, and how far out of it counts."""

    bar_secs: Number = _amount("60", "seconds, 0.1 or more", ge=Decimal("0.1"))
    bars: int = _count(60, "bars", least=2, most=10_000)
    beyond_logit: Number = _amount("0.05", "logit (0.05 is 1.25 cents at 0.50), 0 or more")
    min_width_logit: Number = _amount("0.02", "logit, 0 or more")
    min_volume_ratio: Number = _amount("0", "times the usual shares of a bar, 0 for any")
    max_spread: Price = _amount("0.03", "USD, between 0 and 1", gt=0, lt=1)
    hold_secs: Number = _amount("300", "seconds, 0 or more")

    def kernel(self) -> TrendParams:
        """Return them as the kernel counts."""
        return TrendParams(
            bar_secs=float(self.bar_secs),
            bars=self.bars,
            beyond_logit=float(self.beyond_logit),
            min_width_logit=float(self.min_width_logit),
            min_volume_ratio=float(self.min_volume_ratio),
            max_spread=_units(self.max_spread),
            hold_secs=float(self.hold_secs),
        )


class TrendRule(ObservedRule):
    """Prices that leave the channel of their last bars."""

    detector: Literal["trend"]
    params: TrendRuleParams = Field(
        default=TrendRuleParams(), description="a mapping", examples=["bars: 60"]
    )


DETECTORS: Final[dict[str, type[RuleDefinition]]] = {
    "dutch_book": DutchBookRule,
    "cross_market": CrossMarketRule,
    "spike": SpikeRule,
    "endgame": EndgameRule,
    "imbalance": ImbalanceRule,
    "trend": TrendRule,
    "temporal": TemporalRule,
}
