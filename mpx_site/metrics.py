"""`/metrics` for Prometheus, under the names that dashboards already use.

What happens in processes is counted by `alerts.meters`. What is a state of the desk is read
from the database at each scrape, so it is true whichever process answers and
after every restart.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.db.models import Count, F, Max
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from alerts.meters import REGISTRY, forget_the_dead, shared_folder
from execution.models import IntentEvent, OrderIntent
from markets.models import Quote
from mpx_site import __version__, health
from mpx_site.api_answers import problem_response
from mpx_site.api_login import token_sent
from mpx_site.api_token import is_the_token
from mpx_site.api_token_book import opens_metrics
from mpx_site.metric_states import states
from mpx_site.portal.desk import Desk, Pulse
from risk.locking import NoPolicy
from rules.models import Rule


class DeskCollector(Collector):
    """The desk's state as the database has it; with no database, only that it is unwell."""

    def describe(self) -> list[Metric]:
        return []  # nothing is asked of the database while the registry is put together

    def collect(self) -> Iterator[Metric]:
        found = health.examine()
        yield GaugeMetricFamily(
            "mpx_health", "1 while database and rules are well.", int(found.status == "ok")
        )
        yield GaugeMetricFamily("mpx_database_up", "1 while it answers.", int(found.database))
        yield build_info()
        if not found.database:
            return
        try:
            yield from [rule_evaluation(found.pulses), last_tick(Desk(at=found.at)), signals()]
            yield order_intents()
            yield from states(found.at)
        except (DatabaseError, NoPolicy):
            return  # it went away meanwhile; the next scrape says so in mpx_health


def build_info() -> Metric:
    family = GaugeMetricFamily("mpx_build_info", "What runs here.", labels=("version", "python"))
    family.add_metric([__version__, platform.python_version()], 1)
    return family


def rule_evaluation(pulses: tuple[Pulse, ...]) -> Metric:
    """Return count and sum from the stream's heartbeat, which counts since its own start."""
    family = HistogramMetricFamily("mpx_rule_eval_ms", "From a frame to its findings.")
    told = pulses[0].detail
    frames, mean_us = told.get("frames"), told.get("mean_us")
    if isinstance(frames, int) and isinstance(mean_us, int | float):
        family.add_metric([], [("+Inf", frames)], sum_value=frames * mean_us / 1_000)
    return family


def last_tick(desk: Desk) -> Metric:
    """Return when the newest quote changed; no sample before the first, for no data is not 0."""
    family = GaugeMetricFamily(
        "mpx_ingest_last_tick_timestamp", "Unix time of the newest quote.", labels=("source",)
    )
    newest = Quote.objects.aggregate(at=Max("at"))["at"]
    if newest is not None:
        family.add_metric([desk.source], newest.timestamp())
    return family


def signals() -> Metric:
    """Return the signals on record by rule; pruning them looks to Prometheus like a restart."""
    family = CounterMetricFamily("mpx_signals", "Signals opened.", labels=("rule",))
    for code, number in Rule.objects.annotate(n=Count("signals")).values_list("code", "n"):
        family.add_metric([code], number)
    return family


def order_intents() -> Metric:
    """Return how many order intents ever reached each status; the steps are kept for ever."""
    family = CounterMetricFamily(
        "mpx_order_intents", "Order intents that reached a status.", labels=("status",)
    )
    steps = IntentEvent.objects.filter(kind=F("status"))  # a step is named for where it leads
    reached = dict(steps.values_list("status").annotate(n=Count("id")))
    for status in OrderIntent.Status.values:
        family.add_metric([status.lower()], reached.get(status, 0))
    return family


REGISTRY.register(DeskCollector())
ProcessCollector(registry=REGISTRY)


def exposition() -> bytes:
    """Return everything in Prometheus's text format."""
    if shared_folder() is None:
        return generate_latest(REGISTRY)
    forget_the_dead()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(DeskCollector())
    return generate_latest(registry)


@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """Serve this machine, or whoever has the token."""
    if not (_is_local(request) or _has_token(request)):
        detail = (
            "Scrape from this machine, or send as a bearer token ADMIN_API_TOKEN or one of your "
            "own with the scope `metrics`."
        )
        return problem_response(
            request, HTTPStatus.FORBIDDEN, code="metrics_are_private", detail=detail
        )
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def _is_local(request: HttpRequest) -> bool:
    """Say whether the caller is on this machine; a proxy on it speaks for somebody else."""
    forwarded = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
    if any(header in request.META for header in forwarded):
        return False
    try:
        address: Any = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return bool(address.is_loopback)


def _has_token(request: HttpRequest) -> bool:
    sent = token_sent(request)
    return sent is not None and (is_the_token(sent) or opens_metrics(sent, at=timezone.now()))
