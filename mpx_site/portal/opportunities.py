"""The page of opportunities: what closed signals were worth, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django import forms
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mpx_site.portal import exports
from mpx_site.portal import opportunities_pictures as pictures
from mpx_site.portal.filters import LEVELS
from mpx_site.portal.signal_pages import COLUMNS, for_export
from rules.models import Rule
from signals import opportunities as closed
from signals.models import SignalQuerySet
from signals.opportunities import Opportunities

DAYS = (("1", "24 hours"), ("7", "7 days"), ("30", "30 days"))
TEN_SECONDS = Decimal(10)
WEEK_SECONDS = 604_800


class AskedOpportunities(forms.Form):
    """What the page is asked for. What is not valid counts as not asked, and is said."""

    days = forms.ChoiceField(choices=DAYS, required=False, label="Closed in the last")
    rule = forms.ModelChoiceField(
        Rule.objects.order_by("code"), to_field_name="code", required=False, empty_label="All rules"
    )
    level = forms.ChoiceField(choices=LEVELS, required=False)
    seconds = forms.DecimalField(
        required=False,
        min_value=0,
        max_value=WEEK_SECONDS,
        max_digits=10,
        decimal_places=3,
        label="A person needs, seconds",
        widget=forms.NumberInput(attrs={"placeholder": "10", "step": "any"}),
    )

    def __init__(self, query: QueryDict) -> None:
        super().__init__(query)
        self.is_valid()

    def value(self, name: str) -> str:
        return str(self.cleaned_data.get(name) or "")

    @property
    def person_seconds(self) -> Decimal:
        value: Decimal | None = self.cleaned_data.get("seconds")
        return TEN_SECONDS if value is None else value

    @property
    def span(self) -> str:
        return dict(DAYS)[self.value("days") or "1"]

    @property
    def narrowed(self) -> bool:
        return bool(self.value("rule") or self.value("level"))

    def which(self, *, at: datetime) -> closed.Asked:
        days = int(self.value("days") or 1)
        return closed.of_last(days, at=at, rule=self.value("rule"), level=self.value("level"))


@dataclass(frozen=True, slots=True)
class Catch:
    """A point of the slider: what a person with so many seconds would have caught."""

    name: str
    seconds: str
    count: int
    share: float  # percent
    profit: Decimal
    x: float


@dataclass(frozen=True, slots=True)
class OpportunitiesPage:
    asked: AskedOpportunities
    found: Opportunities
    lives: pictures.LifePicture | None
    dots: pictures.DotPicture | None
    hours: tuple[pictures.HourRow, ...]
    catch: Catch
    catches: tuple[Catch, ...]

    @property
    def half_life(self) -> str:
        number = self.found.lives.half_life
        return "" if number is None else pictures.bin_name(number)

    @property
    def executable_share(self) -> float:
        return percent(self.found.executable, self.found.lives.total)

    @property
    def point(self) -> int:
        """Return the number of the point of the slider that is nearest below."""
        below = [n for n, each in enumerate(self.found.lives.reaches) if each.ms <= self._ms]
        return below[-1] if below else 0

    @property
    def _ms(self) -> int:
        return self.found.caught.ms


def page(asked: AskedOpportunities, *, at: datetime) -> OpportunitiesPage:
    seconds = asked.person_seconds
    found = closed.opportunities(asked.which(at=at), seconds=seconds)
    lives = found.lives
    return OpportunitiesPage(
        asked=asked,
        found=found,
        lives=pictures.life_picture(lives, marker_ms=found.caught.ms),
        dots=pictures.dot_picture(found.spots),
        hours=pictures.hour_rows(found.hours, busiest=found.busiest),
        catch=_catch(found.caught, lives.total),
        catches=tuple(_catch(each, lives.total) for each in lives.reaches),
    )


def _catch(reach: closed.Reach, total: int) -> Catch:
    return Catch(
        name=pictures.duration(reach.ms),
        seconds=f"{reach.ms / 1000:g}",
        count=reach.count,
        share=percent(reach.count, total),
        profit=reach.profit,
        x=pictures.place(reach.ms),
    )


def percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def rows_of(asked: AskedOpportunities, *, at: datetime) -> SignalQuerySet:
    """Return the signals that the page counts, newest first."""
    return for_export(asked.which(at=at).rows().newest())


@require_safe
@never_cache
def opportunities(request: HttpRequest) -> HttpResponseBase:
    now, asked = timezone.now(), AskedOpportunities(request.GET)
    rows = rows_of(asked, at=now)
    if (file := exports.answer(request, rows, COLUMNS, name="opportunities")) is not None:
        return file
    return render(request, "portal/opportunities.html", {"page": page(asked, at=now)})
