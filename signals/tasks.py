"""The signals' scheduled work. Each task may run twice, late, or not at all for a while."""

from __future__ import annotations

from datetime import datetime

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from alerts import journal
from markets import children, lease
from markets.connections import drop_dead_connections
from markets.models import Lease
from signals import polling, store, whatif_runs

log = structlog.stdlib.get_logger(__name__)

POLL_SECONDS = 30  # a run is over long before: its share of the venue's time is bounded
WORKER = "worker"  # heartbeat of whatever runs the scheduled work


@shared_task(soft_time_limit=POLL_SECONDS - 5, time_limit=POLL_SECONDS)
def poll_books(**_: object) -> str:
    """Look at the next watched books over REST; say what came of it."""
    if settings.DATA_SOURCE != "real":
        return f"nothing done: DATA_SOURCE is {settings.DATA_SOURCE}, so there is no venue to ask"
    drop_dead_connections()
    with lease.held("poll", seconds=POLL_SECONDS) as ours:
        told = polling.poll() if ours else "nothing done: another is at it"
    log.debug("task.done", name="poll_books", told=told)
    return told


@shared_task(soft_time_limit=20, time_limit=25)
def sweep(**_: object) -> int:
    """Close the signals whose process died, and show that scheduled work is done.

    Return how many. After a pause of its own the first run closes nothing: it
    cannot tell the dead from those that just had no database either.
    """
    drop_dead_connections()
    at, last = timezone.now(), _last_sweep()
    with lease.held("sweep", seconds=25) as ours:
        if not ours:
            return 0
        closed = 0
        if last is not None and at - last < polling.LOST_AFTER:
            closed = store.close_lost(at=at, among=polling.lost_signals(at))
        if closed:
            log.warning("signals.lost", closed=closed)
        journal.beat(WORKER, at=at, progress=int(at.timestamp()), lost_signals=closed)
    return closed


@shared_task(soft_time_limit=20, time_limit=25)
def run_waiting_whatifs(**_: object) -> str:
    """Start the next what-if in a process of its own; say which. End those that have died.

    It reads as fast as it can for minutes, which would hold up whoever shares its process.
    """
    drop_dead_connections()
    at = timezone.now()
    children.alive()
    died = whatif_runs.fail_silent(at=at)
    if died:
        log.warning("whatif.died", count=died)
    run = whatif_runs.claim(at=at)
    if run is None:
        return "nothing waits"
    try:
        children.start("run_whatif", str(run.pk))
    except OSError as error:
        whatif_runs.fail_unstarted(run.pk, reason=f"It could not be started: {error}")
        raise
    return f"started {run.pk}"


@shared_task(soft_time_limit=20, time_limit=25)
def train_shadow(**_: object) -> str:
    """Train a model on what became of signals, in a process of its own: always a shadow.

    Nothing is started while the last one still trains.
    """
    if "train_model" in children.alive():
        return "one is at it"
    children.start("train_model", "--scheduled")
    return "started"


@shared_task(soft_time_limit=20, time_limit=25)
def check_replay(**_: object) -> str:
    """Start the self-check of what is kept, in a process of its own that ends by itself.

    Nothing is started while the last one runs: it may take ten minutes.
    """
    if not settings.MPX_KEEP_HOURS:
        return "nothing done: MPX_KEEP_HOURS is 0, so nothing is kept"
    drop_dead_connections()
    if "replay" in children.alive():
        return "nothing done: the last one runs still"
    children.start("replay", "--check", "--store")
    return "started"


def _last_sweep() -> datetime | None:
    return Lease.objects.filter(name="sweep").values_list("until", flat=True).first()
