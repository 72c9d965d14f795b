"""Dates, deadlines and clock times out of the text of a question (pure).

A date without a year is placed by the day the market ends: on the latest year that
does not lie after it.
"""

from __future__ import annotations

import re
from calendar import month_name, monthrange
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Literal

from markets.question_text import Text

UNKNOWN_YEAR: Final = 4  # a leap year that no market is about
GRACE: Final = timedelta(days=2)  # an end at 04:00 UTC is still the day before in New York

Role = Literal["by", "on", "in", "after", "through", "unclear"]


@dataclass(frozen=True, slots=True)
class When:
    """A time that a question speaks of. `by` runs to the end of `last`; its start is open.

    `unclear` is a deadline that could mean either end of a period ("by 2030"). `stated`
    says that the text names the year, `clock` is "17:00", "17:00-17:05" or empty.
    """

    role: Role
    first: date
    last: date
    stated: bool = True
    clock: str = ""

    def __str__(self) -> str:
        days = f"{self.last}" if self.first == self.last else f"{self.first} to {self.last}"
        return " ".join(filter(None, (self.role, days, self.clock)))


def take_times(text: Text) -> tuple[tuple[When, ...], str]:
    """Take the times out of a text; return them in order, and the zone of their clock."""
    clock, zone = _take_clock(text)
    whens = _take_dates(text)
    if clock and whens:
        whens = (*whens[:-1], replace(whens[-1], clock=clock))  # the clock follows its date
    return whens, zone


def settled(whens: tuple[When, ...], rules: str) -> tuple[When, ...]:
    """Give dates without a year the one that the market's rules name for them."""
    if not rules or all(when.stated for when in whens):
        return whens
    years: dict[tuple[int, int], set[int]] = {}
    for found in _FULL_DATE.finditer(rules):
        key = (_MONTH_OF[found["month"]], _day(found["day"]))
        years.setdefault(key, set()).add(int(found["year"]))
    return tuple(_in_year(when, years) for when in whens)


def opening_in(rules: str, *, near: date | None) -> date | None:
    """Return the day that rules name as the start of what counts; None if they name none."""
    found = _OPENING.search(rules)
    if found is None:
        return None
    return _placed(found["year"], _MONTH_OF[found["month"]], _day(found["day"]), near)


def _in_year(when: When, years: dict[tuple[int, int], set[int]]) -> When:
    told = years.get((when.last.month, when.last.day), set())
    if when.stated or len(told) != 1:
        return when
    step = next(iter(told)) - when.last.year
    try:
        first, last = (day.replace(year=day.year + step) for day in (when.first, when.last))
    except ValueError:  # 29 February
        return when
    return replace(when, first=first, last=last, stated=True)


# --- clock times ---------------------------------------------------------------

_ZONES: Final = {
    "ET": "ET EST EDT",
    "CT": "CT CST CDT",
    "MT": "MT MST MDT",
    "PT": "PT PST PDT",
    "UTC": "UTC GMT Z",
    "CET": "CET CEST",
    "AEST": "AEST AEDT",
    **{zone: zone for zone in ("BST", "MSK", "IST", "JST", "KST", "HKT", "SGT")},
}
_LONG_ZONES: Final = {
    "Eastern": "ET",
    "Central": "CT",
    "Mountain": "MT",
    "Pacific": "PT",
    "Central European": "CET",
    "Greenwich Mean": "UTC",
    "Coordinated Universal": "UTC",
}
_ZONE_OF: Final = {word: zone for zone, words in _ZONES.items() for word in words.split()}
_ZONE = "|".join(sorted(_ZONE_OF, key=len, reverse=True))
_LONG_ZONE = "|".join(sorted(_LONG_ZONES, key=len, reverse=True))
_TIME = r"(?:\d{1,2}(?::\d{2})?\s?[AaPp]\.?[Mm]\.?|\d{1,2}:\d{2}|[Nn]oon|[Mm]idnight)"
_ONE_TIME = re.compile(_TIME)
_CLOCK = re.compile(
    rf"(?:\b(?:at|by|before)\s+)?(?<![\w:]){_TIME}(?:\s?(?:-|to)\s?{_TIME})?"
    rf"(?:\s?(?P<zone>{_ZONE})\b)?(?![\w:])"
)
_NAMED_ZONE = re.compile(
    rf"(?:{_TIME}|\btime\b)[^.]{{0,12}}?\b(?P<short>{_ZONE})\b"
    rf"|\b(?P<long>{_LONG_ZONE})\s(?:Standard\s|Daylight\s)?Time\b"
)


def zones_in(text: str) -> frozenset[str]:
    """Return the time zones that a text names beside clock times."""
    found = _NAMED_ZONE.finditer(text)
    return frozenset(
        _ZONE_OF[each["short"]] if each["short"] else _LONG_ZONES[each["long"]] for each in found
    )


def _take_clock(text: Text) -> tuple[str, str]:
    clocks: list[str] = []
    zones: list[str] = []

    def use(found: re.Match[str]) -> bool:
        clocks.extend(_hhmm(each) for each in _ONE_TIME.findall(found.group()))
        if found["zone"]:
            zones.append(_ZONE_OF[found["zone"]])
        return True

    text.take(_CLOCK, use)
    return "-".join(clocks), "/".join(dict.fromkeys(zones))


def _hhmm(time: str) -> str:
    """Write "5PM" as 17:00."""
    lowered = time.lower().replace(".", "").replace(" ", "")
    if lowered in ("noon", "midnight"):
        return "12:00" if lowered == "noon" else "00:00"
    hour, _, minute = lowered.rstrip("apm").partition(":")
    number = int(hour)
    if lowered.endswith("m"):
        number = number % 12 + (12 if "p" in lowered else 0)
    return f"{number:02}:{minute or '00'}"


# --- dates ---------------------------------------------------------------------

_MONTH_OF: Final = {
    name: number for number in range(1, 13) for name in (month_name[number], month_name[number][:3])
} | {"Sept": 9}
_MONTH = "|".join(sorted(_MONTH_OF, key=len, reverse=True))
_DAY = r"\d{1,2}(?:st|nd|rd|th)?(?![\d:%])"
_YEAR = r"(?:19|20)\d{2}"
_AND_YEAR = rf"(?:(?:,\s?|\s)(?P<year>{_YEAR})\b)?"
_ROLE = (
    r"(?:\b(?P<role>[Bb]y|[Bb]efore|[Pp]rior to|[Nn]o later than|[Oo]n or before|[Oo]n|[Ii]n|"
    r"[Dd]uring|[Aa]fter|[Ss]ince|[Tt]hrough|[Uu]ntil|[Tt]ill|[Ff]rom|[Bb]etween|[Ff]or|[Oo]f)\s+)?"
    r"(?:the\s+)?"
)
_END = r"(?:(?P<end>end|close) of\s+(?:the\s+)?)?"
_START = r"(?<![\w$.,/-])"

_ISO = re.compile(rf"{_ROLE}{_START}(?P<year>{_YEAR})-(?P<month>\d\d)-(?P<day>\d\d)\b")
_RANGE = re.compile(
    rf"{_ROLE}{_START}(?P<month>{_MONTH})\.?\s(?P<day>{_DAY})(?:,\s?(?P<first_year>{_YEAR}))?"
    rf"\s?(?:-|to|and|through|until)\s?(?:(?P<month2>{_MONTH})\.?\s)?(?P<day2>{_DAY}){_AND_YEAR}"
)
_DATE = re.compile(
    rf"{_ROLE}{_START}(?:(?P<month>{_MONTH})\.?\s(?P<day>{_DAY})|"
    rf"(?P<day2>{_DAY})\s(?:of\s)?(?P<month2>{_MONTH})\b){_AND_YEAR}"
)
_FULL_DATE = re.compile(
    rf"\b(?P<month>{_MONTH})\.?\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s(?P<year>{_YEAR})\b"
)
_OPENING = re.compile(
    rf"\b(?i:between|after|from|since|starting|beginning)\s(?:on\s)?(?P<month>{_MONTH})\.?\s"
    rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:,?\s(?P<year>{_YEAR})\b)?"
)
_MONTH_OF_YEAR = re.compile(rf"{_ROLE}{_END}{_START}(?P<month>{_MONTH}),?\s(?P<year>{_YEAR})\b")
_MONTH_ALONE = re.compile(  # "May" and "March" are words too, so one of these must come before
    r"\b(?:(?P<role>by|before|prior to|on|in|during|after|since|through|until|till|of|for)\s+"
    rf"(?:the\s+)?{_END}|(?P<only_end>end of)\s+)(?P<month>{_MONTH})\b(?!\s\d)"
)
_QUARTER = re.compile(
    rf"{_ROLE}{_END}{_START}(?P<part>[QH])(?P<number>[1-4])(?:\s(?P<year>{_YEAR}))?\b"
)
_SEASON = re.compile(rf"{_START}(?P<year>{_YEAR})[-/](?P<to>\d{{4}}|\d\d)\b")
_NOT_A_YEAR = "".join(
    f"(?<!{word} )" for word in ("above", "below", "over", "under", "reach", "hit", "than", "least")
)
_YEAR_ALONE = re.compile(
    rf"{_NOT_A_YEAR}{_ROLE}{_NOT_A_YEAR}{_END}{_START}(?P<year>{_YEAR})\b"
    r"(?![,.]?\d)(?!\s?(?:%|\+|bps|points|or (?:more|less|higher|lower)))"
)

_DateReader = Callable[[re.Match[str], date | None], When | None]


def _take_dates(text: Text) -> tuple[When, ...]:
    """Take the dates out of a text, most specific spellings first."""
    found: list[tuple[int, When]] = []

    def use(match: re.Match[str]) -> bool:
        when = _READERS[match.re](match, text.near)
        if when is not None:
            found.append((match.start(), when))
        return when is not None

    for pattern in _READERS:
        text.take(pattern, use)
    return tuple(when for _, when in sorted(found, key=lambda each: each[0]))


def _iso(found: re.Match[str], near: date | None) -> When | None:
    day = _safe_date(int(found["year"]), int(found["month"]), int(found["day"]))
    return _when(found["role"], day, day) if day else None


def _range(found: re.Match[str], near: date | None) -> When | None:
    month = _MONTH_OF[found["month"]]
    month2 = _MONTH_OF[found["month2"]] if found["month2"] else month
    last = _placed(found["year"], month2, _day(found["day2"]), near)
    if last is None:
        return None
    year = int(found["first_year"] or last.year - (month > month2))
    first = _safe_date(year, month, _day(found["day"]))
    if first is None or first > last:
        return None
    return When("in", first, last, found["year"] is not None)


def _date(found: re.Match[str], near: date | None) -> When | None:
    month = _MONTH_OF[found["month"] or found["month2"]]
    day = _placed(found["year"], month, _day(found["day"] or found["day2"]), near)
    return _when(found["role"], day, day, stated=found["year"] is not None) if day else None


def _month(found: re.Match[str], near: date | None) -> When | None:
    parts = found.groupdict()
    last = _placed(parts.get("year"), _MONTH_OF[found["month"]], None, near)
    if last is None:
        return None
    end = bool(parts["end"] or parts.get("only_end"))
    stated = parts.get("year") is not None
    return _when(parts["role"], last.replace(day=1), last, end=end, stated=stated)


def _quarter(found: re.Match[str], near: date | None) -> When | None:
    months = 3 if found["part"] == "Q" else 6
    last_month = int(found["number"]) * months
    last = _placed(found["year"], last_month, None, near) if last_month <= 12 else None
    if last is None:
        return None
    first = date(last.year, last.month - months + 1, 1)
    return _when(found["role"], first, last, end=bool(found["end"]), stated=bool(found["year"]))


def _season(found: re.Match[str], near: date | None) -> When | None:
    year, to = int(found["year"]), int(found["to"])
    if to not in (year + 1, (year + 1) % 100):
        return None
    return When("in", date(year, 7, 1), date(year + 1, 6, 30))


def _year(found: re.Match[str], near: date | None) -> When | None:
    first, last = date(int(found["year"]), 1, 1), date(int(found["year"]), 12, 31)
    return _when(found["role"], first, last, end=bool(found["end"]))


_READERS: Final[dict[re.Pattern[str], _DateReader]] = {
    _ISO: _iso,
    _RANGE: _range,
    _DATE: _date,
    _MONTH_OF_YEAR: _month,
    _MONTH_ALONE: _month,
    _QUARTER: _quarter,
    _SEASON: _season,
    _YEAR_ALONE: _year,
}

_DEADLINES = frozenset({"by", "no later than", "on or before"})
_BEFORE = frozenset({"before", "prior to"})


def _when(
    role: str | None, first: date, last: date, *, end: bool = False, stated: bool = True
) -> When:
    """Give a day or period the meaning of the words before it."""
    role = (role or "").lower()
    if role in _BEFORE:
        day = last if end else first - timedelta(days=1)
        return When("by", day, day, stated)
    if role in _DEADLINES and (end or first == last):
        return When("by", last, last, stated)
    if role in _DEADLINES:
        return When("unclear", first, last, stated)
    if role in ("through", "until", "till"):
        return When("through", last, last, stated)
    if role in ("after", "since"):
        return When("after", first, last, stated)
    if end or first == last:
        return When("on", last, last, stated)
    return When("in", first, last, stated)


def _placed(year: str | None, month: int, day: int | None, near: date | None) -> date | None:
    """Return the day, or the month's last, in its year: the stated one, else that before `near`."""
    if year is not None:
        return _safe_date(int(year), month, day)
    if near is None:
        return _safe_date(UNKNOWN_YEAR, month, day)
    if not 2 <= near.year <= 9998:
        return None
    days = (_safe_date(near.year + step, month, day) for step in (1, 0, -1))
    return next((each for each in days if each and each <= near + GRACE), None)


def _safe_date(year: int, month: int, day: int | None) -> date | None:
    """Return the date, or the month's last day for no day; None if there is no such date."""
    if not 1 <= month <= 12:
        return None
    last = monthrange(year, month)[1]
    if day is None:
        return date(year, month, last)
    return date(year, month, day) if 1 <= day <= last else None


def _day(text: str) -> int:
    return int(text.rstrip("stndrh"))
