"""Whether connections to the venue break again and again: one alert for all of it, not one each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Count, Max

from alerts import troubles
from alerts.models import Trouble
from markets.gap_rows import NOT_RUNNING
from markets.models import Gap

FEED: Final = "feed"
WITHIN: Final = timedelta(minutes=10)
MOST: Final = 6  # breaks of one connection within that; as the rule MpxFeedFlapping has it
CALM: Final = timedelta(minutes=5)  # without a break, and it is over


def watch(*, at: datetime) -> None:
    """Tell once when a connection breaks too often, and once when none has for a while."""
    open_trouble = Trouble.objects.filter(component=FEED, ended_at=None).first()
    if open_trouble is None:
        most = _most_breaks(since=max(at - WITHIN, _calm_since()))
        if most > MOST:
            minutes = WITHIN // timedelta(minutes=1)
            text = f"A connection to the venue broke {most} times in {minutes} minutes."
            troubles.begin(FEED, "feed.flapping", at=at, text=text)
    elif not _most_breaks(since=at - CALM):
        troubles.end(open_trouble, "feed.steady", at=at)


def _calm_since() -> datetime:
    """Return when it was over the last time: what was told then is not told again."""
    last = Trouble.objects.filter(component=FEED).aggregate(at=Max("ended_at"))["at"]
    return last or datetime.min.replace(tzinfo=UTC)


def _most_breaks(*, since: datetime) -> int:
    """Return how often the connection broke that did so most often; a restart is no break.

    Each shard counts its connections from 0.
    """
    breaks = Gap.objects.filter(kind=Gap.Kind.CONNECTION, opened_at__gt=since)
    counted = breaks.exclude(reason=NOT_RUNNING).values("stream", "subject").annotate(n=Count("id"))
    return max((row["n"] for row in counted), default=0)
