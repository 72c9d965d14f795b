"""Recordings that other people's collectors spoiled: whatever they say, nothing is executable.

The files lie at `../shared/data/bad` (MANIFEST.json says what is wrong with each; the crossed
quotes are by DineshKumar8399, CC-BY-4.0). They hold tops of book only, so each row becomes a
book of one level a side, of a market of its own: binary, no fee, tick 0.001, no other market in
its event. A price or size that is missing leaves its side empty.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from markets.frames import Frame
from rules.kernel.finding import Limits
from rules.scan import scan
from rules.snapshot import read_json, read_snapshot
from signals.episodes import SignalChange
from signals.pipeline import Pipeline
from tests.live_cast import shipped_rules
from tests.wire_files import book, event, market

BAD = Path(__file__).resolve().parents[2] / "shared" / "data" / "bad"
pytestmark = pytest.mark.skipif(not BAD.exists(), reason="real data (../shared/data) are not here")

CONNECTION = 1
YOSI = ("yosi_snapshots_2026-01-01", "yosi_snapshots_2026-01-02")


@dataclass(frozen=True)
class Top:
    """A row: what a collector took for the touch of one outcome. Prices in USD, as its text."""

    at_ms: int
    name: str  # of its market
    outcome: int
    bid: str
    ask: str
    bid_size: float
    ask_size: float


def lines(name: str) -> list[dict[str, str]]:
    with gzip.open(BAD / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def unix_ms(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp() * 1_000)


class Tops:
    """The rows of a file, its markets numbered in the order of their first row."""

    def __init__(self, tops: Iterable[Top]) -> None:
        self.tops = sorted(tops, key=lambda top: top.at_ms)
        self.numbers: dict[str, int] = {}
        for top in self.tops:
            self.numbers.setdefault(top.name, len(self.numbers))

    def events(self) -> list[dict]:
        return [
            event(
                [market(number, neg_risk=False, orderPriceMinTickSize=0.001)],
                neg_risk=False,
                id=str(7_000 + number),
            )
            for number in self.numbers.values()
        ]

    def answer(self, top: Top) -> dict:
        """Return a row as the venue's `/book` would say it."""
        sides = {
            side: [{"price": price, "size": f"{size:.2f}"}] if price and size else []
            for side, price, size in (
                ("bids", top.bid, top.bid_size),
                ("asks", top.ask, top.ask_size),
            )
        }
        shell = book(self.numbers[top.name], [], outcome=top.outcome, timestamp=str(top.at_ms))
        return {**shell, "tick_size": "0.001", "neg_risk": False, **sides}

    def frames(self, channel: str) -> Iterator[Frame]:
        """Return the listing, then each row as a frame of one channel, 1 ns apart at least."""
        last = self.tops[0].at_ms * 10**6 - 1
        yield Frame(last, "gamma", json.dumps(self.events()).encode())
        for top in self.tops:
            last = max(last + 1, top.at_ms * 10**6)
            said = self.answer(top)
            if channel == "ws":
                said = {**said, "event_type": "book"}
                yield Frame(last, "ws", json.dumps(said).encode(), CONNECTION)
            else:
                yield Frame(last, "clob", json.dumps([said]).encode(), None, "/books")

    def by_moment(self) -> Iterator[list[Top]]:
        """Return the rows of each time that the collector wrote."""
        moments: dict[int, list[Top]] = {}
        for top in self.tops:
            moments.setdefault(top.at_ms, []).append(top)
        yield from moments.values()


def played(tops: Tops, channel: str) -> tuple[list[SignalChange], Counter[str]]:
    """Run the frames through the live path; return every change and, per row, the book's state."""
    pipeline = Pipeline(shipped_rules())
    changes: list[SignalChange] = []
    states: Counter[str] = Counter()
    for frame in tops.frames(channel):
        changes += pipeline.feed(frame).changes
        if frame.ch != "gamma":
            said = json.loads(frame.body)
            said = said[0] if isinstance(said, list) else said
            states[pipeline.books.by_market[said["market"]].state] += 1
    changes += pipeline.stop()
    return changes, states


def scanned(tops: Tops, moments: Iterable[list[Top]]) -> tuple[Counter[str], Counter[str]]:
    """Scan the rows of each moment; return all verdicts with their blocks, and the problems."""
    verdicts: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    events = read_json("events.json", json.dumps(tops.events()).encode())
    for moment in moments:
        answers = [tops.answer(top) for top in moment]
        books = read_json("books.json", json.dumps(answers).encode())
        snapshot = read_snapshot(gamma=[events], books=[books])
        assert snapshot.newest_at
        told = scan(snapshot, at=snapshot.newest_at, limits=Limits())
        for finding in told.opportunities:
            verdicts[" ".join((finding.verdict, *sorted(finding.blocked_by)))] += 1
        problems.update(problem.problem for problem in told.problems)
    return verdicts, problems


# --- the worst level taken for the best -----------------------------------------------


def updown() -> Tops:
    return Tops(
        Top(
            int(row["timestamp_ms"]), row["market_ts"], ("up", "down").index(row["side"]),
            f"{int(row['bid']) / 10**6:.2f}", f"{int(row['ask']) / 10**6:.2f}",
            float(row["bid_depth"]), float(row["ask_depth"]),
        )
        for row in lines("btc_updown_2026-02-17_worst_level_first_bug")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("channel", "expected"), [("ws", {"fresh": 600}), ("clob", {"fresh": 2, "stale": 598})]
)
def test_constant_penny_book_is_worth_nothing(channel: str, expected: dict[str, int]) -> None:
    """600 rows, "up" as outcome 0 and "down" as outcome 1 of one market: 0.01/0.99 throughout.

    Prices are in 1e-6 USD there, the depths are taken as shares. As snapshots of the feed they
    are fresh; as answers beside a silent feed they contradict each other from the second on, so
    the book is stale. No signal in either: both sides together cost 1.98.
    """
    changes, states = played(updown(), channel)

    assert changes == []
    assert states == expected


def test_scan_of_the_penny_book_finds_no_pair_that_agrees() -> None:
    """Each "up" row with the "down" row after it: no depth is the other's, nothing is offered."""
    tops = updown()
    pairs = [tops.tops[at : at + 2] for at in range(0, 600, 2)]

    verdicts, problems = scanned(tops, pairs)

    assert verdicts == {}
    assert problems == {"incoherent_pair": 300}


# --- quotes of two moments in one row --------------------------------------------------


def crossed() -> Tops:
    return Tops(
        Top(unix_ms(row["ts"]), row["slug"], 0, row["bid"], row["ask"], 100, 100)
        for row in lines("us_crossed_quotes_2026-07-11")
    )


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("ws", {"fresh": 6_865, "crossed": 241}),
        ("clob", {"fresh": 270, "stale": 6_835, "crossed": 1}),
    ],
)
def test_crossed_quotes_are_never_an_arbitrage(channel: str, expected: dict[str, int]) -> None:
    """7,106 rows of 135 slugs, outcome 0, 100 shares a side (the file has no sizes).

    241 have an ask that is not above the bid. As answers, all but those that repeat what is held
    make the book stale (see above).
    """
    changes, states = played(crossed(), channel)

    # What is only likely (a tilt, a jump) may be said of the rows that are not crossed.
    assert [each for each in changes if each.finding.verdict != "OBSERVED"] == []
    assert states == expected


def test_scan_calls_crossed_quotes_crossed() -> None:
    """The rows of each of the 58 times together: what looks like profit is blocked as crossed."""
    tops = crossed()

    verdicts, problems = scanned(tops, tops.by_moment())

    assert verdicts == {"BLOCKED crossed": 215, "BLOCKED crossed min_size": 13}
    assert problems == {"crossed": 241, "one_sided": 824, "no_book": 724, "empty_book": 351}


# --- the other token's prices ----------------------------------------------------------


def mixed_up(name: str) -> Tops:
    """Make two rows of one: CLOB's touch as outcome 0, Gamma's price as outcome 1.

    The size of the touch is `top_depth_usd / best_ask`. Gamma's `no_price` becomes the ask of
    outcome 1, its bid a cent lower, with the same size: what a collector would pair that took
    one outcome's book for the other's. Rows without a touch keep Gamma's half.
    """
    tops = []
    for row in lines(name):
        at = unix_ms(row["snapshot_time"])
        size = float(row["top_depth_usd"] or 0) / float(row["best_ask"] or 1)
        no = round(float(row["no_price"]), 3)
        bid = f"{no - 0.01:.3f}" if no > 0.01 else ""
        ask = f"{no:.3f}" if 0 < no < 1 else ""
        tops += [
            Top(at, row["market_id"], 0, row["best_bid"], row["best_ask"], size, size),
            Top(at, row["market_id"], 1, bid, ask, size or 100, size or 100),
        ]
    return Tops(tops)


@pytest.mark.parametrize(("name", "rows"), [(YOSI[0], 17_950), (YOSI[1], 10_800)])
def test_outcomes_that_contradict_each_other_are_never_an_arbitrage(name: str, rows: int) -> None:
    """As snapshots of the feed: both are the one book of the market, so the later one counts."""
    changes, states = played(mixed_up(name), "ws")

    assert [each for each in changes if each.finding.verdict != "OBSERVED"] == []
    assert states == {"fresh": 2 * rows}


@pytest.mark.parametrize(
    ("name", "blocked", "found"),
    [
        (
            YOSI[0],
            {"BLOCKED incoherent_pair": 11, "BLOCKED incoherent_pair min_size": 4},
            {"incoherent_pair": 1_682, "no_book": 4_482, "one_sided": 426, "empty_book": 1},
        ),
        (
            YOSI[1],
            {"BLOCKED incoherent_pair": 5, "BLOCKED incoherent_pair min_size": 1},
            {"incoherent_pair": 1_100, "no_book": 264, "one_sided": 190},
        ),
    ],
    ids=YOSI,
)
def test_scan_calls_contradicting_outcomes_incoherent(
    name: str, blocked: dict[str, int], found: dict[str, int]
) -> None:
    """Every tenth time of the collector: what looks like profit is blocked as incoherent."""
    tops = mixed_up(name)

    verdicts, problems = scanned(tops, list(tops.by_moment())[::10])

    assert verdicts == blocked
    assert problems == found
