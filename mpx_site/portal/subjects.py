"""Where the things that the journal speaks of have their pages."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse

PAGES = {"signal": "signal", "intent": "intent", "market": "market", "event": "event",
         "rule": "rule"}  # fmt: skip
ELSEWHERE = {"policy": "risk", "killswitch": "risk", "breaker": "risk", "position": "positions"}


@dataclass(frozen=True, slots=True)
class Place:
    """A subject in words and the address of its page; empty where it has none."""

    text: str
    address: str


def place_of(subject: str) -> Place:
    """Read a subject like `signal:KEY` or `policy`; a key no page could have has no address."""
    kind, _, rest = subject.partition(":")
    key = rest.partition(":")[0]
    try:
        if kind in PAGES and key:
            return Place(subject, reverse(PAGES[kind], args=[key]))
        return Place(subject, reverse(ELSEWHERE[kind]) if kind in ELSEWHERE else "")
    except NoReverseMatch:
        return Place(subject, "")
