"""The home page: what is best now and why, the week's figures, what limits leave, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.paginator import Page
from django.http import QueryDict

from execution import positions
from execution.standing import used_up
from markets.models import Market
from mpx_site.portal import desk as desks
from mpx_site.portal import pages
from mpx_site.portal.arithmetic import Arithmetic, arithmetic
from mpx_site.portal.desk import Desk, Figures, Troubles
from mpx_site.portal.filters import AskedMarkets, AskedStream
from mpx_site.portal.home_checks import Symptom, books_of, symptoms
from mpx_site.portal.home_week import Week, week
from risk import limits
from risk.locking import NoPolicy
from signals.models import Signal

# The limits that orders use up, in the order of the page, and whether they count USD.
SHOWN = (("daily_notional", True), ("concurrent_orders", False), ("event_exposure", True))
BAR = 600  # units that a full bar is wide
NEAR = Decimal("0.9")


@dataclass(frozen=True, slots=True)
class BestNow:
    """The open P1 with the largest edge, with the sum behind it; None if it cannot be read."""

    signal: Signal
    sum: Arithmetic | None


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How much of a limit is used; `money` says that it counts USD."""

    name: str
    label: str
    used: Decimal
    allowed: Decimal
    money: bool

    @property
    def share(self) -> Decimal:
        """Return the used part of what is allowed, 1 at most."""
        return min(self.used / self.allowed, Decimal(1)) if self.allowed else Decimal(1)

    @property
    def width(self) -> str:
        return f"{self.share * BAR:.1f}"

    @property
    def near(self) -> bool:
        return self.share >= NEAR


@dataclass(frozen=True, slots=True)
class HomePage:
    stream: pages.StreamPage
    markets: Page[Market]
    figures: Figures
    best: BestNow | None
    books: tuple[int, int]  # fresh, and all
    week: Week
    limits: tuple[LimitUse, ...]
    troubles: Troubles
    symptoms: tuple[Symptom, ...]


def home(query: QueryDict, desk: Desk) -> HomePage:
    stream = pages.stream_page(AskedStream(query), number=query.get("page"))
    listed = AskedMarkets(QueryDict())
    figures = desks.figures(at=desk.at)
    troubles = desks.troubles(at=desk.at)
    return HomePage(
        stream=stream,
        markets=listed.page_of(Market.objects.tradable().listed(), number=query.get("markets")),
        figures=figures,
        best=_best(figures.best),
        books=books_of(desk.pulses[0]),
        week=week(figures.rules, at=desk.at),
        limits=limit_use(at=desk.at),
        troubles=troubles,
        symptoms=symptoms(desk, rules=figures.rules, troubles=troubles),
    )


def _best(signal: Signal | None) -> BestNow | None:
    return None if signal is None else BestNow(signal, arithmetic(signal.payload))


def limit_use(*, at: datetime) -> tuple[LimitUse, ...]:
    """Return the limits that orders use up; empty while the desk has no policy."""
    try:
        bounds = limits.bounds()
    except NoPolicy:
        return ()
    used = used_up(positions.open_exposures(), at=at)
    return tuple(
        LimitUse(name, limits.label_of(name), used[name], Decimal(getattr(bounds, name)), money)
        for name, money in SHOWN
    )
