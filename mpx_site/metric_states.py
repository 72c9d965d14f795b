"""States of the desk as metrics: each function asks the database and returns families.

Names follow Prometheus' conventions (base units, `_total` for what only grows); the
names that dashboards of old know are in `mpx_site.metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from alerts.delivery import backlog
from alerts.models import Heartbeat, Voice
from execution.standing import standing
from markets.models import Gap, Quarantine
from risk.models import Breaker


def states(at: datetime) -> Iterator[Metric]:
    """Return everything below at a time."""
    yield heartbeat_ages(at)
    yield from outbox(at)
    yield telegram_failures()
    yield from switches(at)
    yield from feed_quality()


def heartbeat_ages(at: datetime) -> Metric:
    family = GaugeMetricFamily(
        "mpx_heartbeat_age_seconds", "Since a stage last beat.", labels=("component",)
    )
    for beat in Heartbeat.objects.all():
        family.add_metric([beat.component], beat.age(at).total_seconds())
    return family


def outbox(at: datetime) -> Iterator[Metric]:
    """Return how many alerts wait, and for how long the first of those that are due has."""
    waiting = backlog()
    age = (at - waiting.first).total_seconds() if waiting.first else 0.0
    yield GaugeMetricFamily("mpx_outbox_pending", "Alerts that wait.", waiting.count)
    yield GaugeMetricFamily("mpx_outbox_oldest_seconds", "Since the first was written.", age)
    broken = Voice.objects.exclude(broken="").count()
    yield GaugeMetricFamily("mpx_voice_broken", "Voices that need somebody to act.", broken)


def telegram_failures() -> Metric:
    failed = Voice.objects.filter(name="telegram").aggregate(n=Sum("failures"))["n"]
    return CounterMetricFamily(
        "mpx_telegram_failures", "Messages that Telegram did not take.", failed or 0
    )


def switches(at: datetime) -> Iterator[Metric]:
    """Return kill switch, breakers and how far each limit is used (1: all of it)."""
    stands = standing(at=at)
    yield GaugeMetricFamily("mpx_kill_switch", "1 while it is on.", int(stands.kill.tripped))
    breakers = GaugeMetricFamily(
        "mpx_breaker_open", "Breakers that are not closed.", labels=("scope",)
    )
    found = Counter(each.scope for each in stands.breakers if each.state != Breaker.State.CLOSED)
    for scope in Breaker.Scope.values:
        breakers.add_metric([scope.lower()], found[scope])
    yield breakers
    limits = GaugeMetricFamily("mpx_limit_used_ratio", "Used part of a limit.", labels=("limit",))
    for limit in stands.limits:
        if limit.share is not None:
            limits.add_metric([limit.name], float(limit.share))
    yield limits


def feed_quality() -> Iterator[Metric]:
    """Return gaps of the feed and what could not be read, as they stand on record."""
    gaps = CounterMetricFamily("mpx_feed_gaps", "Times books were not known.", labels=("kind",))
    found = dict(Gap.objects.order_by().values_list("kind").annotate(n=Count("id")))
    for kind in Gap.Kind.values:
        gaps.add_metric([kind.lower()], found.get(kind, 0))
    yield gaps
    bad = CounterMetricFamily("mpx_quarantined", "Inputs set aside.", labels=("reason",))
    rows = Quarantine.objects.order_by().values_list("reason").annotate(n=Sum("count"))
    for reason, count in rows:
        bad.add_metric([reason], count or 0)
    yield bad
