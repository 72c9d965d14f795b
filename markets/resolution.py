"""The same-resolution test: do two markets settle on the same facts (pure).

Two questions may sound alike and settle apart: by another source, at another hour, from
another day on, or differently when a game is called off. What the rules do not say is
unknown, and an unknown is for a person to look at, never a yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final, Literal
from urllib.parse import urlsplit

from rapidfuzz import fuzz

from markets.question_text import plain
from markets.question_times import opening_in, zones_in
from markets.questions import Reading, Wording

Aspect = Literal["source", "cutoff", "zone", "opens", "wording", "void"]
Verdict = Literal["same", "different", "unknown"]
ASPECTS: Final[tuple[Aspect, ...]] = ("source", "cutoff", "zone", "opens", "wording", "void")

ENDS_AFTER: Final = timedelta(days=2)  # the venue's end after the last day of its question
ENDS_BEFORE: Final = timedelta(days=1)
SAME_END: Final = timedelta(hours=1)
NEARLY_SAME: Final = 95.0  # of 100: sentences that differ by a name only

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_URL = re.compile(r"https?://[^\s)\"'>\]]+")
_SOURCE = re.compile(r"resolution source|resolves? (?:according to|based on)|as reported by", re.I)
_VOID = re.compile(r"50.?50|cancel|postpon|void|abandon|forfeit|\btie\b|refund|no contest", re.I)
_WORDING = re.compile(r"\"?\b(close|closing|high|low|final|intraday|official|announce\w*)\b", re.I)
_CREATION = re.compile(
    r"(?:creation|creating|issuance|launch|start|opening) of (?:this|the) (?:market|question)"
    r"|(?:market|question)(?:'s|\u2019s)? (?:creation|issuance|launch|is created|was created)",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Check:
    """One aspect of how two or more markets settle. `told` is what each of them says of it."""

    aspect: Aspect
    verdict: Verdict
    told: tuple[str, ...]


Read = tuple[Wording, Reading]


def same_resolution(members: Iterable[Read], *, ordered: bool) -> tuple[Check, ...]:
    """Compare how markets settle, aspect by aspect.

    `ordered` says that each implies the next, so that a later cut-off there, and a
    window that opens earlier, is as good as the same.
    """
    listed = tuple(members)
    return tuple(_check(aspect, listed, ordered=ordered) for aspect in ASPECTS)


def _check(aspect: Aspect, members: tuple[Read, ...], *, ordered: bool) -> Check:
    told = tuple(_TELLERS[aspect](member) for member in members)
    if aspect == "cutoff":
        compare = _in_order if ordered else _same_cutoff
        verdicts = [compare(a, b) for a, b in pairwise(members)]
    elif aspect == "opens":
        verdicts = [_same_opening(a, b, ordered=ordered) for a, b in pairwise(members)]
    else:
        verdicts = [_same(aspect, a, b, members) for a, b in pairwise(told)]
    return Check(aspect, _worst(verdicts), told)


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    order: tuple[Verdict, ...] = ("different", "unknown")
    return next((each for each in order if each in found), "same")


# --- what a market says --------------------------------------------------------


def source_of(member: Read) -> str:
    """Return the source a market settles by: its address, else the sentence that names it."""
    wording = member[0]
    if wording.source.strip():
        return wording.source.strip()
    sentence = next(filter(_SOURCE.search, _sentences(wording.rules)), "")
    address = _URL.search(sentence)
    return address.group().rstrip(".,") if address else sentence


def _zone_of(member: Read) -> str:
    wording, reading = member
    zones = zones_in(wording.rules) | zones_in(wording.question)
    return ", ".join(sorted(zones | ({reading.zone} if reading.zone else set())))


def _cutoff_of(member: Read) -> str:
    wording, reading = member
    asked = ", ".join(map(str, reading.whens)) or "no date in the question"
    ends = f"{wording.end_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if wording.end_at else "unknown"
    return f"{asked}; the venue ends it {ends}"


def _opens_of(member: Read) -> str:
    """Say since when something counts: since a day the rules name, or since the listing."""
    day, said = _opening(member)
    if said and day is not None:
        return f"counts from {day}"
    listed = f"listed {day}" if day else "the day of its listing is not stored"
    return f"counts from its creation; {listed}" if said else f"rules do not say; {listed}"


def _opening(member: Read) -> tuple[date | None, bool]:
    """Return the day from which on something counts, if known, and whether the rules say so."""
    wording = member[0]
    near = wording.end_at.date() if wording.end_at else None
    for sentence in _sentences(wording.rules):
        if not _VOID.search(sentence) and (named := opening_in(sentence, near=near)):
            return named, True
    listed = wording.opened_at.date() if wording.opened_at else None
    return listed, bool(_CREATION.search(wording.rules))


def _wording_of(member: Read) -> str:
    wording, reading = member
    words = {found.group(1).lower() for found in _WORDING.finditer(wording.rules)}
    return " ".join(filter(None, (reading.mode, *sorted(words))))


def _void_of(member: Read) -> str:
    return " ".join(filter(_VOID.search, _sentences(member[0].rules)))


_TELLERS: Final = {
    "source": source_of,
    "cutoff": _cutoff_of,
    "zone": _zone_of,
    "opens": _opens_of,
    "wording": _wording_of,
    "void": _void_of,
}


def _sentences(rules: str) -> Iterator[str]:
    return (each.strip() for each in _SENTENCE.split(rules) if each.strip())


# --- are they the same ----------------------------------------------------------


def _same(aspect: Aspect, a: str, b: str, members: tuple[Read, ...]) -> Verdict:
    if aspect in ("void", "wording"):
        # Rules that do not speak of it on either side agree; without rules nothing is known.
        if not all(wording.rules for wording, _ in members):
            return "unknown"
    elif not a or not b:
        return "unknown"
    if _spelt(a) == _spelt(b):
        return "same"
    if aspect == "source":
        return _same_source(a, b)
    near = fuzz.ratio(_spelt(a), _spelt(b)) >= NEARLY_SAME
    return "unknown" if near else "different"


def _spelt(text: str) -> str:
    return " ".join(plain(text).lower().split()).rstrip(".")


def _same_source(a: str, b: str) -> Verdict:
    """Two addresses differ or not; sentences of the same few words may mean the same."""
    hosts = [_host(each) for each in (a, b)]
    if all(hosts):
        paths = [
            urlsplit(each if "//" in each else f"//{each}").path.rstrip("/") for each in (a, b)
        ]
        if hosts[0] != hosts[1] or (all(paths) and paths[0] != paths[1]):
            return "different"
        return "same" if paths[0] == paths[1] else "unknown"
    return "unknown" if any(hosts) or fuzz.token_set_ratio(a, b) >= NEARLY_SAME else "different"


def _host(source: str) -> str:
    if " " in source:
        return ""
    host = urlsplit(source if "//" in source else f"//{source}").hostname or ""
    return host.removeprefix("www.") if "." in host else ""


def _same_opening(a: Read, b: Read, *, ordered: bool) -> Verdict:
    """Compare since when two markets count; one that follows from another may count longer."""
    (day_a, said_a), (day_b, said_b) = _opening(a), _opening(b)
    if day_a is None or day_b is None:
        return "unknown"
    if day_a == day_b or (ordered and day_b < day_a):
        return "same"
    return "different" if said_a and said_b else "unknown"


def _same_cutoff(a: Read, b: Read) -> Verdict:
    (wording_a, read_a), (wording_b, read_b) = a, b
    lasts = [max((when.last for when in each.whens), default=None) for each in (read_a, read_b)]
    clocks = [[when.clock for when in each.whens] for each in (read_a, read_b)]
    if None not in lasts and (lasts[0] != lasts[1] or clocks[0] != clocks[1]):
        return "different"
    if wording_a.end_at is None or wording_b.end_at is None:
        return "unknown"
    if misdated(wording_a, read_a) or misdated(wording_b, read_b):
        return "unknown"
    apart = abs(wording_a.end_at - wording_b.end_at)
    if apart <= SAME_END:
        return "same"
    return "unknown" if None not in lasts else "different"


def _in_order(a: Read, b: Read) -> Verdict:
    """Say whether the second market's time runs at least as long as the first's."""
    lasts = [cutoff_day(*each) for each in (a, b)]
    if lasts[0] is None or lasts[1] is None:
        return "unknown"
    if misdated(*a) or misdated(*b):
        return "unknown"
    return "same" if lasts[0] <= lasts[1] else "different"


def cutoff_day(wording: Wording, reading: Reading) -> date | None:
    """Return the last day of a market: of its question, else the day the venue ends it."""
    day = max((when.last for when in reading.whens), default=None)
    if day is None and wording.end_at is not None:
        return wording.end_at.date()
    return day


def misdated(wording: Wording, reading: Reading) -> bool:
    """Say whether the venue's end contradicts the dates of the question, or is missing."""
    if wording.end_at is None:
        return True
    last = max((when.last for when in reading.whens if when.role in ("by", "on")), default=None)
    if last is None:  # an election "in 2026" ends when it is held
        return False
    day = datetime(last.year, last.month, last.day, tzinfo=UTC)
    return not day - ENDS_BEFORE <= wording.end_at <= day + timedelta(days=1) + ENDS_AFTER
