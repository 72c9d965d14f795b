"""The page of data quality: how much of each market was known, and why the rest was not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from alerts.models import Heartbeat
from markets import ledger
from markets.frames import moment, unix_ns
from markets.ledger import Ledger, MarketCoverage
from markets.past.spans import Coverage, coverage
from mpx_site.portal import exports, steps
from mpx_site.portal.exports import Column
from signals.samecheck import REPLAY

HOURS = (("24", "24 hours"), ("1", "hour"), ("6", "6 hours"), ("168", "7 days"))
SHOWN = 25
# What a replay's outcome is to a person: state of the badge, its sign, its words.
LOOKS = {
    "same": ("ok", "●", "the same"),
    "differs": ("stale", "■", "DIFFERS"),
    "nothing": ("none", "□", "nothing to compare"),
    "other_code": ("none", "□", "kept by another version"),
}
MARKETS = (
    Column("market_id", "market_id"),
    Column("question", "question"),
    Column("share", lambda each: round(each.share, 6)),
    Column("followed_seconds", "followed"),
    Column("missing_seconds", "missing"),
    Column("breaks", "breaks"),
)


class AskedQuality(forms.Form):
    hours = forms.ChoiceField(choices=HOURS, required=False, label="The last")

    def __init__(self, query: QueryDict) -> None:
        super().__init__(query)
        self.is_valid()

    @property
    def span(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data.get("hours") or HOURS[0][0]))

    @property
    def words(self) -> str:
        return dict(HOURS)[self.cleaned_data.get("hours") or HOURS[0][0]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of the last self-check: its badge, when it was, and its line."""

    look: tuple[str, str, str]
    at: datetime
    line: str


@dataclass(frozen=True, slots=True)
class QualityPage:
    asked: AskedQuality
    told: Ledger
    kept: Coverage | None
    replayed: Replayed | None

    @property
    def percent(self) -> str | None:
        """Return the known share in percent, rounded down: 100 means that nothing is missing."""
        return None if self.told.share is None else floored(self.told.share)

    @property
    def look(self) -> tuple[str, str]:
        share = self.told.share
        if share is None:
            return "none", "□"
        return ("ok", "●") if share == 1 else ("aging", "▲")

    @property
    def worst(self) -> list[tuple[MarketCoverage, str]]:
        found = [each for each in self.told.markets[:SHOWN] if each.missing]
        return [(each, floored(each.share)) for each in found]

    @property
    def whole(self) -> int:
        return sum(not each.missing for each in self.told.markets)

    @property
    def kept_percent(self) -> str | None:
        if self.kept is None or self.kept.until <= self.kept.since:
            return None
        return floored(self.kept.covered / (self.kept.until - self.kept.since))

    @property
    def kept_since(self) -> datetime | None:
        return None if self.kept is None else moment(self.kept.since)


@require_safe
@never_cache
@steps.for_roles
def quality(request: HttpRequest) -> HttpResponseBase:
    at, asked = timezone.now(), AskedQuality(request.GET)
    told = ledger.coverage_of(at - asked.span, at)
    file = exports.answer(request, told.markets, MARKETS, name="data-quality")
    if file is not None:
        return file
    page = QualityPage(
        asked=asked,
        told=told,
        kept=coverage(settings.MPX_KEEP_DIR, since=unix_ns(at - asked.span)),
        replayed=replayed(),
    )
    return render(request, "portal/quality.html", {"page": page})


def replayed() -> Replayed | None:
    """Return the last self-check; None before the first."""
    beat = Heartbeat.objects.filter(component=REPLAY).first()
    if beat is None:
        return None
    detail: dict[str, Any] = beat.detail
    look = LOOKS.get(str(detail.get("outcome")), LOOKS["nothing"])
    return Replayed(look, beat.at, str(detail.get("line") or detail.get("detail") or ""))


def floored(share: float) -> str:
    """Write a share in percent with two places, rounded down."""
    percent = (Decimal(share) * 100).quantize(Decimal("0.01"), ROUND_DOWN)
    return f"{percent.normalize():f}"
