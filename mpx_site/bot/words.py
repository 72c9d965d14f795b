"""What the bot answers, in the words of the portal. Nothing is done here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeVar

from django.db.models import Q

from alerts.delivery import backlog
from alerts.models import Silence
from alerts.words import LINE, MOST_CHARACTERS, Words, clean
from execution.intents import Answer
from execution.models import OrderIntent
from execution.plans import Plan, PlannedLeg
from execution.standing import LimitNow, standing
from mpx_site.portal import words as meanings
from mpx_site.portal.arithmetic import Arithmetic, Line, arithmetic
from mpx_site.portal.desk import Desk, Pulse
from mpx_site.portal.desk_words import FIGURES
from mpx_site.portal.orders import Inbox, Waiting
from mpx_site.templatetags.desk import bps, cents, exact, gain, seconds, shares, usd
from mpx_site.templatetags.orders import at_most
from risk.checks import Verdict
from signals.models import Signal

SHOWN_SIGNALS: Final = 8
SHOWN_ORDERS: Final = 8
SHOWN_LEGS: Final = 12
KEY_LETTERS: Final = 8  # of a signal's key: enough to tell those of a day apart
HASH_LETTERS: Final = 8
TITLE, NAME = 110, 70
NOT_YOURS: Final = frozenset({"PERMISSION", "FOUR_EYES"})
ROOM: Final = MOST_CHARACTERS - 500  # for what markup and link add
# Telegram makes a link of "/kill": whoever touches it has sent it. Only our own may be one.
_LIKE_A_COMMAND: Final = re.compile(r"(?<!\w)/(?=\w)")
T = TypeVar("T")


def quoted(text: object, most: int = LINE) -> str:
    """Return text of others on one line, with nothing in it that Telegram would act on."""
    return _LIKE_A_COMMAND.sub("\N{DIVISION SLASH}", clean(text, most))


def fitted(words: Words) -> Words:
    """Return an answer that fits into one message; what is left out is said."""
    room, kept = ROOM - len(words.headline), []
    for line in words.lines:
        room -= len(line) + 1
        if room < 0:
            kept.append("… the rest is in the portal")
            break
        kept.append(line)
    return replace(words, headline=quoted(words.headline), lines=tuple(kept))


def status(*, at: datetime) -> Words:
    desk = Desk(at=at)
    lines = [
        f"Feed: {_pulse(desk.data, desk.source)}",
        f"Parts: {', '.join(_part(pulse) for pulse in desk.parts)}",
        f"Kill switch: {f'ON, {quoted(desk.kill.reason)}' if desk.kill.tripped else 'off'}",
        *(_used(limit) for limit in standing(at=at).limits if limit.used is not None),
        f"Orders: {desk.waiting} wait for approval, {_at_venue()} at the paper venue",
        f"Alerts: {backlog().count} wait{_silenced(at)}",
    ]
    if desk.single_operator:
        lines.append("Single operator: who proposes may approve")
    return Words(_headline(desk), tuple(lines), "/health/")


def _headline(desk: Desk) -> str:
    if desk.kill.tripped:
        return "KILL SWITCH ON"
    return "The desk sees the market" if desk.data.trusted else "The feed is stale"


def _pulse(pulse: Pulse, source: str) -> str:
    if pulse.age_seconds is None:
        return f"no frame was ever received ({source})"
    return f"{pulse.state}, last frame {seconds(pulse.age_seconds)} ago ({source})"


def _part(pulse: Pulse) -> str:
    age = "" if pulse.state in ("ok", "none") else f" {seconds(pulse.age_seconds)}"
    return f"{pulse.component} {pulse.state}{age}"


def _used(limit: LimitNow) -> str:
    return f"{limit.label}: {_short(limit.used)} of {_short(limit.allowed)} used"


def _short(amount: Decimal | None) -> str:
    """Write a number to the cent, without zeros that say nothing."""
    return f"{amount or 0:.2f}".removesuffix(".00")


def _at_venue() -> int:
    return OrderIntent.objects.open().count()


def _silenced(at: datetime) -> str:
    found = Silence.objects.filter(until__gt=at, scope=Silence.Scope.ALL).order_by("-until").first()
    if found is None:
        return ""
    return f"; all silenced until {found.until:%H:%M} UTC: {quoted(found.reason, 120)}"


# --- signals -------------------------------------------------------------------------


def newest_signals() -> Words:
    rows = Signal.objects.open().filter(level__in=("P1", "P2")).defer("payload")
    found = list(rows.select_related("rule", "event").order_by("-opened_at", "-id"))
    if not found:
        return Words("No open P1 or P2", ("Nothing pays after fees now.",), "/signals/")
    lines = [_signal_line(signal) for signal in found[:SHOWN_SIGNALS]]
    if len(found) > SHOWN_SIGNALS:
        lines.append(f"and {len(found) - SHOWN_SIGNALS} more")
    return Words(f"{len(found)} open P1 and P2, newest first", tuple(lines), "/signals/")


def _signal_line(signal: Signal) -> str:
    title = signal.event.title if signal.event else meanings.kind_name(signal.kind)
    told = f"{signal.level} {bps(signal.edge_bps)} bps {gain(signal.profit)}"
    return f"{told} · {quoted(title, NAME)} · /why_{signal.key[:KEY_LETTERS]}"


def signals_like(key: str) -> list[Signal]:
    """Return the newest signals, two at most, whose keys begin like this."""
    found = Signal.objects.newest().filter(Q(key=key) | Q(key__startswith=key))
    return list(found[:2])


def why(signal: Signal, *, at: datetime) -> Words:
    """Say the sum behind a signal, as its page does."""
    title = signal.event.title if signal.event else meanings.kind_name(signal.kind)
    reckoned = arithmetic(signal.payload)
    lines = (
        quoted(title, TITLE),
        _state(signal, at),
        f"{signal.verdict}: {meanings.VERDICTS.get(signal.verdict, '')}",
        *(quoted(f"{code}: {meanings.blocker(code)}") for code in signal.blocked_by),
        *(_sum(reckoned, bet=signal.verdict == "OBSERVED") if reckoned else ()),
    )
    headline = f"{signal.level} {meanings.kind_name(signal.kind)} {bps(signal.edge_bps)} bps"
    return Words(headline, lines, f"/signals/{signal.key}/")


def _state(signal: Signal, at: datetime) -> str:
    lived = seconds(signal.lifetime(at).total_seconds())
    if signal.status == Signal.Status.OPEN:
        return f"Open for {lived}, rule {quoted(signal.rule.code, NAME)}"
    return f"Closed after {lived}: {meanings.close_reason(signal.close_reason)}"


def _sum(found: Arithmetic, *, bet: bool) -> Iterable[str]:
    plan = found.plan
    yield from _within(found.lines, _bought)
    if not plan.legs:
        yield from (quoted(f"{meanings.fact_name(name)}: {told}") for name, told in _facts(found))
        return
    yield f"Cost {exact(plan.cost)}, fees of {exact(plan.fees)} inside"
    worst = f" ({quoted(found.worst_state, NAME)})" if found.worst_state else ""
    yield f"Pays at worst {exact(plan.min_payoff)}{worst}"
    if not bet:
        yield f"Profit {exact(plan.profit)}, edge {exact(plan.edge_bps)} bps"
    yield from (meanings.condition(code) for code in plan.conditions)


def _facts(found: Arithmetic) -> Sequence[tuple[str, str]]:
    return list(found.plan.facts.items())[:SHOWN_LEGS]


def _bought(line: Line) -> str:
    leg = line.leg
    of = line.market.label or line.market.question if line.market else f"market {leg.market_id}"
    now = f", now {cents(line.now.ask)}" if line.now and line.now.ask is not None else ""
    return (
        f"{shares(leg.size)} {quoted(leg.outcome, NAME)} of {quoted(of, NAME)} at "
        f"{exact(leg.avg_price)} + {exact(leg.fee)} = {exact(leg.cost)}{now}"
    )


# --- orders --------------------------------------------------------------------------


def waiting_orders(inbox: Inbox, *, at: datetime) -> Words:
    if not inbox.waiting:
        return Words("Nothing waits for approval", (), "/approvals/")
    lines = [_order_line(each, at) for each in inbox.waiting[:SHOWN_ORDERS]]
    if len(inbox.waiting) > SHOWN_ORDERS:
        lines.append(f"and {len(inbox.waiting) - SHOWN_ORDERS} more")
    return Words(f"{len(inbox.waiting)} wait for approval", tuple(lines), "/approvals/")


def _order_line(each: Waiting, at: datetime) -> str:
    intent = each.intent
    title = intent.event.title if intent.event else meanings.kind_name(intent.kind)
    who = quoted(intent.proposer.get_username(), NAME)
    told = f"{at_most(intent.notional)} at most, pays {usd(intent.min_payoff)} at worst"
    step = f"/approve_{intent.pk}" if each.may.ok else "not for you to approve"
    left = seconds(float(intent.seconds_left(at)))
    return f"{intent.pk}: {quoted(title, NAME)} · {told} · by {who} · {left} left · {step}"


def order(intent: OrderIntent, verdict: Verdict, *, asks: str, at: datetime) -> Words:
    """Say what would be signed. `asks` is what the buttons do, "" where there are none."""
    plan = intent.typed_plan
    title = intent.event.title if intent.event else meanings.kind_name(intent.kind)
    who, left = quoted(intent.proposer.get_username(), NAME), float(intent.seconds_left(at))
    lines = [
        quoted(title, TITLE),
        f"{meanings.kind_name(intent.kind)} by {who}, version {intent.revision}",
        *_within(plan.legs, _leg),
        *_figures(plan),
        f"Plan {intent.plan_hash[:HASH_LETTERS]}",
    ]
    if intent.status == OrderIntent.Status.SUGGESTED:
        lines.append(f"Time to decide: {seconds(left) if left > 0 else 'over'}")
    told = map(_reason, verdict.reasons)
    lines += [f"✕ {reason}" for reason in told] or [f"✓ all {len(verdict.checks)} checks pass now"]
    return Words(
        f"Order {intent.pk}, {intent.status.lower()}",
        (*lines, *([asks] if asks else [])),
        f"/intents/{intent.pk}/",
    )


def _leg(leg: PlannedLeg) -> str:
    return (
        f"Buy {shares(leg.size)} of {quoted(leg.label, NAME)}, "
        f"limit {cents(leg.limit_price)}, expected {usd(leg.cost)}"
    )


def _figures(plan: Plan) -> Iterable[str]:
    yield f"Costs at most {at_most(plan.notional)}; {usd(plan.cost)} expected"
    if plan.bet:
        yield "A bet: all of it can be lost"
        return
    yield f"Pays at worst {usd(plan.min_payoff)}: {gain(plan.profit)}, {bps(plan.edge_bps)} bps"
    yield f"Lost if legs stay open: {at_most(plan.worst_loss)} ({quoted(plan.worst_case, NAME)})"


def decided(number: int, answer: Answer, *, done: str) -> Words:
    """Say what became of a step: the same reasons that the page shows."""
    path = f"/intents/{number}/"
    if answer.applied:
        return Words(f"Order {number} is {done}", (), path)
    changes = [
        quoted(f"{FIGURES.get(each.what, each.what)}: {each.old} → {each.new}")
        for each in answer.difference
    ]
    again = _again(answer)
    return Words(
        f"Order {number}: refused", (*map(_reason, answer.reasons), *changes, *again), path
    )


def _again(answer: Answer) -> tuple[str, ...]:
    """Say how to look once more at what waits, where another time may have another answer."""
    waits = answer.intent is not None and answer.intent.status == OrderIntent.Status.SUGGESTED
    if not waits or answer.intent is None or NOT_YOURS & set(answer.verdict.names):
        return ()
    return (f"It waits still: /approve_{answer.intent.pk}",)


def _reason(sentence: str) -> str:
    """Write a check's sentence; one that names every leg is long."""
    return quoted(sentence, 600)


def refused(what: str, verdict: Verdict, *, path: str = "") -> Words:
    return Words(what, tuple(map(_reason, verdict.reasons)), path)


def _within(rows: Sequence[T], told: Callable[[T], str]) -> Iterable[str]:
    """Tell the first rows and count the others."""
    yield from map(told, rows[:SHOWN_LEGS])
    if len(rows) > SHOWN_LEGS:
        yield f"and {len(rows) - SHOWN_LEGS} more legs"
