"""The catalogue's scheduled work. Each task may run twice and at any time.

One of each kind runs at a time, over all processes: a second one says so and
ends. Each ends itself before its time is up, so that the next one finds it done.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta

import structlog
from asgiref.sync import async_to_sync
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from markets import children, lease, sync, tick_room, watch
from markets.connections import drop_dead_connections
from markets.models import Market, SyncRun, TermsChange
from markets.near_models import NearCertain
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import VenueHttp
from markets.proposing import Run, propose_all
from markets.relations import invalidate_changed
from markets.sync import SyncResult
from markets.synonyms_file import SHIPPED, read_file
from markets.wordings import UNIVERSE

log = structlog.stdlib.get_logger(__name__)

going_down = threading.Event()  # set when this process ends: it asks the venue nothing more

FULL_SECONDS = 1_200  # 1,600 pages at a third of the allowed pace take about 160
SHORT_SECONDS = 45
RUNS_KEPT = timedelta(days=7)
CHANGES_KEPT = timedelta(days=90)
SEEN_KEPT = timedelta(days=90)  # near-certain prices: `rules.history` counts no older ones
PROPOSE_EVERY = timedelta(hours=1)
PROPOSE_SECONDS = 280  # 35,000 markets take about 20 of one core
LOOK_SECONDS = 0.5  # how soon an ending process is noticed


class GoingDown(Exception):
    """The work was dropped because the process ends."""


@shared_task(acks_late=False, soft_time_limit=FULL_SECONDS + 30, time_limit=FULL_SECONDS + 60)
def catalogue_sync(**_: object) -> str:
    """Take over everything the venue lists as open; say what came of it.

    It is acknowledged when it begins, because it may take longer than a broker
    waits; one that is lost is made up for by the next.
    """
    return _one_at_a_time("catalogue_sync", FULL_SECONDS, _full)


@shared_task(soft_time_limit=SHORT_SECONDS + 5, time_limit=SHORT_SECONDS + 10)
def reconcile(**_: object) -> str:
    """Take over new markets, and see which of the watched ones have closed."""
    return _one_at_a_time("reconcile", SHORT_SECONDS, _news)


@shared_task(soft_time_limit=SHORT_SECONDS + 5, time_limit=SHORT_SECONDS + 10)
def resolutions(**_: object) -> str:
    """Ask for the results of markets past their end."""
    return _one_at_a_time("resolutions", SHORT_SECONDS, _results)


@shared_task(soft_time_limit=240, time_limit=270)
def prune_ticks(**_: object) -> int:
    """Forget ticks older than `TICKS_KEPT_DAYS`; return how many rows, or chunks of a day.

    Where TimescaleDB's own workers do not get on with compression and candles, do that too.
    """
    drop_dead_connections()
    at = timezone.now()
    gone = tick_room.prune(before=at - timedelta(days=settings.TICKS_KEPT_DAYS))
    done = tick_room.run_late_jobs(at=at)
    if done:
        log.warning("timescale.ran_by_hand", jobs=done)
    return gone


@shared_task(soft_time_limit=20, time_limit=25)
def write_history(**_: object) -> str:
    """Start writing whole days of ticks as Parquet, long before they are pruned.

    In a process of its own, which ends by itself: a day may take minutes, and what reads and
    writes Parquet 40 MB.
    """
    if "history" in children.alive():
        return "nothing done: the last one runs still"
    children.start("history", "write", "--nice")
    return "started"


@shared_task
def prune_catalogue(**_: object) -> int:
    """Delete old rows about passes, changed terms and near-certain prices; return how many."""
    drop_dead_connections()
    at = timezone.now()
    runs, _rows = SyncRun.objects.filter(started_at__lt=at - RUNS_KEPT).delete()
    changes, _rows = TermsChange.objects.filter(at__lt=at - CHANGES_KEPT).delete()
    seen, _rows = NearCertain.objects.filter(seen_at__lt=at - SEEN_KEPT).delete()
    return runs + changes + seen


# --- relations -------------------------------------------------------------


@shared_task(soft_time_limit=PROPOSE_SECONDS, time_limit=PROPOSE_SECONDS + 10)
def propose_relations(**_: object) -> str:
    """Look through all markets for relations, once an hour; say what is new.

    It is asked more often, so that the first look comes soon after the first listing.
    """
    drop_dead_connections()
    at = timezone.now()
    if _is_listing(at) or not Market.objects.filter(state__in=UNIVERSE).exists():
        return "nothing done: the catalogue is empty, or is being read"
    name, holder = "propose_relations", f"{at.isoformat()}"
    if not lease.take(name, holder=holder, at=at, until=at + PROPOSE_EVERY):
        return "nothing done: it was looked through within the hour"
    try:
        return _proposed(propose_all(read_file(SHIPPED), by="schedule", at=at))
    except BaseException:
        lease.give_back(name, holder=holder, at=timezone.now())
        raise


@shared_task(soft_time_limit=100, time_limit=120)
def check_relations(**_: object) -> int:
    """Take every relation out of use whose members are not what was approved; return how many.

    Each change is noticed when it is stored; this finds what a crash came between.
    """
    drop_dead_connections()
    return len(invalidate_changed(None, at=timezone.now()))


def _is_listing(at: datetime) -> bool:
    """Say whether a full pass is under way; one that began too long ago was killed."""
    since = at - timedelta(seconds=FULL_SECONDS + 60)
    passes = SyncRun.objects.filter(kind=SyncRun.Kind.FULL, started_at__gte=since)
    return passes.filter(ended_at=None).exists()


def _proposed(run: Run) -> str:
    new = run.matching.new + run.ladders.new
    again = run.matching.renewed + run.ladders.renewed
    return (
        f"{len(run.found.wordings)} markets: {new} new relations and {again} again wait for "
        f"a person, {run.retired} ended; {run.groups_new} new groups, {run.groups_grown} grew"
    )


# --- asking the venue ------------------------------------------------------


def sync_now() -> SyncResult | None:
    """Do a full pass now, whatever DATA_SOURCE says; None if another process is at it.

    Raises VenueError where the venue gives no usable answer, TimeoutError where
    it takes too long.
    """
    return _alone("catalogue_sync", FULL_SECONDS, _full)


async def _full(gamma: Gamma) -> SyncResult:
    return await sync.full(gamma, at=timezone.now())


async def _news(gamma: Gamma) -> SyncResult:
    return await sync.news(gamma, watched=await sync.in_database(_conditions), at=timezone.now())


async def _results(gamma: Gamma) -> SyncResult:
    return await sync.results(gamma, at=timezone.now())


def _conditions() -> list[str]:
    return [market.condition_id for event in watch.watched() for market in event.markets]


def _one_at_a_time(
    name: str, seconds: float, work: Callable[[Gamma], Coroutine[None, None, SyncResult]]
) -> str:
    """Do work with the venue within `seconds`, unless there is no venue or another does it."""
    if settings.DATA_SOURCE != "real":
        return f"nothing done: DATA_SOURCE is {settings.DATA_SOURCE}, so there is no venue to ask"
    return str(_alone(name, seconds, work) or "nothing done: another is at it")


def _alone(
    name: str, seconds: float, work: Callable[[Gamma], Coroutine[None, None, SyncResult]]
) -> SyncResult | None:
    drop_dead_connections()
    with lease.held(name, seconds=seconds + 10) as ours:
        return _asked(seconds, work) if ours else None


def _asked(
    seconds: float, work: Callable[[Gamma], Coroutine[None, None, SyncResult]]
) -> SyncResult:
    async def ask() -> SyncResult:
        http = VenueHttp(
            gamma_url=settings.POLYMARKET_GAMMA_URL, clob_url=settings.POLYMARKET_CLOB_URL
        )
        async with http, asyncio.timeout(seconds):
            return await _unless_going_down(work(Gamma(http)))

    return async_to_sync(ask)()


async def _unless_going_down(work: Coroutine[None, None, SyncResult]) -> SyncResult:
    """Wait for work; drop it when the process ends. What it has stored stays."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
            if going_down.is_set() and task.cancel():
                await asyncio.wait({task})
                raise GoingDown
        return task.result()
    finally:
        task.cancel()
