"""Numbers, their units, and what they bound, out of the text of a question (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from markets.question_text import Text

Side = Literal["above", "below", "between", "exactly"]
Mode = Literal["touch", "close", "level", ""]


@dataclass(frozen=True, slots=True, order=True)
class Amount:
    value: Decimal
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a number must be. `inclusive` says that the bound itself counts.

    Above has only `low`, below only `high`; exactly has the same twice.
    """

    side: Side
    low: Decimal | None
    high: Decimal | None
    unit: str = ""
    inclusive: bool = True

    def __str__(self) -> str:
        low, high = (None if each is None else f"{each:f}" for each in (self.low, self.high))
        sign = {"above": ">", "below": "<"}.get(self.side, "")
        if sign:
            return f"{sign}{'=' if self.inclusive else ''} {low or high} {self.unit}".strip()
        return f"{low} to {high} {self.unit}".strip() if low != high else f"{low} {self.unit}"

    @property
    def edge(self) -> Decimal:
        """Return the one number of a bound that has one, the lower of a range."""
        found = self.high if self.low is None else self.low
        return Decimal(0) if found is None else found


# --- what a number looks like ----------------------------------------------------

_SCALES: Final = {
    "thousand": 10**3,
    "k": 10**3,
    "million": 10**6,
    "m": 10**6,
    "mm": 10**6,
    "mn": 10**6,
    "billion": 10**9,
    "b": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
    "t": 10**12,
    "tn": 10**12,
}
_UNITS: Final = {
    "$": "usd",
    "\u20ac": "eur",
    "\u00a3": "gbp",
    "\u00a5": "jpy",
    "%": "%",
    "percent": "%",
    "bp": "bps",
    "bps": "bps",
    "basispoints": "bps",
    "\u00b0c": "°c",
    "\u00bac": "°c",
    "\u00b0f": "°f",
    "\u00baf": "°f",
}


def _number(n: int) -> str:
    return (
        rf"(?P<currency{n}>[$\u20ac\u00a3\u00a5])?(?:(?<![\w)])(?P<sign{n}>[-+]))?"
        rf"(?P<digits{n}>\d{{1,3}}(?:,\d{{3}})+(?:\.\d{{1,12}})?|\d{{1,15}}(?:\.\d{{1,12}})?)"
        rf"(?:\s?(?P<long{n}>thousand|million|billion|trillion)\b|"
        rf"(?P<short{n}>mm|mn|bn|tn|[kmbt])(?![a-z]))?"
        rf"(?P<plus{n}>\+)?"
        rf"(?:\s?(?P<unit{n}>%|percent\b|bps?\b|basis points\b|[\u00b0\u00ba]\s?[CF]\b))?"
    )


_ONE = re.compile(rf"(?<![\w.,]){_number(1)}(?P<ordinal>st|nd|rd|th)?(?P<after>\+)?(?!\w)", re.I)
_TWO = re.compile(
    rf"(?:\bbetween\s+)?(?<![\w.,]){_number(1)}(?:\s?-\s?|\s+(?:and|to)\s+){_number(2)}(?!\w)", re.I
)

# --- what the words around it make of it --------------------------------------------

_TOUCHES_BELOW = (
    r"(?:\b(?:dips?|drops?|falls?|crash(?:es)?|declines?|sinks?)\s(?:to|below|under)"
    r"|\bhits?\s?\(low\)|\u2193)"
)
_TOUCHES_ABOVE = (
    r"(?:\b(?:reach(?:es)?|touch(?:es)?|rises?\sto|climbs?\sto|hits?)(?:\s?\(high\))?|\u2191)"
)
_AT_LEAST = r"(?:\b(?:at least|no (?:less|fewer) than|(?:a )?minimum of)|\u2265|>=)"
_AT_MOST = r"(?:\b(?:at most|no (?:more|greater|higher) than|up to|(?:a )?maximum of)|\u2264|<=)"
_MORE = r"(?:\b(?:above|over|(?:more|greater|higher) than|exceed(?:s|ing)?|surpass(?:es)?)|>)"
_LESS = r"(?:\b(?:below|under|(?:less|fewer|lower) than)|<)"
_Rule = tuple[re.Pattern[str], Side, bool, Mode]


def _before(words: str, side: Side, *, inclusive: bool = True, mode: Mode = "level") -> _Rule:
    return re.compile(rf"{words}\s*$", re.I), side, inclusive, mode


def _after(words: str) -> re.Pattern[str]:
    return re.compile(rf"\s*(?:or|and) (?:{words})\b", re.I)


_BEFORE_NUMBER: Final = (
    _before(_TOUCHES_BELOW, "below", mode="touch"),
    _before(_TOUCHES_ABOVE, "above", mode="touch"),
    _before(_AT_LEAST, "above"),
    _before(_AT_MOST, "below"),
    _before(_MORE, "above", inclusive=False),
    _before(_LESS, "below", inclusive=False),
    _before(r"(?:\bexactly|=)", "exactly"),
)
_AFTER_NUMBER: Final[dict[Side, re.Pattern[str]]] = {
    "above": _after("more|higher|above|greater|over|hotter|later|up"),
    "below": _after("less|lower|below|fewer|under|colder|earlier"),
}
_SIDE_AFTER = re.compile(r"\s*\((?P<side>low|high)\)", re.I)  # hit $6,500 (LOW)
_OVER_UNDER = re.compile(r"\b(?:o/u|over/under)\s*$", re.I)
_MARGIN = re.compile(r"\bby\s*$", re.I)  # winning by 9% is not winning 9%
_HANDICAP = re.compile(r"\b(?:spread|handicap)\b", re.I)
_CLOSES = re.compile(r"\b(?:clos(?:e|es|ing)|settles?)\b", re.I)
_BEFORE_CHARS, _AFTER_CHARS = 28, 16


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said of one number, and from where to where in the text."""

    start: int
    end: int
    amount: Amount
    bound: Bound | None = None
    mode: Mode = ""


def take_numbers(text: Text) -> tuple[tuple[Bound, ...], tuple[Amount, ...], Mode]:
    """Take the numbers out of a text: those that bound something, and the others, sorted.

    The mode is how a bounded price counts: when it is touched, at a close, or at a time.
    """
    bounds = _take_ranges(text)
    numbers: list[Amount] = []
    touched = False
    at = 0
    while found := _ONE.search(text.left, at):
        said = _said_of(text, found, first=not bounds)
        if said.bound is None:
            numbers.append(said.amount)
        else:
            bounds.append(said.bound)
            touched = touched or said.mode == "touch"
        text.blank(said.start, said.end)
        at = found.end()
    return tuple(bounds), tuple(sorted(numbers)), _mode(text, bounds, touched=touched)


def _mode(text: Text, bounds: list[Bound], *, touched: bool) -> Mode:
    if not bounds:
        return ""
    if touched:
        return "touch"
    return "close" if _CLOSES.search(text.left) else "level"


def _take_ranges(text: Text) -> list[Bound]:
    bounds: list[Bound] = []

    def use(found: re.Match[str]) -> bool:
        low, high = _amount(found, 1), _amount(found, 2)
        unit = low.unit or high.unit
        first = low.value
        scale = _scale(found, 2)
        if scale and not _scale(found, 1) and first * scale < high.value:
            first *= scale  # 500-750k
        if (high.unit and high.unit != unit) or first >= high.value:
            return False
        if _MARGIN.search(text.left, max(0, found.start() - _BEFORE_CHARS), found.start()):
            unit = f"by {unit}".strip()
        bounds.append(Bound("between", first.normalize(), high.value, unit))
        return True

    text.take(_TWO, use)
    return bounds


def _said_of(text: Text, found: re.Match[str], *, first: bool) -> _Said:
    start = found.start()
    before = text.left[max(0, start - _BEFORE_CHARS) : start]
    amount = _amount(found, 1)
    if _MARGIN.search(before):
        amount = Amount(amount.value, f"by {amount.unit}".strip())
    return (
        (_handicap(text, found, before, amount) if first else None)
        or _over_under(text, found, before, amount)
        or _compared_before(text, found, before, amount)
        or _compared_after(text, found, amount)
        or _Said(start, found.end(), amount)
    )


def _handicap(text: Text, found: re.Match[str], before: str, amount: Amount) -> _Said | None:
    """Read "Spread: Warriors (-4.5)": the first outcome wins by more than 4.5."""
    if not before.endswith("(") or not _HANDICAP.search(text.left):
        return None
    line = Amount(-amount.value)
    named = [name.lower() in before.lower() for name in text.outcomes]
    if named == [False, True]:  # the line is the second outcome's: the first is that it misses it
        bound = _bound("below", line)
    else:
        bound = _bound("above", line, inclusive=False)
    return _Said(found.start(), found.end(), amount, bound, "level")


def _over_under(text: Text, found: re.Match[str], before: str, amount: Amount) -> _Said | None:
    said = _OVER_UNDER.search(before)
    if said is None:
        return None
    side: Side = "below" if text.outcomes[0].lower().startswith("under") else "above"
    bound = _bound(side, amount, inclusive=False)
    return _Said(found.start() - len(said.group()), found.end(), amount, bound, "level")


def _compared_before(text: Text, found: re.Match[str], before: str, amount: Amount) -> _Said | None:
    for pattern, side, inclusive, mode in _BEFORE_NUMBER:
        if said := pattern.search(before):
            end = found.end()
            later = _SIDE_AFTER.match(text.left, end) if mode == "touch" else None
            if later:
                side, end = ("below" if later["side"].lower() == "low" else "above"), later.end()
            bound = _bound(side, amount, inclusive=inclusive)
            return _Said(found.start() - len(said.group()), end, amount, bound, mode)
    return None


def _compared_after(text: Text, found: re.Match[str], amount: Amount) -> _Said | None:
    if found["plus1"] or found["after"]:
        return _Said(found.start(), found.end(), amount, _bound("above", amount), "level")
    for side, pattern in _AFTER_NUMBER.items():
        if said := pattern.match(text.left, found.end(), found.end() + _AFTER_CHARS):
            return _Said(found.start(), said.end(), amount, _bound(side, amount), "level")
    return None


def _bound(side: Side, amount: Amount, *, inclusive: bool = True) -> Bound:
    low = None if side == "below" else amount.value
    high = None if side == "above" else amount.value
    return Bound(side, low, high, amount.unit, inclusive)


def _amount(found: re.Match[str], n: int) -> Amount:
    value = Decimal(found[f"digits{n}"].replace(",", "")) * (_scale(found, n) or 1)
    unit = (found[f"unit{n}"] or found[f"currency{n}"] or "").lower().replace(" ", "")
    if found.groupdict().get("ordinal"):
        unit = "th"
    sign = -1 if found[f"sign{n}"] == "-" else 1
    return Amount((sign * value).normalize(), _UNITS.get(unit, unit))


def _scale(found: re.Match[str], n: int) -> int:
    """Return what the number is multiplied by; 0 where nothing says so."""
    return _SCALES.get((found[f"long{n}"] or found[f"short{n}"] or "").lower(), 0)
