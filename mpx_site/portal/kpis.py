"""The page of KPIs: per rule and UTC day, what was found and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from execution import kpi_store
from execution.kpi import Counts, Kpi, Lives, together
from execution.kpi_rows import row_of
from mpx_site.api_kpi import MOST_DAYS, newest_first
from mpx_site.kpi_coverage import Covered, coverage, of_days
from mpx_site.portal import exports
from mpx_site.portal.home_week import accepted_percent, gap_cents
from mpx_site.portal.opportunities_pictures import duration
from mpx_site.portal.pictures import Bar, bars
from rules.models import Rule

DAYS = (("7", "7 days"), ("30", "30 days"), ("92", "92 days"))
ROWS_SHOWN = 200  # rows of days and rules on the page; the file has all
DAY = timedelta(days=1)
ZERO = Decimal(0)
NOT_BEFORE, NOT_AFTER = MinValueValidator(date(2000, 1, 1)), MaxValueValidator(date(2100, 1, 1))
DAY_FIELD = forms.DateInput(attrs={"type": "date"})


class AskedKpis(forms.Form):
    """What the page is asked for. What is not valid counts as not asked, and is said."""

    days = forms.ChoiceField(choices=DAYS, required=False, label="The last")
    since = forms.DateField(
        required=False, label="or from", widget=DAY_FIELD, validators=[NOT_BEFORE, NOT_AFTER]
    )
    until = forms.DateField(
        required=False, label="to", widget=DAY_FIELD, validators=[NOT_BEFORE, NOT_AFTER]
    )
    rule = forms.ModelChoiceField(
        Rule.objects.order_by("code"), to_field_name="code", required=False, empty_label="All rules"
    )

    def __init__(self, query: QueryDict) -> None:
        super().__init__(query)
        self.is_valid()

    def clean(self) -> None:
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and not since <= until < since + MOST_DAYS * DAY:
            raise forms.ValidationError(
                f"The first day must not be after the last, and at most {MOST_DAYS - 1} before it."
            )

    @property
    def code(self) -> str | None:
        """Return the code of the one rule that is asked for; None of all."""
        found: Rule | None = self.cleaned_data.get("rule")
        return None if found is None else found.code

    def span(self, *, today: date) -> tuple[date, date]:
        """Return the first and last day: a week if nothing else is asked."""
        since: date | None = self.cleaned_data.get("since")
        until: date | None = self.cleaned_data.get("until")
        length = int(self.cleaned_data.get("days") or DAYS[0][0]) * DAY
        if self.non_field_errors():
            since = until = None
        if since and not until:
            return since, max(since, min(today, since + (MOST_DAYS - 1) * DAY))
        last = until or today
        return since or last - length + DAY, last

    @property
    def narrowed(self) -> bool:
        return any(self.data.get(name) for name in self.fields)


@dataclass(frozen=True, slots=True)
class Card:
    """A figure of the whole range, with a bar for each day. `value` is None of nothing."""

    id: str
    name: str
    value: Decimal | None
    form: str  # how it is written: whole, number, usd
    unit: str
    note: str
    days: tuple[Decimal | None, ...]

    @property
    def bars(self) -> tuple[Bar, ...]:
        return bars([float(max(value or ZERO, ZERO)) for value in self.days])


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule over the whole range."""

    rule: str
    counts: Counts
    lives: Lives

    @property
    def gap_cents(self) -> Decimal | None:
        return gap_cents(self.counts)

    @property
    def half_life(self) -> str:
        return lived(self.lives, 50)

    @property
    def long_life(self) -> str:
        return lived(self.lives, 90)


@dataclass(frozen=True, slots=True)
class DayLine(RuleLine):
    day: date
    covered: Covered


@dataclass(frozen=True, slots=True)
class KpisPage:
    asked: AskedKpis
    first: date
    last: date
    cards: tuple[Card, ...]
    rules: tuple[RuleLine, ...]
    days: tuple[DayLine, ...]
    rows: int  # of days and rules; not all are shown
    covered: Covered
    by_day: tuple[Covered, ...]

    @property
    def thin(self) -> tuple[Covered, ...]:
        """Return the days of which a part is not known."""
        return tuple(each for each in self.by_day if each.thin)

    @property
    def coverage_bars(self) -> tuple[Bar, ...]:
        return bars([float(each.percent or ZERO) for each in self.by_day])


def lived(lives: Lives, percent: int) -> str:
    """Write a percentile of lifetimes: exact of one day and rule, else the most it can be."""
    found = lives.percentile(percent)
    if found is None:
        return ""
    if found.high is None:
        return f"over {duration(found.low)}"
    return duration(found.high) if found.exact else f"under {_rounded(found.high)}"


def _rounded(ms: int) -> str:
    """Write the edge of a bin with the three digits that it is good for."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if ms >= size:
            return f"{ms / size:.3g} {unit}"
    return f"{ms} ms"


def page(asked: AskedKpis, *, at: datetime) -> KpisPage:
    first, last = asked.span(today=at.date())
    kpis = kpi_store.daily(first, last, rule=asked.code)
    covered = coverage(first, last, at=at)
    return KpisPage(
        asked=asked,
        first=first,
        last=last,
        cards=_cards(kpis, [first + n * DAY for n in range((last - first).days + 1)]),
        rules=tuple(_rule_lines(kpis)),
        days=tuple(_day_line(kpi, covered) for kpi in newest_first(kpis)[:ROWS_SHOWN]),
        rows=len(kpis),
        covered=of_days(covered.values()),
        by_day=tuple(covered.values()),
    )


def _rule_lines(kpis: Sequence[Kpi]) -> Iterable[RuleLine]:
    for code in sorted({kpi.rule for kpi in kpis}):
        yield RuleLine(code, *together(kpi for kpi in kpis if kpi.rule == code))


def _day_line(kpi: Kpi, covered: Mapping[date, Covered]) -> DayLine:
    return DayLine(kpi.rule, kpi.counts, kpi.lives, kpi.day, covered[kpi.day])


# What a card shows: its id and name, how it is counted, written and explained.
CARDS: tuple[tuple[str, str, Callable[[Counts], Decimal | None], str, str, str], ...] = (
    ("signals", "Signals", lambda c: Decimal(c.signals), "whole", "", "by day, newest right"),
    ("p1", "P1", lambda c: Decimal(c.p1), "whole", "", "executable when last seen"),
    ("edge", "Edge", lambda c: c.edge_bps, "number", "bps", "mean of each signal's best"),
    ("gap", "Gap", gap_cents, "number", "¢ per $1", "what a set pays, less what it costs"),
    ("accepted", "Approved", accepted_percent, "number", "%", "share of decided orders"),
    ("captured", "Captured", lambda c: c.captured_usd, "usd", "", "what orders brought at worst"),
    ("missed", "P1 missed", lambda c: Decimal(c.missed), "whole", "", "closed without an order"),
)  # fmt: skip


def _cards(kpis: Sequence[Kpi], days: Sequence[date]) -> tuple[Card, ...]:
    by_day: dict[date, Counts] = {day: Counts() for day in days}
    for kpi in kpis:
        by_day[kpi.day] += kpi.counts
    total = sum(by_day.values(), Counts())
    return tuple(
        Card(
            id=key,
            name=name,
            value=count(total),
            form=form,
            unit=unit,
            note=note,
            days=tuple(count(counts) for counts in by_day.values()),
        )
        for key, name, count, form, unit, note in CARDS
    )


def _column(name: str) -> exports.Column:
    return exports.Column(name, lambda row: row[name])


# As the API tells a row, so that a file and a program say the same.
COLUMNS = tuple(
    _column(name)
    for name in (*row_of(Kpi("", date.min, Counts())), "coverage")
)  # fmt: skip


def export_rows(asked: AskedKpis, *, at: datetime) -> list[dict[str, object]]:
    first, last = asked.span(today=at.date())
    covered = coverage(first, last, at=at)
    kpis = newest_first(kpi_store.daily(first, last, rule=asked.code))
    return [row_of(kpi) | {"coverage": covered[kpi.day].told} for kpi in kpis]


@require_safe
@never_cache
def kpis(request: HttpRequest) -> HttpResponseBase:
    now, asked = timezone.now(), AskedKpis(request.GET)
    file = exports.answer(request, lambda: export_rows(asked, at=now), COLUMNS, name="kpi")
    if file is not None:
        return file
    return render(request, "portal/kpi.html", {"page": page(asked, at=now)})
