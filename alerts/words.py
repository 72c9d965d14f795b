"""What an alert says: as Telegram's HTML and as plain text (pure).

Titles come from the venue and may hold anything: they are cut, their control and
direction characters go, and what is left is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

MOST_CHARACTERS = 4_096  # of one message, after its markup is read (Bot API, sendMessage)
MOST_TOLD = 20  # alerts named in a digest
LINE, HEAD = 300, 160

# What turns the direction of text round, is invisible, or breaks a line.
_UNSEEN = re.compile(r"[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")

HEADLINES = {
    "killswitch.tripped": "KILL SWITCH ON",
    "killswitch.rearmed": "Kill switch off",
    "breaker.opened": "Breaker open",
    "component.silent": "A part of the desk is silent",
    "component.back": "A part of the desk is back",
    "clock.wrong": "A clock is wrong",
    "clock.right": "The clock is right again",
    "clock.gone": "The machine with the wrong clock is gone",
    "feed.flapping": "The venue's connection keeps breaking",
    "feed.steady": "The venue's connection holds again",
    "test": "Test",
}
# What comes before a signal's kind; its level where nothing is said here.
STAGES = {
    "signal.observed": "Seen, not yet confirmed:",
    "signal.unconfirmed": "Gone before it was confirmed:",
    "signal.closed": "Over:",
}
ENDS = ("signal.unconfirmed", "signal.closed")
# Facts of a payload that are told, in this order.
FACTS = (
    "text",
    "component",
    "shards",
    "since",
    "seconds",
    "reason",
    "by",
    "scope",
    "status",
    "intent",
    "rule",
)


@dataclass(frozen=True, slots=True)
class Words:
    """One alert in words. `path` is its page in the portal, "" if it has none."""

    headline: str
    lines: tuple[str, ...] = ()
    path: str = ""
    worth: Decimal = Decimal(0)  # expected profit in USD; what a digest names first


def clean(text: object, most: int = LINE) -> str:
    """Return text on one line, cut to `most` characters, without what cannot be seen."""
    told = _UNSEEN.sub(" ", str(text)).strip()
    return told if len(told) <= most else f"{told[: most - 1]}…"


def words_of(kind: str, payload: Mapping[str, Any]) -> Words:
    """Put an outbox row into words; unknown kinds are told by their name and facts."""
    if kind.startswith("signal."):
        return _signal(kind, payload)
    lines = tuple(
        f"{name}: {clean(payload[name])}" if name != "text" else clean(payload[name], 2_000)
        for name in FACTS
        if payload.get(name)
    )
    known = HEADLINES.get(kind, kind.replace(".", " ").replace("_", " ").capitalize())
    return Words(known, lines, _page(kind, payload))


def _signal(alert: str, payload: Mapping[str, Any]) -> Words:
    kind = clean(payload.get("kind", "")).replace("_", " ")
    # Of what is over, its best moment: at its end there was next to nothing left.
    best = "peak_edge_bps" if alert in ENDS and "peak_edge_bps" in payload else "edge_bps"
    edge, profit = _number(payload.get(best)), _number(payload.get("profit"))
    title = clean(payload.get("event_title") or f"event {payload.get('event_id')}", HEAD)
    what = STAGES.get(alert) or clean(payload.get("level", ""))
    told = _life(payload) if alert in ENDS else _money(profit, payload)
    return Words(
        f"{what} {kind} {edge:+.1f} bps",
        (title, f"{told} · {clean(payload.get('rule', ''))}"),
        f"/signals/{clean(payload.get('key', ''))}/",
        profit,
    )


def _money(profit: Decimal, payload: Mapping[str, Any]) -> str:
    return f"{profit:+.2f} USD on {_number(payload.get('cost')):.2f} USD, after fees"


def _life(payload: Mapping[str, Any]) -> str:
    """Say how long a signal lived and why it ended."""
    why = clean(payload.get("close_reason") or "unknown").replace("_", " ")
    try:
        first, last = (
            datetime.fromisoformat(str(payload[key])) for key in ("opened_at", "closed_at")
        )
    except (KeyError, ValueError):
        return f"ended: {why}"
    seconds = (last - first).total_seconds()
    long = f"{seconds / 60:,.1f} min" if seconds >= 120 else f"{seconds:.2f} s"
    return f"lived {long}, ended: {why}"


def _page(kind: str, payload: Mapping[str, Any]) -> str:
    if kind.startswith("intent.") and payload.get("intent"):
        return f"/intents/{clean(payload['intent'])}/"
    if kind.startswith(("component.", "clock.", "feed.")):
        return "/health/"
    return "/risk/" if kind.startswith(("killswitch.", "breaker.")) else ""


def _number(value: object) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return number if number.is_finite() else Decimal(0)


def as_html(words: Words, *, portal: str) -> str:
    """Return a message in Telegram's HTML; only `<b>` and `<a>` are ours, the rest is text."""
    lines = [f"<b>{html.escape(words.headline)}</b>", *map(html.escape, words.lines)]
    if words.path:
        lines.append(f'<a href="{html.escape(portal + words.path)}">Open it in the portal</a>')
    return "\n".join(lines)


def as_text(words: Words, *, portal: str) -> str:
    """Return the same without markup, for whoever cannot read it."""
    told = [words.headline, *words.lines, *([portal + words.path] if words.path else [])]
    return "\n".join(told)[:MOST_CHARACTERS]


def digest(many: Sequence[Words], *, held_back: str = "") -> Words:
    """Put many alerts into one message: the most profitable first, the rest counted.

    `held_back` says why they were not told one by one.
    """
    best = sorted(many, key=lambda words: -words.worth)[:MOST_TOLD]
    lines = [
        clean(f"{words.headline} · {words.lines[0] if words.lines else ''}", 180) for words in best
    ]
    if len(many) > len(best):
        lines.append(f"and {len(many) - len(best)} more")
    why = (f"Held back: {held_back}",) if held_back else ()
    return Words(f"{len(many)} alerts", (*lines, *why), "/alerts/", best[0].worth)
