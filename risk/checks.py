"""Risk checks: numbers in, a verdict out (pure).

Every check gives its name, its limit, the value it saw, and what to do when it
fails. These words are the only ones: page, API, command line and audit show
them as they are. What is not known counts as failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

Step = Literal["suggest", "approve", "fill"]
BreakerState = Literal["CLOSED", "OPEN", "HALF_OPEN"]

UNKNOWN = "unknown"
CENT = Decimal("0.01")

LABELS = {
    "PERMISSION": "Permission",
    "STATUS": "Intent state",
    "FOUR_EYES": "Second person",
    "PLAN": "Signed plan",
    "DUPLICATE": "One order per signal",
    "REASON": "Reason",
    "EXECUTABLE": "Executable now",
    "KILL_SWITCH": "Kill switch",
    "BREAKERS": "Circuit breakers",
    "SIGNAL_OPEN": "Signal",
    "SIGNAL_LEVEL": "Signal level",
    "SIGNAL_AGE": "Signal age",
    "INTENT_TTL": "Intent deadline",
    "ORDER_NOTIONAL": "Order size",
    "CONCURRENT_ORDERS": "Open orders",
    "DAILY_NOTIONAL": "Daily volume",
    "EVENT_EXPOSURE": "Event exposure",
    "MARKET_STATE": "Market state",
    "BOOK_STATE": "Book state",
    "BOOK_AGE": "Book age",
    "BOOK_CONTINUITY": "Book continuity",
    "DEPTH": "Depth within limits",
    "SLIPPAGE": "Slippage",
    "MIN_RETURN": "Annualised return",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One question with its answer. `advice` says what to do; empty when it passed."""

    name: str
    ok: bool
    limit: str
    value: str
    advice: str = ""

    @property
    def label(self) -> str:
        return LABELS.get(self.name, self.name)

    def sentence(self) -> str:
        """Return the one wording of this check, for people and for the record."""
        said = f"{self.label}: {self.value} (limit: {self.limit})"
        return f"{said}. {self.advice}" if self.advice else said

    def row(self) -> dict[str, object]:
        return {
            "name": self.name,
            "label": self.label,
            "ok": self.ok,
            "limit": self.limit,
            "value": self.value,
            "advice": self.advice,
            "sentence": self.sentence(),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of all checks of one step."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.ok)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return the sentences of the checks that failed."""
        return tuple(check.sentence() for check in self.failed)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.failed)

    def rows(self) -> list[dict[str, object]]:
        return [check.row() for check in self.checks]

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.checks + other.checks)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the policy allows, with the environment's ceilings applied. Money in USD."""

    order_notional: Decimal
    concurrent_orders: int
    daily_notional: Decimal
    event_exposure: Decimal
    slippage_bps: int
    book_age_ms: int
    signal_age_seconds: int
    intent_ttl_seconds: int
    fill_seconds: int
    min_annualised_pct: Decimal
    depth_share: Decimal  # of displayed sizes that plans and paper fills count on


@dataclass(frozen=True, slots=True)
class Kill:
    """The kill switch as it was read; what cannot be read is tripped."""

    tripped: bool
    reason: str = ""
    readable: bool = True


@dataclass(frozen=True, slots=True)
class BreakerView:
    """One circuit breaker. `reopen_at` is None while only a person can reset it."""

    scope: str
    subject: str
    state: BreakerState
    reason: str
    reopen_at: datetime | None
    trial: str = ""  # what the half-open breaker is being tried with

    @property
    def name(self) -> str:
        return f"{self.scope} {self.subject}".strip()


@dataclass(frozen=True, slots=True)
class Exposure:
    """The worst-case loss in one event, now and with the order (USD)."""

    event: str
    held: Decimal
    added: Decimal


@dataclass(frozen=True, slots=True)
class Leg:
    """What is known of one leg's market and book at the moment of judgement.

    None means not known. `slippage_bps` compares today's cost of the planned size
    with the plan's (under 0: cheaper); `missing` is what the book lacks within the limit (shares).
    """

    label: str
    market_state: str | None
    book_state: str | None
    book_age_ms: int | None
    epoch_planned: int | None
    epoch_now: int | None
    slippage_bps: Decimal | None
    missing: Decimal | None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be judged. `notional` is the most it can cost."""

    notional: Decimal
    instant: bool
    annualised_pct: Decimal | None
    legs: tuple[Leg, ...]
    bet: bool = False  # its return is expected, not certain


@dataclass(frozen=True, slots=True)
class Use:
    """What the desk has used already, without the order at hand."""

    open_orders: int
    day_notional: Decimal
    exposures: tuple[Exposure, ...]


@dataclass(frozen=True, slots=True)
class SignalView:
    """The signal behind the order. Ages in seconds."""

    is_open: bool
    level: str
    age_seconds: Decimal
    close_reason: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a verdict is decided on. `seconds_left` is the time to the deadline."""

    at: datetime
    order: Order
    use: Use
    kill: Kill
    breakers: tuple[BreakerView, ...]
    signal: SignalView
    seconds_left: Decimal | None = None
    trial: str = ""  # the name this order has in a half-open breaker


Question = Callable[[Situation, Bounds], Check]


def judge(step: Step, situation: Situation, bounds: Bounds) -> Verdict:
    """Ask all questions of a step; none is left out because another failed."""
    return Verdict(tuple(question(situation, bounds) for question in QUESTIONS[step]))


# --- may it be done at all -----------------------------------------------------------


def permitted(*, allowed: bool, who: str, needs: str) -> Check:
    return Check(
        "PERMISSION",
        allowed,
        f"needs the permission {needs}",
        f"{who} {'has it' if allowed else 'does not have it'}",
        "" if allowed else "Ask an administrator for a role that has it.",
    )


def status_is(status: str, *, allowed: Sequence[str]) -> Check:
    ok = status in allowed
    advice = "" if ok else f"Nothing to do: it is {status} already. Reload to see who decided."
    return Check("STATUS", ok, " or ".join(allowed), status, advice)


def four_eyes(*, proposer: str, approver: str, single_operator: bool) -> Check:
    """Check that who approves is not who proposed."""
    same = proposer == approver
    limit = f"someone other than {proposer}"
    if same and single_operator:
        return Check("FOUR_EYES", True, "anyone: MPX_SINGLE_OPERATOR is on", approver)
    advice = "Ask another approver; who proposes an order never approves it." if same else ""
    return Check("FOUR_EYES", not same, limit, approver, advice)


def second_factor(*, has: bool, who: str) -> Check:
    """Check that who approves logs in with a second factor."""
    told = f"{who} {'has one' if has else 'has none'}"
    advice = "" if has else "Set one up: Settings, Second factor. Then approve."
    return Check("SECOND_FACTOR", has, "an approver with a second factor", told, advice)


def plan_is(*, shown: str, held: str) -> Check:
    """Check that the plan that was shown is the plan that is held."""
    ok = shown == held
    advice = "" if ok else "The plan has changed. Read the difference, then decide on the new one."
    return Check("PLAN", ok, held[:12], shown[:12] or "none", advice)


def only_one(*, open_intent: str) -> Check:
    """Check that the signal has no open intent; `open_intent` describes it, or is empty."""
    ok = not open_intent
    advice = "" if ok else "Open that one. Cancel or revise it if you want another order."
    return Check("DUPLICATE", ok, "one open intent a signal", open_intent or "none", advice)


def reason_given(reason: str) -> Check:
    ok = bool(reason.strip())
    advice = "" if ok else "Say why; whoever asked will read it."
    return Check("REASON", ok, "a reason in words", "given" if ok else "none", advice)


def executable(*, ok: bool, found: str, advice: str = "") -> Check:
    """Check that there is something to buy; without advice the market may offer it again."""
    todo = advice or "Wait for the market to offer it again, or leave it."
    limit = "pays after fees at the depth shown, or a bet that its history supports"
    return Check("EXECUTABLE", ok, limit, found, "" if ok else todo)


# --- switches ------------------------------------------------------------------------


def _kill_switch(now: Situation, bounds: Bounds) -> Check:
    kill = now.kill
    if not kill.tripped:
        return Check("KILL_SWITCH", True, "off", "off")
    value = f"on: {kill.reason}" if kill.readable else f"unreadable: {kill.reason}"
    advice = "Find out why it was tripped; another person re-arms it on the risk page."
    return Check("KILL_SWITCH", False, "off", value, advice)


def _breakers(now: Situation, bounds: Bounds) -> Check:
    blocking = [each for each in now.breakers if not passes(each, at=now.at, trial=now.trial)]
    if not blocking:
        trials = [each.name for each in now.breakers if each.state != "CLOSED"]
        return Check(
            "BREAKERS", True, "closed", f"trial of {', '.join(trials)}" if trials else "closed"
        )
    value = "; ".join(f"{each.name} {each.state}: {each.reason}" for each in blocking)
    return Check("BREAKERS", False, "closed", value, _when(blocking))


def passes(breaker: BreakerView, *, at: datetime, trial: str = "") -> bool:
    """Say whether an order may pass: closed, or due for a trial that nobody else has."""
    if breaker.state == "CLOSED":
        return True
    if breaker.state == "HALF_OPEN":
        return bool(trial) and breaker.trial == trial
    return breaker.reopen_at is not None and at >= breaker.reopen_at


def _when(blocking: Sequence[BreakerView]) -> str:
    if any(each.state == "HALF_OPEN" for each in blocking):
        return "One order is on trial; wait for what becomes of it."
    times = [each.reopen_at for each in blocking]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return "A person with the permission reset_breaker closes it on the risk page."
    return f"One order is let through on trial from {max(known):%H:%M:%S} UTC."


# --- the signal and the deadline -----------------------------------------------------


def _signal_open(now: Situation, bounds: Bounds) -> Check:
    if now.signal.is_open:
        return Check("SIGNAL_OPEN", True, "open", "open")
    value = f"closed: {now.signal.close_reason or 'no reason given'}"
    return Check("SIGNAL_OPEN", False, "open", value, "Leave it; a new signal opens if it returns.")


def _signal_level(now: Situation, bounds: Bounds) -> Check:
    ok = now.signal.level in ("P1", "P2")
    advice = "" if ok else "P3 is for watching only."
    return Check("SIGNAL_LEVEL", ok, "P1 or P2", now.signal.level, advice)


def _signal_age(now: Situation, bounds: Bounds) -> Check:
    age, most = now.signal.age_seconds, bounds.signal_age_seconds
    ok = age <= most
    advice = (
        "" if ok else "A mispricing that stays so long is suspect. Look for what the rule misses."
    )
    return Check("SIGNAL_AGE", ok, f"{most} s", f"{age:.1f} s", advice)


def _deadline(now: Situation, bounds: Bounds) -> Check:
    left = now.seconds_left
    if left is None:
        return Check("INTENT_TTL", True, "no deadline yet", "no deadline yet")
    if left > 0:
        return Check("INTENT_TTL", True, "before the deadline", f"{left:.1f} s left")
    advice = "Suggest it again if the signal is still open."
    return Check("INTENT_TTL", False, "before the deadline", f"{-left:.1f} s too late", advice)


# --- caps ----------------------------------------------------------------------------


def _order_notional(now: Situation, bounds: Bounds) -> Check:
    value, limit = now.order.notional, bounds.order_notional
    ok = value <= limit
    advice = "" if ok else f"Lower the order to {money(limit)}."
    return Check("ORDER_NOTIONAL", ok, money(limit), money(value), advice)


def _concurrent_orders(now: Situation, bounds: Bounds) -> Check:
    value, limit = now.use.open_orders + 1, bounds.concurrent_orders
    ok = value <= limit
    advice = "" if ok else "Wait until an open order is filled, or cancel one."
    return Check("CONCURRENT_ORDERS", ok, str(limit), f"{value} with this one", advice)


def _daily_notional(now: Situation, bounds: Bounds) -> Check:
    used, limit = now.use.day_notional, bounds.daily_notional
    value = used + now.order.notional
    if value <= limit:
        return Check("DAILY_NOTIONAL", True, money(limit), f"{money(value)} with this one")
    room = max(limit - used, Decimal(0))
    lower = f"Lower the order to {money(room, ROUND_FLOOR)}, or wait" if room else "Wait"
    return Check(
        "DAILY_NOTIONAL",
        False,
        money(limit),
        f"{money(value)} with this one",
        f"{lower} for the new day at 00:00 UTC.",
    )


def _event_exposure(now: Situation, bounds: Bounds) -> Check:
    limit = bounds.event_exposure
    if not now.use.exposures:
        return Check("EVENT_EXPOSURE", True, money(limit), money(Decimal(0)))
    worst = max(now.use.exposures, key=lambda each: each.held + each.added)
    value = worst.held + worst.added
    said = f"{money(value)} at worst in {worst.event}"
    if value <= limit:
        return Check("EVENT_EXPOSURE", True, money(limit), said)
    room = max(limit - worst.held, Decimal(0))
    most = money(room, ROUND_FLOOR)
    when = "" if now.order.bet else " if legs stay open"
    advice = f"Lower the order so that it can lose at most {most}{when}."
    return Check("EVENT_EXPOSURE", False, money(limit), said, advice)


# --- the market now ------------------------------------------------------------------


def _market_state(now: Situation, bounds: Bounds) -> Check:
    bad = [leg for leg in now.order.legs if leg.market_state != "TRADABLE"]
    advice = "Wait until the venue takes orders there again, or leave it."
    return _of_legs("MARKET_STATE", "TRADABLE", bad, lambda leg: leg.market_state, advice)


def _book_state(now: Situation, bounds: Bounds) -> Check:
    bad = [leg for leg in now.order.legs if leg.book_state != "fresh"]
    advice = "Wait for a fresh book. If it stays so, see whether the stream runs (health card)."
    return _of_legs("BOOK_STATE", "fresh", bad, lambda leg: leg.book_state, advice)


def _book_age(now: Situation, bounds: Bounds) -> Check:
    most = bounds.book_age_ms
    ages = [leg.book_age_ms for leg in now.order.legs]
    known = [age for age in ages if age is not None]
    if len(known) < len(ages) or not known:
        advice = "No live book is kept for it. See whether the stream runs (health card)."
        return Check("BOOK_AGE", False, f"{most} ms", UNKNOWN, advice)
    ok = max(known) <= most
    advice = "" if ok else "Data is late. See whether the stream runs (health card)."
    return Check("BOOK_AGE", ok, f"{most} ms", f"{max(known)} ms", advice)


def _book_continuity(now: Situation, bounds: Bounds) -> Check:
    bad = [
        leg
        for leg in now.order.legs
        if leg.epoch_now is None or leg.epoch_planned not in (None, leg.epoch_now)
    ]
    return _of_legs(
        "BOOK_CONTINUITY",
        "no gap since the plan",
        bad,
        lambda leg: None if leg.epoch_now is None else "gap since the plan",
        "The book was lost and read again meanwhile. Make a new plan.",
    )


def _depth(now: Situation, bounds: Bounds) -> Check:
    bad = [leg for leg in now.order.legs if leg.missing is None or leg.missing > 0]
    return _of_legs(
        "DEPTH",
        "all shares within the limit prices",
        bad,
        lambda leg: None if leg.missing is None else f"{leg.missing:.2f} shares short",
        "The book has moved away. Make a new plan if it still pays.",
    )


def _slippage(now: Situation, bounds: Bounds) -> Check:
    limit = f"{bounds.slippage_bps} bps"
    known = [leg for leg in now.order.legs if leg.slippage_bps is not None]
    if len(known) < len(now.order.legs) or not known:
        advice = "The book cannot fill the size at any price. Make a new plan if it still pays."
        return Check("SLIPPAGE", False, limit, UNKNOWN, advice)
    moved = [(_moved(leg.slippage_bps or Decimal(0), now.order), leg.label) for leg in known]
    value, label = max(moved, key=lambda each: each[0])
    ok = value <= bounds.slippage_bps
    advice = "" if ok else "Prices moved since the plan. Make a new plan if it still pays."
    return Check("SLIPPAGE", ok, limit, f"{value:.1f} bps ({label})", advice)


def _moved(slippage: Decimal, order: Order) -> Decimal:
    """Return what counts of a move: a basket may get cheaper, of a bet that is news."""
    return abs(slippage) if order.bet else max(slippage, Decimal(0))


def _min_return(now: Situation, bounds: Bounds) -> Check:
    limit = f"{bounds.min_annualised_pct:.2f} % a year"
    if now.order.instant:
        return Check("MIN_RETURN", True, limit, "pays at once")
    value = now.order.annualised_pct
    if value is None:
        ok = bounds.min_annualised_pct <= 0
        advice = "" if ok else "No end date is known, so the return is not either. Leave it."
        return Check("MIN_RETURN", ok, limit, UNKNOWN, advice)
    ok = value >= bounds.min_annualised_pct
    advice = "" if ok else "The money would be locked too long for this profit. Leave it."
    told = f"{value:.2f} % a year" + (" expected" if now.order.bet else "")
    return Check("MIN_RETURN", ok, limit, told, advice)


def _of_legs(
    name: str,
    limit: str,
    bad: Sequence[Leg],
    value_of: Callable[[Leg], str | None],
    advice: str,
) -> Check:
    """Answer for all legs at once: which of them fail and with what."""
    if not bad:
        return Check(name, True, limit, "all legs")
    value = "; ".join(f"{leg.label}: {value_of(leg) or UNKNOWN}" for leg in bad)
    return Check(name, False, limit, value, advice)


def money(amount: Decimal, rounding: str = ROUND_CEILING) -> str:
    """Return USD with two decimals; rounded up, so what is over a limit never looks equal to it."""
    return f"{amount.quantize(CENT, rounding):f} USD"


_SWITCHES: tuple[Question, ...] = (_kill_switch, _breakers)
_SIGNAL: tuple[Question, ...] = (_signal_open, _signal_level, _signal_age, _deadline)
_CAPS: tuple[Question, ...] = (
    _order_notional,
    _concurrent_orders,
    _daily_notional,
    _event_exposure,
)
_MARKET: tuple[Question, ...] = (
    _market_state,
    _book_state,
    _book_age,
    _book_continuity,
    _depth,
    _slippage,
    _min_return,
)
QUESTIONS: dict[Step, tuple[Question, ...]] = {
    "suggest": (*_SWITCHES, *_SIGNAL, *_CAPS, *_MARKET),
    "approve": (*_SWITCHES, *_SIGNAL, *_CAPS, *_MARKET),
    # Once sent, an order stands on its limits: the signal may be gone, other legs may have
    # moved, and what the book lacks is a partial fill, not a refusal.
    "fill": (
        *_SWITCHES,
        _deadline,
        *_CAPS,
        _market_state,
        _book_state,
        _book_continuity,
        _slippage,
    ),
}
