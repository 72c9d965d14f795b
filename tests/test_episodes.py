"""Episodes: what was seen becomes signals that open, change and close once each."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from rules.dsl import parse_rule
from rules.engine import ActiveRule, Sighting
from rules.kernel.baskets import detect_event
from rules.kernel.finding import Finding, Limits
from signals.episodes import Digest, Episodes, SignalChange
from tests.worlds import END, bids, event_view, ladder, market_view

MS = 1_000_000
START = 1_770_000_000_000_000_000


def a_rule(code: str = "DUTCH_BOOK_DETECT", *, persist_ms: int = 0) -> ActiveRule:
    text = f"""
code: {code}
title: Dutch book
detector: dutch_book
dedupe: {{persist_ms: {persist_ms}}}
"""
    return ActiveRule.of(parse_rule(text, source="test"))


RULE = a_rule()  # P1 at first sight
OTHER_RULE = a_rule("OTHER_RULE")
PATIENT = a_rule(persist_ms=250)  # as rules are that say nothing of it


def a_finding(profit: str = "5", **changes: Any) -> Finding:
    views = [
        market_view(number, ladder((0.45, 100)), bids((0.4, 100)), leg_number=number)
        for number in range(2)
    ]
    (found,), _ = detect_event(event_view(views), at=END, limits=Limits())
    return replace(found, profit=Decimal(profit), edge_bps=Decimal(profit) * 100, **changes)


def told(change: SignalChange) -> tuple[Any, ...]:
    return (change.change, (change.at - START) // MS, change.finding.profit, change.why)


class Feed:
    """Episodes with a clock in milliseconds; time passes before each look, as in the pipeline."""

    def __init__(self) -> None:
        self.episodes = Episodes()
        self.changes: list[SignalChange] = []

    def see(
        self, ms: int, *findings: Finding, subject: str = "7", rule: ActiveRule = RULE,
        why: str = "edge_gone",
    ) -> list[SignalChange]:  # fmt: skip
        gone = self.wait(ms)
        sighting = Sighting(rule, subject, findings, why)
        seen = [*self.episodes.take([sighting], at=START + ms * MS)]
        self.changes += seen
        return [*gone, *seen]

    def wait(self, ms: int) -> list[SignalChange]:
        gone = [*self.episodes.advance(at=START + ms * MS)]
        self.changes += gone
        return gone

    def stop(self, ms: int) -> list[SignalChange]:
        ended = [*self.episodes.close_all(at=START + ms * MS, why="stopped")]
        self.changes += ended
        return ended


@pytest.fixture
def feed() -> Feed:
    return Feed()


# --- opening and closing -------------------------------------------------------------


def test_first_sight_opens(feed):
    (opened,) = feed.see(0, a_finding())

    assert told(opened) == ("opened", 0, 5, "")
    assert (opened.level, opened.observations, opened.opened_at) == ("P1", 1, START)
    assert (opened.peak_profit, opened.peak_edge_bps) == (5, 500)
    assert len(feed.episodes) == 1


@pytest.mark.parametrize(
    ("verdict", "level"), [("EXECUTABLE", "P1"), ("THIN", "P2"), ("BLOCKED", "P3")]
)
def test_verdict_gives_the_level(feed, verdict, level):
    (opened,) = feed.see(0, a_finding(verdict=verdict))

    assert opened.level == level


def test_what_is_gone_for_half_a_second_closes_at_the_moment_it_went(feed):
    feed.see(0, a_finding())
    feed.see(200, why="book_stale")

    assert feed.wait(699) == []
    (closed,) = feed.wait(700)

    assert told(closed) == ("closed", 200, 5, "book_stale")
    assert len(feed.episodes) == 0
    assert feed.wait(5_000) == []


def test_flicker_is_one_episode(feed):
    (opened,) = feed.see(0, a_finding())
    for ms in range(100, 5_000, 400):
        feed.see(ms)
        feed.see(ms + 399, a_finding())

    assert {change.key for change in feed.changes} == {opened.key}
    assert [change.change for change in feed.changes] == ["opened"]


def test_returning_at_the_very_end_of_the_linger_is_a_new_episode(feed):
    (first,) = feed.see(0, a_finding())
    feed.see(100)

    closed, second = feed.see(600, a_finding())

    assert (closed.change, closed.key) == ("closed", first.key)
    assert (second.change, second.observations) == ("opened", 1)
    assert second.key != first.key


def test_reason_is_that_of_the_last_disappearance(feed):
    feed.see(0, a_finding())
    feed.see(100, why="book_batch")
    feed.see(150, a_finding())
    feed.see(300, why="edge_gone")

    (closed,) = feed.wait(900)

    assert told(closed) == ("closed", 300, 5, "edge_gone")


def test_second_look_at_nothing_does_not_move_the_end(feed):
    feed.see(0, a_finding())
    feed.see(100)
    feed.see(400, why="book_stale")

    (closed,) = feed.wait(600)

    assert told(closed) == ("closed", 100, 5, "edge_gone")


def test_another_kind_of_basket_is_another_signal(feed):
    feed.see(0, a_finding())

    (opened,) = feed.see(100, a_finding(kind="no_basket"))
    (closed,) = feed.wait(600)

    assert (opened.change, opened.finding.kind) == ("opened", "no_basket")
    assert (closed.change, closed.finding.kind) == ("closed", "yes_basket")


def test_subjects_and_rules_are_apart(feed):
    feed.see(0, a_finding())
    feed.see(0, a_finding(), subject="8")
    feed.see(0, a_finding(), rule=OTHER_RULE)
    feed.see(10)

    assert len({change.key for change in feed.changes}) == len(feed.episodes) == 3
    assert [change.rule.code for change in feed.wait(600)] == ["DUTCH_BOOK_DETECT"]


def test_end_closes_what_fades_first_and_then_the_oldest(feed):
    for number, subject in enumerate("abcd"):
        feed.see(10 * number, a_finding(), subject=subject)
    feed.see(100, subject="c", why="book_stale")
    feed.see(110, subject="a")
    keys = {change.opened_at: change.key for change in feed.changes}

    ended = feed.stop(200)

    order = [keys[START + 10 * number * MS] for number in (2, 0, 1, 3)]
    assert [change.key for change in ended] == order
    assert [told(change)[1:] for change in ended] == [
        (100, 5, "book_stale"),
        (110, 5, "edge_gone"),
        (200, 5, "stopped"),
        (200, 5, "stopped"),
    ]
    assert len(feed.episodes) == 0


# --- changing ------------------------------------------------------------------------


def test_change_is_told_once_in_half_a_second(feed):
    feed.see(0, a_finding("5"))

    for ms in range(50, 1_600, 50):
        feed.see(ms, a_finding(str(ms)))

    assert [told(change)[:2] for change in feed.changes] == [
        ("opened", 0),
        ("updated", 450),  # said at 500, as it was seen last before
        ("updated", 950),
        ("updated", 1_450),
    ]
    assert feed.changes[-1].observations == 30


def test_last_change_is_told_though_nothing_follows(feed):
    """What a person looks at must not stay behind what was seen."""
    feed.see(0, a_finding("5"))
    feed.see(100, a_finding("9"))

    assert feed.wait(499) == []
    (updated,) = feed.wait(500)

    assert told(updated) == ("updated", 100, 9, "")
    assert feed.wait(10_000) == []


def test_change_that_was_taken_back_is_not_told(feed):
    feed.see(0, a_finding("5"))
    feed.see(100, a_finding("9"))
    feed.see(200, a_finding("5"))

    assert feed.wait(10_000) == []


def test_same_again_is_not_told(feed):
    feed.see(0, a_finding())

    assert feed.see(2_000, a_finding()) == []


def test_change_of_level_is_told_at_once(feed):
    feed.see(0, a_finding())

    (thin,) = feed.see(1, a_finding(verdict="THIN"))
    (again,) = feed.see(2, a_finding())

    assert [(each.change, each.level) for each in (thin, again)] == [
        ("updated", "P2"),
        ("updated", "P1"),
    ]


def test_watch_list_is_told_less_often(feed):
    """A basket that cannot be bought may stand for hours and change with every tick."""
    blocked = {"verdict": "BLOCKED", "blocked_by": ("augmented",)}
    feed.see(0, a_finding("5", **blocked))

    for ms in range(100, 10_001, 100):
        feed.see(ms, a_finding(str(ms), **blocked))

    assert [told(change)[:2] for change in feed.changes] == [
        ("opened", 0),
        ("updated", 4_900),
        ("updated", 9_900),
    ]


def test_peak_is_the_best_ever_seen_told_or_not(feed):
    feed.see(0, a_finding("5"))
    feed.see(100, a_finding("50"))
    feed.see(200, a_finding("7"))

    (updated,) = feed.wait(500)

    assert (updated.finding.profit, updated.peak_profit, updated.peak_edge_bps) == (7, 50, 5_000)


def test_end_carries_the_last_numbers(feed):
    feed.see(0, a_finding("5"))
    feed.see(100, a_finding("9"))
    feed.see(150)

    (closed,) = feed.wait(700)

    assert (told(closed), closed.observations) == (("closed", 150, 9, "edge_gone"), 2)


def test_end_tells_what_was_held_back_first(feed):
    feed.see(0, a_finding("5"))
    feed.see(100, a_finding("9"))

    assert [told(change) for change in feed.stop(120)] == [
        ("updated", 100, 9, ""),
        ("closed", 120, 9, "stopped"),
    ]


# --- P1 only what stands -------------------------------------------------------------


def levels(changes: list[SignalChange]) -> list[tuple[str, int, str]]:
    return [(change.change, (change.at - START) // MS, change.level) for change in changes]


def test_what_has_stood_for_250_ms_becomes_p1_without_another_look(feed):
    feed.see(0, a_finding(), rule=PATIENT)

    assert feed.wait(249) == []
    risen = feed.wait(250)

    assert levels(feed.changes) == [("opened", 0, "P2"), ("updated", 250, "P1")]
    assert risen[0].key == feed.changes[0].key
    assert risen[0].observations == 1
    assert feed.wait(10_000) == []


def test_a_rule_without_a_word_of_it_waits_for_250_ms(feed):
    text = "code: DUTCH_BOOK_DETECT\ntitle: Dutch book\ndetector: dutch_book"
    feed.see(0, a_finding(), rule=ActiveRule.of(parse_rule(text, source="test")))

    feed.wait(1_000)

    assert levels(feed.changes) == [("opened", 0, "P2"), ("updated", 250, "P1")]


def test_it_rises_at_its_time_however_late_one_looks(feed):
    feed.see(0, a_finding(), rule=PATIENT)

    feed.see(400, a_finding(), rule=PATIENT)

    assert levels(feed.changes) == [("opened", 0, "P2"), ("updated", 250, "P1")]


@pytest.mark.parametrize("ms", [60, 120, 220, 249])
def test_what_flickers_is_never_p1(feed, ms):
    for start in range(0, 20_000, 2 * ms):
        feed.see(start, a_finding(), rule=PATIENT)
        feed.see(start + ms // 2, a_finding("9"), rule=PATIENT)
        feed.see(start + ms, rule=PATIENT)
    feed.wait(30_000)

    assert {change.level for change in feed.changes} == {"P2"}
    assert [change.change for change in feed.changes].count("opened") == 1
    assert feed.changes[-1].change == "closed"


def test_what_flickers_and_then_stands_is_p1_once_it_has_stood(feed):
    for start in range(0, 1_000, 100):
        feed.see(start, a_finding(), rule=PATIENT)
        feed.see(start + 50, rule=PATIENT)
    feed.see(1_000, a_finding(), rule=PATIENT)

    feed.wait(2_000)

    assert levels(feed.changes) == [("opened", 0, "P2"), ("updated", 1_250, "P1")]


def test_what_is_p1_stays_so_over_a_short_break(feed):
    feed.see(0, a_finding(), rule=PATIENT)
    feed.see(300, rule=PATIENT)
    feed.see(799, a_finding(), rule=PATIENT)
    feed.see(900, rule=PATIENT)

    feed.wait(2_000)

    assert levels(feed.changes) == [
        ("opened", 0, "P2"),
        ("updated", 250, "P1"),
        ("closed", 900, "P1"),
    ]


def test_what_comes_back_after_its_end_has_to_stand_again(feed):
    feed.see(0, a_finding(), rule=PATIENT)
    feed.see(300, rule=PATIENT)
    feed.see(800, a_finding(), rule=PATIENT)
    feed.see(900, rule=PATIENT)

    feed.wait(2_000)

    assert levels(feed.changes)[2:] == [
        ("closed", 300, "P1"),
        ("opened", 800, "P2"),
        ("closed", 900, "P2"),
    ]


@pytest.mark.parametrize("verdict", ["THIN", "BLOCKED"])
def test_what_was_less_in_between_has_to_stand_again(feed, verdict):
    """The clock starts when it can be executed, not when it was first seen."""
    feed.see(0, a_finding(), rule=PATIENT)
    feed.see(200, a_finding(verdict=verdict), rule=PATIENT)
    feed.see(210, a_finding(), rule=PATIENT)

    feed.wait(1_000)

    risen = [(at, level) for _, at, level in levels(feed.changes) if level == "P1"]
    assert risen == [(460, "P1")]


def test_what_cannot_be_executed_never_rises(feed):
    for ms in range(0, 2_000, 100):
        feed.see(ms, a_finding(verdict="THIN"), rule=PATIENT)
        feed.see(ms, a_finding(verdict="BLOCKED"), subject="8", rule=PATIENT)

    assert {change.level for change in feed.changes} == {"P2", "P3"}


def test_to_settle_lifts_nothing(feed):
    """Whoever looked once and goes away has not seen it stand."""
    feed.see(0, a_finding(), rule=PATIENT)
    feed.see(100, a_finding("9"), rule=PATIENT)

    settled = [*feed.episodes.settle(at=START + 100 * MS)]

    assert [(told(each), each.level) for each in settled] == [(("updated", 100, 9, ""), "P2")]


def test_the_end_lifts_what_had_stood_by_then_and_no_more(feed):
    feed.see(0, a_finding(), subject="a", rule=PATIENT)
    feed.see(1, a_finding(), subject="b", rule=PATIENT)

    assert levels(feed.stop(250)) == [
        ("updated", 250, "P1"),
        ("closed", 250, "P1"),
        ("closed", 250, "P2"),
    ]


def test_going_on_with_what_was_p1_does_not_make_it_less(feed):
    """A signal of another process: it stood long before this one looked."""
    feed.see(0, a_finding(), rule=PATIENT)
    feed.wait(250)
    ((_, kinds),) = feed.episodes._open.items()
    later = Feed()
    later.episodes.resume(replace(kinds["yes_basket"]))

    later.see(60_000, a_finding(), rule=PATIENT)

    assert later.changes == []


# --- rules that change ---------------------------------------------------------------


def test_rules_that_run_no_more_close_what_they_have_open_and_nothing_else(feed):
    feed.see(0, a_finding(), subject="b")
    feed.see(10, a_finding(), subject="a")
    feed.see(20, a_finding(), rule=OTHER_RULE)

    ended = [*feed.episodes.close_rules([RULE.code], at=START + 90 * MS, why="rule_changed")]

    assert [(told(change), change.rule) for change in ended] == [
        (("closed", 90, 5, "rule_changed"), RULE),
        (("closed", 90, 5, "rule_changed"), RULE),
    ]
    assert [change.opened_at for change in ended] == [START, START + 10 * MS]
    assert len(feed.episodes) == 1
    assert feed.see(100, a_finding(), rule=OTHER_RULE) == []


def test_nothing_more_is_said_of_what_a_rule_change_closed(feed):
    """Neither its fading nor its rise, which were both due."""
    feed.see(0, a_finding(), subject="a", rule=PATIENT)
    feed.see(0, a_finding(), subject="b", rule=PATIENT)
    feed.see(10, subject="b", rule=PATIENT)

    ended = [*feed.episodes.close_rules([PATIENT.code], at=START + 90 * MS, why="rule_changed")]

    assert [change.change for change in ended] == ["closed", "closed"]
    assert feed.wait(5_000) == []
    assert feed.stop(5_000) == []


def test_no_rule_changed_closes_nothing(feed):
    feed.see(0, a_finding())

    assert [*feed.episodes.close_rules([], at=START, why="rule_changed")] == []
    assert len(feed.episodes) == 1


# --- ids and digest ------------------------------------------------------------------

looks = some.lists(
    some.tuples(
        some.integers(0, 400),  # ms since the look before
        some.sampled_from("abc"),
        some.none() | some.sampled_from(["5", "6", "50"]),
        some.sampled_from(["EXECUTABLE", "THIN", "BLOCKED"]),
    ),
    max_size=40,
)


patience = some.sampled_from([0, 250, 700, 1_700]).map(lambda ms: a_rule(persist_ms=ms))


def run(looks: Any, rule: ActiveRule, *, every: int = 0, tail: int = 0) -> Feed:
    """Run looks and then `tail` ms in which nothing comes.

    With `every`, time passes in steps of so many ms between them, as in the live path.
    """
    feed, now = Feed(), 0
    for wait, subject, profit, verdict in looks:
        for ms in range(now, now + wait, every) if every else ():
            feed.wait(ms)
        now += wait
        findings = () if profit is None else (a_finding(profit, verdict=verdict),)
        feed.see(now, *findings, subject=subject, rule=rule)
    for ms in range(now, now + tail, every) if every else ():
        feed.wait(ms)
    feed.stop(now + tail)
    return feed


THIN_FIRST = [(0, "a", "5", "THIN"), (260, "a", "6", "EXECUTABLE"), (250, "a", None, "THIN")]


@given(looks=looks, rule=patience, every=some.integers(20, 400), tail=some.integers(0, 3_000))
@example(looks=THIN_FIRST, rule=PATIENT, every=20, tail=0)  # told at 500, risen at 510
@example(looks=THIN_FIRST[1:2], rule=a_rule(persist_ms=1_700), every=90, tail=3_000)
@hypothesis(max_examples=200, deadline=None)
def test_time_that_passes_without_frames_changes_nothing(looks, rule, every, tail):
    """A replay has only the frames; the live path also looks at the clock in between."""
    frames_alone, clock_too = (run(looks, rule, every=ms, tail=tail) for ms in (0, every))

    assert [change.line() for change in frames_alone.changes] == [
        change.line() for change in clock_too.changes
    ]


@given(looks=looks, rule=patience)
@hypothesis(max_examples=150, deadline=None)
def test_every_signal_opens_once_closes_once_and_changes_in_between(looks, rule):
    feed = run(looks, rule)

    lives: dict[str, list[SignalChange]] = {}
    for change in feed.changes:
        lives.setdefault(change.key, []).append(change)
    for life in lives.values():
        assert [change.change for change in life] == [
            "opened",
            *["updated"] * (len(life) - 2),
            "closed",
        ]
        assert [change.at for change in life] == sorted(change.at for change in life)
        seen = [(change.observations, change.level == "P1") for change in life]
        assert [count for count, _ in seen] == sorted(count for count, _ in seen)
        assert len(set(seen[:-1])) == len(seen[:-1])  # each tells of a look, or of having stood
        assert life[-1].peak_profit == max(change.peak_profit for change in life)
    assert len(feed.episodes) == 0


def test_ids_depend_on_content_alone():
    first, second = (Feed().see(0, a_finding())[0].key for _ in range(2))
    other = Feed().see(0, a_finding(), rule=OTHER_RULE)[0].key
    later = Feed().see(1, a_finding())[0].key

    assert first == second
    assert len({first, other, later}) == 3
    assert len(first) == 32


def test_digest_is_that_of_the_printed_lines(feed):
    feed.see(0, a_finding())
    feed.stop(100)
    digest, other = Digest(), Digest()
    for change in feed.changes:
        digest.add(change)
    other.add(feed.changes[0])

    printed = "".join(f"{change.line()}\n" for change in feed.changes)
    assert digest.hexdigest() == f"sha256:{hashlib.sha256(printed.encode()).hexdigest()}"
    assert digest.changes == 2
    assert other.hexdigest() != digest.hexdigest()


def test_nothing_is_kept_of_what_is_over(feed):
    for subject in map(str, range(100)):
        feed.see(0, subject=subject)
        feed.see(0, a_finding(), subject=subject)
        feed.see(1, subject=subject)

    feed.wait(1_000)

    assert not feed.episodes._open
