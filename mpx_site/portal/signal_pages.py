"""What the pages of signals show: the list with who looks after what, and one signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.contrib.auth.models import User
from django.core.paginator import Page
from django.db.models import Prefetch

from alerts.models import AuditEntry, OutboxEntry
from execution import intents
from execution.models import OrderIntent
from execution.plans import Sight
from execution.sights import sights_of
from markets.models import Market
from mpx_site.portal import desk, history, opportunities_pictures, signal_pictures, signal_sizes
from mpx_site.portal.arithmetic import Arithmetic, arithmetic
from mpx_site.portal.exports import Column
from mpx_site.portal.filters import AskedSignals
from mpx_site.portal.ladders import LegLadder, leg_ladder
from mpx_site.portal.pictures import WIDTH, Chart
from risk import limits
from risk.checks import Bounds
from rules.kernel.finding import Limits
from signals import opportunities, store
from signals.models import Signal, SignalPoint, SignalQuerySet, SignalStep

RELATED = 8
ROWS_AT_ONCE = 50
LIFE_DAYS = 7  # how far back the lifetimes of a rule are counted
MOST_STEPS = 100


# --- the list ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Handling:
    """Who looks after a signal: its standing step, and an order that is open for it."""

    step: SignalStep | None = None
    order: OrderIntent | None = None

    @property
    def state(self) -> str:
        """Return a key of `HANDLINGS` that says how it stands."""
        if self.step is None:
            return "new"
        return {"ACK": "acked", "SNOOZE": "snoozed"}.get(self.step.act, "dismissed")


@dataclass(frozen=True, slots=True)
class Row:
    """A signal of the list with its edge as a small picture; None where it has none."""

    signal: Signal
    strip: Chart | None
    handling: Handling


@dataclass(frozen=True, slots=True)
class SignalList:
    """A page of the list and where in the feed it was read."""

    asked: AskedSignals
    signals: Page[Signal]
    rows: tuple[Row, ...]
    feed_position: object
    full: bool = True

    @property
    def live(self) -> bool:
        """Say whether new signals belong on this page: the first one, newest first, whoever's."""
        others = self.asked.value("sort") or self.asked.value("handling")
        return self.signals.number == 1 and not others


def signal_list(asked: AskedSignals, *, number: str | None, by: User, at: datetime) -> SignalList:
    position = desk.feed_position()  # before the rows, so that nothing falls between
    page = asked.page_of(asked.rows(by=by, at=at), number=number)
    return SignalList(asked, page, dressed(list(page), at=at), position)


def rows_of(keys: Sequence[str], *, at: datetime) -> tuple[Row, ...]:
    """Return the rows of these keys for lists that stay open."""
    return dressed(list(Signal.objects.newest().filter(key__in=keys[:ROWS_AT_ONCE])), at=at)


def dressed(signals: Sequence[Signal], *, at: datetime) -> tuple[Row, ...]:
    """Return rows with what belongs to their signals: three queries for all of them."""
    strips = signal_pictures.strips(signals, at=at)
    handled = handlings(signals, at=at)
    return tuple(
        Row(signal, strips.get(signal.pk), handled.get(signal.pk, Handling())) for signal in signals
    )


def handlings(signals: Sequence[Signal], *, at: datetime) -> dict[int, Handling]:
    """Return who looks after each signal, by its number; two queries."""
    steps = SignalStep.objects.filter(signal__in=signals, current=True).select_related("by")
    standing = {step.signal_id: step for step in steps if step.stands(at)}
    open_orders = OrderIntent.objects.filter(
        signal__in=signals, status__in=("SUGGESTED", "APPROVED")
    )
    ordered = {order.signal_id: order for order in open_orders.defer("plan")}
    return {
        pk: Handling(standing.get(pk), ordered.get(pk)) for pk in standing.keys() | ordered.keys()
    }


# --- the list as a file --------------------------------------------------------------


def for_export(rows: SignalQuerySet) -> SignalQuerySet:
    """Let each row bring its current step, in one query for each batch of rows."""
    current = SignalStep.objects.filter(current=True).select_related("by")
    return rows.defer("payload").prefetch_related(
        Prefetch("steps", queryset=current, to_attr="standing")
    )


def _step(signal: Signal) -> SignalStep | None:
    standing: Sequence[SignalStep] = getattr(signal, "standing", ())
    return standing[0] if standing else None


def _lived(signal: Signal) -> timedelta | None:
    return None if signal.closed_at is None else signal.closed_at - signal.opened_at


COLUMNS = (
    Column("signal", "key"),
    Column("level", "level"),
    Column("rule", "rule.code"),
    Column("kind", "kind"),
    Column("event", "event_id"),
    Column("title", "event.title"),
    Column("markets", "market_ids"),
    Column("status", "status"),
    Column("verdict", "verdict"),
    Column("blocked_by", "blocked_by"),
    Column("edge_bps", "edge_bps"),
    Column("peak_edge_bps", "peak_edge_bps"),
    Column("profit_usd", "profit"),
    Column("peak_profit_usd", "peak_profit"),
    Column("cost_usd", "cost"),
    Column("p_fill", "p_fill"),
    Column("expected_usd", "expected_usd"),
    Column("opened_at", "opened_at"),
    Column("closed_at", "closed_at"),
    Column("lived_seconds", _lived),
    Column("close_reason", "close_reason"),
    Column("handling", lambda row: getattr(_step(row), "act", None)),
    Column("owner", lambda row: step.by.get_username() if (step := _step(row)) else None),
    Column("handled_at", lambda row: getattr(_step(row), "at", None)),
    Column("snoozed_until", lambda row: getattr(_step(row), "until", None)),
    Column("reason", lambda row: getattr(_step(row), "text", None)),
)


# --- one signal ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Life:
    """A signal's lifetime among the closed ones of its rule. `longer` is in percent of them."""

    picture: opportunities_pictures.LifePicture
    total: int
    longer: float
    days: int


@dataclass(frozen=True, slots=True)
class Alert:
    """The alert that was raised for a signal; `x` is its place on the edge's picture."""

    at: datetime
    state: str
    x: float | None


@dataclass(frozen=True, slots=True)
class SignalPage:
    """One signal. `stored`: the ladders are the levels that its finding took, not live books."""

    signal: Signal
    sum: Arithmetic | None
    markets: Sequence[Market]  # of what has no legs or no event to be named by
    points: Sequence[SignalPoint]
    picture: Chart | None
    alert: Alert | None
    least_edge_bps: Decimal | None
    curve: signal_sizes.Curve | None
    curve_picture: opportunities_pictures.SizePicture | None
    ladders: tuple[LegLadder, ...]
    stored: bool
    life: Life | None
    handling: Handling
    steps: Sequence[SignalStep]
    orders: Sequence[OrderIntent]
    audit: Sequence[AuditEntry]
    related: Sequence[Signal]


def signal(key: str, *, at: datetime) -> SignalPage:
    """Raise `Signal.DoesNotExist` for an unknown key."""
    found = Signal.objects.select_related("rule", "rule_version__rule", "event").get(key=key)
    points = history.points_of(found)
    least = signal_pictures.least_of(found.rule_version)
    threshold = least.min_edge_bps if least else None
    reckoned = arithmetic(found.payload)
    books = _books(found, reckoned, at=at)
    curve = _curve(found, books, least, at=at)
    picture = history.edge_chart(found, points, threshold=threshold, at=at)
    orders = list(found.intents.order_by("-id").select_related("proposer").defer("plan"))
    steps = list(found.steps.select_related("by").order_by("-id")[:MOST_STEPS])
    return SignalPage(
        signal=found,
        sum=reckoned,
        markets=_named_by(found),
        points=points,
        picture=picture,
        alert=_alert(key, picture),
        least_edge_bps=threshold,
        curve=curve,
        curve_picture=_curve_picture(curve),
        ladders=_ladders(reckoned, books),
        stored=books is not None and not books.live,
        life=_life(found, at=at),
        handling=_handling(steps, orders, at=at),
        steps=steps,
        orders=orders,
        audit=list(AuditEntry.objects.filter(subject=f"signal:{key}").order_by("id")),
        related=_related(found),
    )


def _alert(key: str, picture: Chart | None) -> Alert | None:
    """Return the alert of a signal; None if it never was P1."""
    told = OutboxEntry.objects.filter(key=store.alert_key(key)).values_list("due_at", "state")
    found = told.first()
    return None if found is None else Alert(*found, x=_place(found[0], picture))


def _place(at: datetime, picture: Chart | None) -> float | None:
    """Return where a moment lies on a picture; None where it does not."""
    if picture is None or not picture.start <= at <= picture.end:
        return None
    span = (picture.end - picture.start).total_seconds() or 1.0
    return round((at - picture.start).total_seconds() / span * WIDTH, 1)


@dataclass(frozen=True, slots=True)
class _Books:
    """The offers behind a signal's legs: live books, or what its finding took of them."""

    sights: Mapping[str, Sight]
    live: bool
    bounds: Bounds


def _books(found: Signal, reckoned: Arithmetic | None, *, at: datetime) -> _Books | None:
    """Return None where no order could be made of it, whatever the books are."""
    if reckoned is None or not reckoned.plan.legs or found.verdict == "OBSERVED":
        return None
    legs, bounds = reckoned.plan.legs, limits.bounds()
    tokens = [leg.token_id for leg in legs]
    sights = sights_of(tokens, depth_share=bounds.depth_share, at=at)
    live = found.status == Signal.Status.OPEN and signal_sizes.is_live(sights, legs)
    kept = sights if live else signal_sizes.as_stored(sights, legs)
    return _Books(kept, live, bounds)


def _curve(
    found: Signal, books: _Books | None, least: Limits | None, *, at: datetime
) -> signal_sizes.Curve | None:
    if books is None or least is None:
        return None
    return signal_sizes.curve(
        intents.basis_of_signal(found),
        books.sights,
        live=books.live,
        limits=least,
        slippage_bps=books.bounds.slippage_bps,
        blocked=bool(found.blocked_by),
        at=at,
    )


def _curve_picture(curve: signal_sizes.Curve | None) -> opportunities_pictures.SizePicture | None:
    if curve is None:
        return None
    edges = [None if each.edge_bps is None else float(each.edge_bps) for each in curve.sizes]
    return opportunities_pictures.size_picture(edges, threshold=float(curve.limits.min_edge_bps))


def _ladders(reckoned: Arithmetic | None, books: _Books | None) -> tuple[LegLadder, ...]:
    """Draw the offers of each leg with the shares that the stored finding takes."""
    if reckoned is None or books is None:
        return ()
    return tuple(
        leg_ladder(
            sight.label,
            sight.terms.market_id,
            sight.ladder,
            takes=leg.takes,
            limit=leg.limit_price,
        )
        for leg in reckoned.plan.legs
        if (sight := books.sights.get(leg.token_id)) is not None
    )


def _life(found: Signal, *, at: datetime) -> Life | None:
    """Compare a lifetime with the closed signals of its rule; None where there are none."""
    if found.verdict == "OBSERVED":
        return None
    lives = opportunities.lives_of(opportunities.of_last(LIFE_DAYS, at=at, rule=found.rule.code))
    ms = round(found.lifetime(at).total_seconds() * 1000)
    picture = opportunities_pictures.life_picture(lives, marker_ms=ms)
    if picture is None:
        return None
    below = sum(lives.counts[: opportunities_pictures.bin_of(ms)])
    return Life(picture, lives.total, round(100 * below / lives.total, 1), LIFE_DAYS)


def _handling(
    steps: Sequence[SignalStep], orders: Sequence[OrderIntent], *, at: datetime
) -> Handling:
    current = next((step for step in steps if step.current and step.stands(at)), None)
    return Handling(current, next((order for order in orders if order.is_open), None))


def _named_by(found: Signal) -> list[Market]:
    """Return the markets that say what a signal is about; none where its event and legs do."""
    if found.event_id is not None and found.verdict != "OBSERVED":
        return []
    by_id = Market.objects.in_bulk(found.market_ids[:RELATED])
    return [by_id[each] for each in found.market_ids if each in by_id]


def _related(found: Signal) -> list[Signal]:
    """Return the newest others of its event, or, across events, on its first market."""
    others = Signal.objects.newest().exclude(pk=found.pk).defer("payload")
    if found.event_id is not None:
        return list(others.filter(event=found.event_id)[:RELATED])
    if not found.market_ids:
        return []
    first = Signal.objects.of_market(found.market_ids[0], event_id=None)
    return list(first.exclude(pk=found.pk).defer("payload")[:RELATED])
