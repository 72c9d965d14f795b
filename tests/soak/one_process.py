"""Would one process have found what several found? Both are asked of the same frames.

    python -m tests.soak.one_process HOME

HOME is that of a desk that has ended: `kept/shard-K` has the frames of each shard with their
receive times, `stored.json` the signals of the database, `span.json` the time that counts
(`tests.soak.scale_hour` writes both). What came of it goes into `compared.json`.

Two things are compared.

1. Each shard's own frames, replayed alone, against the signals that it stored: key, rule, kind,
   markets, level, why it closed, observations. A key is made of rule, markets and the very
   nanosecond in which the signal was first seen, so nothing may differ by anything.

2. The frames of all shards, put together by their receive time into one stream and run through
   one pipeline as a single process has it, against what all shards stored together. This is
   fair, because that process hears the very messages of the venue, on the same connections, in
   the same order, at the same times; only their division among processes is gone. (A second
   live run of the same seed would differ by how long each message was under way, which says
   nothing about shards; that two processes and one agree over the very same seed, without a
   wire, is tested by `tests/test_shard_processes.py`.) One thing is no property of the frames:
   what a process does now and then (its sweep once a second, its look at what had to wait, every
   20 ms) happens on the first frame after it is due, and a single process has more frames. What
   is only seen by such a look may begin, end or be sampled some milliseconds earlier or later. So
   a signal that is not equal in everything is `moved` if its rule is one that is looked at now
   and then (none of the arbitrage rules within an event is) and the other side has one of the
   same rule, kind and markets, with the same level and reason, that began and ended within
   `NEAR_SECONDS` of it. These are counted, by rule. One thing shards do not do, and say so
   (docs/scale.md): a relation that waits for a person's approval is not priced while its events
   are in two shards. Its watch-list signals (P3) are counted as `not_priced_across_shards`.
   Everything else is a difference.

Signals from before all shards were at work, and from when they were told to end, are left out of
the second comparison; what was open then is compared as open.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import django
import msgspec

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")
django.setup()

from markets.frames import ENDED, Frame  # noqa: E402
from markets.past.spans import Beginning, kept_reading, spans  # noqa: E402
from markets.recording import Recording  # noqa: E402
from markets.shards import shard_of  # noqa: E402
from rules.house import is_ours  # noqa: E402
from signals.episodes import SignalChange  # noqa: E402
from signals.management.commands.replay import changes_of, rules_of  # noqa: E402
from signals.pipeline import Pipeline  # noqa: E402
from tests.soak.load import quantiles  # noqa: E402

SECOND: Final = 1_000_000_000
NEAR_SECONDS: Final = 1.1  # one sweep, and what the first frame after it takes to come
AT_ONCE: Final = frozenset({"dutch_book"})  # detectors that only frames move
STAMP: Final = re.compile(rb'"timestamp":"(\d{13})"')
CHANGE: Final = b'"event_type":"price_change"'  # a snapshot has the time of its last change
LAG_OF: Final = 10  # of every so many frames the lag is read
SHOWN: Final = 50  # differences that are written out


@dataclass(frozen=True, slots=True)
class Told:
    """A signal, with all that the two sides are held to. Times in unix ns; 0: still open."""

    key: str
    rule: str
    kind: str
    markets: tuple[str, ...]
    level: str
    why: str
    observations: int
    opened_at: int
    closed_at: int

    @property
    def subject(self) -> tuple[str, str, tuple[str, ...]]:
        return self.rule, self.kind, self.markets

    def at(self, moment: int) -> Told:
        """Return it as it stood at a time: what closed later was open, at whatever level."""
        if self.closed_at and self.closed_at < moment:
            return self
        return replace(self, level="", why="", observations=0, closed_at=0)

    def is_near(self, other: Told) -> bool:
        """Say whether both began, and ended, within a sweep of each other, in the same way."""
        ends = abs(self.closed_at - other.closed_at), abs(self.opened_at - other.opened_at)
        same = (self.level, self.why) == (other.level, other.why)
        return same and max(ends) <= NEAR_SECONDS * SECOND


Signals = dict[str, Told]  # by key


def told_by(change: SignalChange) -> Told:
    return Told(
        change.key, change.rule.code, change.finding.kind, tuple(change.finding.market_ids),
        change.level, change.why, change.observations, change.opened_at,
        change.at if change.change == "closed" else 0,
    )  # fmt: skip


def run(frames: Iterable[Frame], pipeline: Pipeline) -> Signals:
    """Run frames through a pipeline to their end."""
    found: Signals = {}
    for change in changes_of(pipeline, iter(frames)):
        told = told_by(change)
        first = found.get(told.key, told)  # the database keeps the markets that it opened with
        found[told.key] = replace(told, markets=first.markets)
    return found


class Shard:
    """The frames that a shard kept in its last session.

    `lags` are milliseconds between a message's own time and when it was received.
    """

    def __init__(self, folder: Path, *, since: int) -> None:
        kept = spans(folder)
        self.spans = [span for span in kept if span.session == kept[-1].session]
        self.sessions = len({span.session for span in kept})
        self.begun_at = self.spans[0].start
        self._since = since  # unix ns: from when on lags count
        self.frames = 0
        self.lags = array("d")

    def pipeline(self) -> Pipeline:
        """Return a new one with the rules that ran."""
        recording = Recording(self.spans[0].path)
        confirm_terms = recording.header.get("confirm_terms") is True
        return Pipeline(rules_of(recording), confirm_terms=confirm_terms)

    def read(self) -> Iterator[Frame]:
        """Yield all frames; AssertionError if one is missing between two spans."""
        beginnings = 0
        for item in kept_reading(self.spans):
            if isinstance(item, Beginning):
                beginnings += 1
                assert beginnings == 1, f"{self.spans[0].path.parent}: frames are missing"
            else:
                yield item

    def noted(self) -> Iterator[Frame]:
        """Yield all frames, and take down how late they came."""
        for frame in self.read():
            self.frames += 1
            if self.frames % LAG_OF == 0 and frame.t >= self._since:
                self._note_lag(frame)
            yield frame

    def _note_lag(self, frame: Frame) -> None:
        if CHANGE in frame.body and (stamp := STAMP.search(frame.body)):
            self.lags.append(frame.t / 1e6 - int(stamp[1]))


def put_together(shards: list[Shard]) -> Iterator[Frame]:
    """Yield the frames of all shards by their receive time, as one process would have had them.

    Connections keep apart; what the desk itself knows is told once, and the end comes once.
    """

    def of(number: int, shard: Shard) -> Iterator[Frame]:
        for frame in shard.read():
            if number and is_ours(frame.req):
                continue
            if frame.ch == "ws" and frame.req == ENDED:
                continue
            if frame.conn is not None:
                frame = msgspec.structs.replace(frame, conn=frame.conn * len(shards) + number)
            yield frame

    parts = (of(number, shard) for number, shard in enumerate(shards))
    return heapq.merge(*parts, key=lambda frame: frame.t)


def stored(home: Path) -> dict[str, Signals]:
    """Return the signals of the database by the stream that told them."""
    found: dict[str, Signals] = defaultdict(dict)
    for row in json.loads((home / "stored.json").read_text()):
        stream = row.pop("stream")
        told = Told(**{**row, "markets": tuple(row["markets"])})
        found[stream][told.key] = told
    return found


def seen_by(one: Told) -> tuple[Any, ...]:
    """Return what may not differ: all but its times, which the database has to the microsecond."""
    return one.key, *one.subject, one.level, one.why, one.observations


def differing(left: Signals, right: Signals) -> list[tuple[Told | None, Told | None]]:
    """Return what the two sides tell differently, or only one of them tells."""
    pairs = ((left.get(key), right.get(key)) for key in sorted({*left, *right}))
    return [
        (one, other)
        for one, other in pairs
        if one is None or other is None or seen_by(one) != seen_by(other)
    ]


def moved(
    differences: list[tuple[Told | None, Told | None]], *, at_once: Collection[str]
) -> tuple[list[tuple[Told, Told]], list[Told], list[Told]]:
    """Pair what only came at another moment; return the pairs, and what is left of each side."""
    left = [one for one, _ in differences if one]
    right = [other for _, other in differences if other]
    waiting: dict[Any, list[Told]] = defaultdict(list)
    for told in right:
        waiting[told.subject].append(told)
    pairs, alone = [], []
    for told in left:
        near = [each for each in waiting[told.subject] if told.is_near(each)]
        if told.rule in at_once or not near:
            alone.append(told)
            continue
        other = min(near, key=lambda each: abs(each.opened_at - told.opened_at))
        waiting[told.subject].remove(other)
        pairs.append((told, other))
    return pairs, alone, [each for rest in waiting.values() for each in rest]


def alone(shard: Shard, told: dict[str, Signals], *, number: int) -> dict[str, Any]:
    """Compare a shard's frames, replayed alone, with what it stored."""
    found = run(shard.noted(), shard.pipeline())
    kept = told.get(f"stream-{number}", {})
    ours = {k: v for k, v in kept.items() if v.opened_at >= shard.begun_at - 1_000}
    wrong = differing(ours, found)
    return {
        "stream": f"stream-{number}",
        "sessions": shard.sessions,
        "frames": shard.frames,
        "stored": len(ours),
        "replayed": len(found),
        "of_a_session_before": len(kept) - len(ours),
        "differences": len(wrong),
        "lag_ms": quantiles(shard.lags),
        "shown": shown(wrong),
    }


def together(
    shards: list[Shard], told: dict[str, Signals], *, since: int, until: int
) -> dict[str, Any]:
    """Compare all frames in one process with what all shards stored in a time (unix ns)."""

    def counted(signals: Iterable[Told]) -> Signals:
        return {s.key: s.at(until) for s in signals if since <= s.opened_at < until}

    pipeline = shards[0].pipeline()
    one = counted(run(put_together(shards), pipeline).values())
    several = counted(s for signals in told.values() for s in signals.values())
    wrong = differing(several, one)
    codes = {r.code for r in pipeline.engine.rules if r.definition.detector in AT_ONCE}
    pairs, only_several, only_one = moved(wrong, at_once=codes)
    split = across_shards(pipeline, len(shards))
    not_priced = [each for each in only_one if each.level in ("P3", "") and split(each)]
    only_one = [each for each in only_one if each not in not_priced]
    apart = [abs(a.opened_at - b.opened_at) / SECOND for a, b in pairs]
    return {
        "minutes": round((until - since) / SECOND / 60, 1),
        "several_processes": len(several),
        "one_process": len(one),
        "equal_in_everything": len(several.keys() & one.keys())
        - sum(bool(a and b) for a, b in wrong),
        "by_rule": dict(Counter(each.rule for each in several.values())),
        "by_level": dict(Counter(each.level or "open" for each in several.values())),
        "moved": len(pairs),
        "moved_by_rule": dict(Counter(a.rule for a, _ in pairs)),
        "moved_by_seconds": quantiles(apart),
        "not_priced_across_shards": len(not_priced),
        "differences": len(only_several) + len(only_one),
        "differences_by_rule": dict(Counter(each.rule for each in (*only_several, *only_one))),
        "only_several": [asdict(each) for each in only_several],
        "only_one": [asdict(each) for each in only_one],
    }


def across_shards(pipeline: Pipeline, shards: int) -> Callable[[Told], bool]:
    """Return what says of a signal that its markets are in several shards.

    Nobody approves a relation meanwhile, so that each event is where its own id belongs.
    """
    event_of = {m.market_id: e.event_id for e in pipeline.events.values() for m in e.markets}
    return lambda told: len({shard_of(event_of[m], shards) for m in told.markets}) > 1


def shown(wrong: list[tuple[Told | None, Told | None]]) -> list[Any]:
    return [[side and asdict(side) for side in pair] for pair in wrong[:SHOWN]]


def main(home: Path) -> int:
    told = stored(home)
    span = json.loads((home / "span.json").read_text())
    folders = sorted((home / "kept").glob("shard-*"))
    shards = [Shard(folder, since=span["since"]) for folder in folders]
    with ProcessPoolExecutor(max_workers=2) as pool:
        one = pool.submit(together, shards, told, **span)
        each = [pool.submit(alone, shard, told, number=n) for n, shard in enumerate(shards)]
        result = {"alone": [row.result() for row in each], "together": one.result()}
    result["told_by_others"] = {k: len(v) for k, v in told.items() if not k.startswith("stream-")}
    (home / "compared.json").write_text(json.dumps(result, indent=1))
    wrong = [*(row["differences"] for row in result["alone"]), result["together"]["differences"]]
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
