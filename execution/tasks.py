"""Sweeps of the desk. Each is safe to run twice, late, or not at all for a while."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from celery import shared_task
from django.utils import timezone

from execution import fills, idempotency, intents, kpi_store, positions
from execution.backtest import runs
from execution.sights import DATA_LATE_SECONDS, data_age
from markets import children, lease
from markets.connections import drop_dead_connections
from risk import breakers
from risk.locking import DeskBusy

log = structlog.stdlib.get_logger(__name__)


def _swept(sweep: Callable[[], int]) -> int:
    """Run a sweep; what one leaves that finds the desk busy, the next does seconds later."""
    try:
        return sweep()
    except DeskBusy as busy:
        log.warning("sweep.busy", error=str(busy))
        return 0


@shared_task(ignore_result=True)
def expire_intents(**_: object) -> int:
    """Expire suggestions past their deadline, give up orders that no broker answers."""
    at = timezone.now()
    return _swept(lambda: intents.expire_due(at=at) + fills.give_up_lost(at=at))


@shared_task(ignore_result=True)
def watch_data(**_: object) -> bool:
    """Open the global breaker while data is late, and let it be tried again after."""
    at = timezone.now()
    age, late = data_age(at), DATA_LATE_SECONDS
    return bool(_swept(lambda: breakers.watch_data(age_seconds=age, limit_seconds=late, at=at)))


@shared_task(ignore_result=True)
def settle_positions(**_: object) -> int:
    """Pay out what is held in markets that the venue has resolved; merge complete sets."""
    at = timezone.now()

    def settle() -> int:
        positions.merge_complete(at=at)
        return positions.settle_resolved(at=at)

    return _swept(settle)


@shared_task(ignore_result=True)
def forget_keys(**_: object) -> int:
    """Drop Idempotency-Keys that nobody asks with any more."""
    return idempotency.forget_old(at=timezone.now())


@shared_task(ignore_result=True, soft_time_limit=50, time_limit=55)
def count_kpis(**_: object) -> int:
    """Count the days anew whose figures may have changed; return how many."""
    drop_dead_connections()
    with lease.held("kpis", seconds=60) as ours:
        return kpi_store.count_due(at=timezone.now()) if ours else 0


@shared_task(ignore_result=True)
def run_waiting_backtests(**_: object) -> str:
    """Start the next backtest in a process of its own; say which. End those that have died."""
    drop_dead_connections()
    children.alive()
    at = timezone.now()
    died = runs.fail_silent(at=at)
    if died:
        log.warning("backtest.died", count=died)
    run = runs.claim(at=at)
    if run is None:
        return "nothing waits"
    try:
        children.start("run_backtest", str(run.pk))
    except OSError as error:
        runs.fail_unstarted(run.pk, reason=f"It could not be started: {error}")
        raise
    return f"started {run.pk}"
