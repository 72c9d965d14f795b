"""The live path in small: a simulated venue run fast, recorded, without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from markets.frames import Frame
from markets.simulator.world import World, frames
from rules.dsl import parse_rule, read_dir
from rules.engine import ActiveRule
from signals.live import Live
from signals.sources import Clock, Paced
from tests.servers import ROOT

START = 1_770_000_000_000_000_000
SECOND = 1_000_000_000
SHIPPED = ROOT / "rules" / "defs" / "dutch_book_detect.yaml"


def rule(**changed: str) -> ActiveRule:
    """Return the shipped rule with some of its values replaced in the text."""
    text = SHIPPED.read_text()
    for name, value in changed.items():
        before = next(line for line in text.splitlines() if line.strip().startswith(f"{name}:"))
        indent = before[: len(before) - len(before.lstrip())]
        text = text.replace(before, f"{indent}{name}: {value}")
    return ActiveRule.of(parse_rule(text, source="test"))


def shipped_rules() -> tuple[ActiveRule, ...]:
    files, _ = read_dir(SHIPPED.parent)
    return tuple(ActiveRule.of(file.definition) for file in files)


def simulated(*, seed: int = 7, seconds: int = 30) -> Iterator[Frame]:
    """A world in which much happens."""
    world = World(seed=seed, events=20, start=START, plant_every=3, decoy_every=2)
    return frames(world, until=START + seconds * SECOND)


def run_live(
    recording: Path,
    *,
    rules: tuple[ActiveRule, ...] = (),
    feed: Iterator[Frame] | None = None,
    speed: float = 15,
) -> Live:
    """Run the live path over frames on the wall clock, `speed` times as fast; return it ended."""
    clock = Clock()
    live = Live(rules or shipped_rules(), clock=clock, writer=None, recording=recording)
    source = Paced(feed or simulated(), clock, speed)
    asyncio.run(live.run(source, stop=asyncio.Event()))
    return live
