"""`seed`: fill the database from the simulated venue, without waiting for it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from markets import catalogue, ticks
from markets.frames import Frame, moment
from markets.models import Event, Market, Tick
from markets.simulator import World, frames
from markets.ticks import TickSampler
from rules.load import publish_missing
from signals import store
from signals.house import active_rules
from signals.models import Signal
from signals.pipeline import Pipeline

MINUTE_NS = 60_000_000_000
HOUR_NS = 60 * MINUTE_NS
FRAMES_PER_WRITE = 500


class Command(BaseCommand):
    help = "Store some simulated minutes. The same hour and seed give the same rows."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--events", type=int, default=settings.SIMULATOR_EVENTS)
        parser.add_argument("--seed", type=int, default=settings.SIMULATOR_SEED)
        parser.add_argument("--minutes", type=int, default=5)
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        publish_missing(at=datetime.now(UTC))
        now = int(datetime.now(UTC).timestamp()) * 1_000_000_000
        start = now - now % HOUR_NS - options["minutes"] * MINUTE_NS
        world = World(seed=options["seed"], events=options["events"], start=start)
        _store_span(world, until=start + options["minutes"] * MINUTE_NS)
        told = {
            "events": Event.objects.count(),
            "markets": Market.objects.count(),
            "ticks": Tick.objects.count(),
            "signals": Signal.objects.count(),
        }
        self.stdout.write(
            json.dumps(told)
            if options["json"]
            else ", ".join(f"{count} {name}" for name, count in told.items()) + " stored"
        )


def _store_span(world: World, *, until: int) -> None:
    """Run a span through the pipeline as fast as it goes and store what it gives."""
    pipeline, sampler = Pipeline(active_rules()), TickSampler()
    source = frames(world, until=until)
    while batch := list(islice(source, FRAMES_PER_WRITE)):
        _store_batch(pipeline, sampler, batch)
    store.save(pipeline.stop(why="seeded"))


def _store_batch(pipeline: Pipeline, sampler: TickSampler, batch: list[Frame]) -> None:
    for frame in batch:
        step = pipeline.feed(frame)
        if step.events:
            catalogue.store(step.events, seen_at=moment(frame.t))
        store.save(step.changes)
    ticks.store(sampler.take(pipeline.books))
