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

from alerts import clocks, watchdog
from alerts.broker import BROKER
from alerts.delivery import backlog
from alerts.models import Heartbeat, Voice
from execution.standing import standing
from markets.models import Gap, Quarantine
from risk.models import Breaker
from signals.pulse_rows import PULSE

STREAM = "stream"


def states(at: datetime) -> Iterator[Metric]:
    """Return everything below at a time."""
    yield from parts(at)
    yield from outbox(at)
    yield telegram_failures()
    yield from switches(at)
    yield from feed_quality()


def parts(at: datetime) -> Iterator[Metric]:
    """Return the signs of life, who is missed, what waits for workers, and the pulse."""
    beats = {beat.component: beat for beat in Heartbeat.objects.all()}
    ages = {name: beat.age(at) for name, beat in beats.items()}
    old = GaugeMetricFamily(
        "mpx_heartbeat_age_seconds", "Since a stage last beat.", labels=("component",)
    )
    for name, age in ages.items():
        old.add_metric([name], age.total_seconds())
    yield old
    missed = GaugeMetricFamily(
        "mpx_component_silent", "1 while a watched part is missed.", labels=("component",)
    )
    silent = watchdog.silent_now(ages)
    for name in (*watchdog.watched(), *watchdog.shards_watched()):
        if name in beats:
            missed.add_metric([name], int(name in silent))
    yield missed
    clock = GaugeMetricFamily(
        "mpx_clock_ahead_seconds", "A stream's clock before the database's.", labels=("machine",)
    )
    for each in clocks.known(beats.values(), at=at):
        clock.add_metric([each.machine], each.ahead.total_seconds())
    yield clock
    if STREAM in beats:
        yield GaugeMetricFamily(
            "mpx_rule_last_eval_timestamp_seconds",
            "Unix time of the stream's last sign of life.",
            beats[STREAM].at.timestamp(),
        )
    if BROKER in beats and BROKER not in silent:
        yield queues(beats[BROKER])
    if PULSE in beats:
        yield from pulse(beats[PULSE])


def queues(broker: Heartbeat) -> Metric:
    family = GaugeMetricFamily("mpx_queue_depth", "Jobs that wait.", labels=("queue",))
    for queue, depth in broker.detail.get("queues", {}).items():
        family.add_metric([queue], depth)
    return family


def pulse(beat: Heartbeat) -> Iterator[Metric]:
    """Return when the desk's own pulse was heard last, and how long its way took till where."""
    yield GaugeMetricFamily(
        "mpx_pulse_timestamp_seconds", "Unix time of the last pulse.", beat.at.timestamp()
    )
    yield GaugeMetricFamily(
        "mpx_pulse_lag_seconds", "From a frame to a listener.", beat.detail["heard"]
    )
    stages = GaugeMetricFamily(
        "mpx_stage_lag_seconds", "From the pulse's frame to a stage.", labels=("stage",)
    )
    for stage in ("found", "stored", "heard"):
        stages.add_metric([stage], beat.detail[stage])
    yield stages


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
