"""How the portal writes orders: their states, their steps and the time that is left."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from mpx_site.portal import desk_words as words
from mpx_site.templatetags.desk import CENT, NOTHING, seconds
from risk.limits import UNIT_OF

register = template.Library()

LATE = 30  # seconds: from here on a deadline is marked as near
PASSED = "over"


@register.simple_tag
def intent_state(state: str) -> SafeString:
    return _state(words.INTENTS, state)


@register.simple_tag
def leg_state(state: str) -> SafeString:
    return _state(words.LEGS, state)


@register.simple_tag
def breaker_state(state: str) -> SafeString:
    return _state(words.BREAKERS, state)


@register.filter
def limit_unit(name: str) -> str:
    return UNIT_OF.get(name, "")


@register.filter
def intent_meaning(state: str) -> str:
    return words.INTENTS[state][2] if state in words.INTENTS else ""


@register.filter
def step_words(kind: str) -> str:
    """Write a step of an intent; one without words of its own speaks for itself."""
    return words.STEPS.get(kind, kind.replace("_", " ").lower())


@register.filter
def at_most(amount: Decimal | str | None) -> str:
    """Write a bound on money to the cent, rounded up as the checks do: it is never passed."""
    return f"${amount.quantize(CENT, ROUND_CEILING):,f}" if isinstance(amount, Decimal) else NOTHING


@register.filter
def change_words(what: str) -> str:
    """Name what differs between two plans as the figures of the page do."""
    return words.FIGURES.get(what, what)


@register.filter
def trimmed(value: str) -> str:
    """Write a number that is kept with many digits with as many as it needs, at least two."""
    whole, dot, rest = value.partition(".")
    if not dot or not (whole + rest).isdecimal():
        return value
    return f"{whole}.{rest[:2]}{rest[2:].rstrip('0')}"


@register.filter
def per_share(amount: Decimal | str | None) -> str:
    """Write what a share cost on average as cents, to a hundredth of one."""
    return f"{amount * 100:.2f}¢" if isinstance(amount, Decimal) else NOTHING


@register.filter
def plain_number(amount: Decimal | str | None) -> str:
    """Write a limit as it was set: no needless zeros, thousands apart."""
    if not isinstance(amount, Decimal):
        return NOTHING
    text = f"{amount:,.2f}"
    return text.rstrip("0").rstrip(".")


@register.filter
def percent(share: Decimal | str | None) -> str:
    return f"{share * 100:.0f} %" if isinstance(share, Decimal) else NOTHING


@register.filter
def hundredths(share: Decimal | str | None) -> str:
    """Write a share as the width of a bar that is 100 wide."""
    return f"{share * 100:.1f}" if isinstance(share, Decimal) else "0"


@register.simple_tag
def left(until: datetime | None, at: datetime) -> SafeString | str:
    """Write the time that is left to a deadline; the browser counts it down."""
    if until is None:
        return NOTHING
    remaining = (until - at).total_seconds()
    state = "stale" if remaining <= 0 else "late" if remaining < LATE else "ok"
    text = PASSED if remaining <= 0 else seconds(remaining)
    return format_html(
        '<span class="left" role="timer" data-until="{}" data-state="{}">{}</span>',
        _stamp(until), state, text,
    )  # fmt: skip


@register.simple_tag
def since(then: datetime | None, at: datetime, limit_ms: int) -> SafeString | str:
    """Write how old something is; the browser lets it age, and marks it past its limit."""
    if then is None:
        return "unknown"
    age = max((at - then).total_seconds(), 0)
    return format_html(
        '<span class="since" data-since="{}" data-limit-ms="{}" data-state="{}">{}</span>',
        _stamp(then), limit_ms, "stale" if age * 1000 > limit_ms else "ok", seconds(age),
    )  # fmt: skip


def _state(table: dict[str, tuple[str, str, str]], state: str) -> SafeString:
    look, sign, meaning = table.get(state, ("off", "□", ""))
    return format_html(
        '<span class="state" data-state="{}" title="{}"><span aria-hidden="true">{}</span> {}'
        "</span>",
        look, meaning, sign, state.lower().replace("_", " "),
    )  # fmt: skip


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
