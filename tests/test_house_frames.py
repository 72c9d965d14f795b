"""What the desk itself knows as frames: rules and relations that change while the feed runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from markets.frames import Frame
from markets.problems import Problems
from markets.recording import Recording
from rules import house
from rules.house import HISTORY, RELATIONS, RULES, rules_body
from signals.live import Live
from signals.sources import Clock
from tests.feed_cast import CROSS, DUTCH, ENDGAME, Hand, fed, market_id, plain, rule
from tests.related import rel
from tests.test_replay import Replayed
from tests.wire_files import event, market

STRICT = DUTCH + "params: {min_profit_usd: 50}\n"
TILT_OFF = "code: OTHER_RULE\ntitle: Another\ndetector: dutch_book\n"


def paying(*texts: str) -> Hand:
    """Return a basket of two for 0.95 that has stood."""
    hand = Hand(*texts or (DUTCH,))
    hand.list(event([market(0), market(1)]))
    hand.show(0, 0.40, 0.45)
    hand.show(1, 0.45, 0.50)
    hand.sweep()
    return hand


# --- rules ---------------------------------------------------------------------------


def test_a_rule_that_changed_closes_its_signals_and_finds_anew():
    hand = paying()

    changes = hand.use_rules(STRICT)

    assert [(each.change, each.level, each.why) for each in changes] == [
        ("closed", "P1", "rule_changed"),
        ("opened", "P2", ""),
    ]
    assert changes[1].finding.verdict == "THIN"
    assert changes[0].key != changes[1].key
    assert changes[1].rule.sha256 == rule(STRICT).sha256
    assert changes[0].rule.sha256 == rule(DUTCH).sha256


def test_what_is_found_anew_has_to_stand_again():
    hand = paying()

    hand.use_rules(DUTCH.replace("Dutch book", "Arbitrage"))
    hand.sweep()

    assert hand.told()[-3:] == [("closed", "P1"), ("opened", "P2"), ("updated", "P1")]


def test_rules_that_did_not_change_go_on_undisturbed():
    hand = paying()

    assert hand.use_rules(DUTCH) == []
    (opened,) = hand.use_rules(DUTCH, TILT_OFF)

    assert (opened.change, opened.rule.code) == ("opened", "OTHER_RULE")
    assert len(hand.pipeline.episodes) == 2


def test_a_rule_that_was_switched_off_says_no_more():
    hand = paying()

    hand.use_rules()
    hand.show(1, 0.40, 0.42)
    hand.sweep(2)

    assert hand.told() == [("opened", "P2"), ("updated", "P1"), ("closed", "P1")]


def test_a_rule_that_is_switched_on_finds_what_stands_already():
    hand = Hand()
    hand.list(event([market(0), market(1)]))
    hand.show(0, 0.40, 0.45)
    hand.show(1, 0.45, 0.50)

    (opened,) = hand.use_rules(DUTCH)

    assert (opened.change, opened.finding.profit) == ("opened", 5)


def test_relations_of_then_are_looked_at_by_a_rule_that_comes_later():
    hand = Hand(DUTCH)
    hand.list(plain(1), plain(2))
    hand.relate(rel("implies", market_id(1), market_id(2)))
    hand.show(1, 0.60, 0.65)
    hand.show(2, 0.45, 0.50)

    (opened,) = hand.use_rules(DUTCH, CROSS)

    assert (opened.rule.code, opened.finding.verdict) == ("CROSS_MARKET_MISPRICE", "EXECUTABLE")


# --- what cannot be read -------------------------------------------------------------

UNREADABLE = [
    (RULES, b"{"),
    (RULES, b'{"rules": [7]}'),
    (RULES, b'{"rules": ["code: X"]}'),
    (RULES, rules_body([DUTCH, "no: rule"])),
    (RELATIONS, b"[]"),
    (RELATIONS, b'{"relations": [{"type": "implies", "members": ["1"], "approved": true}]}'),
    (HISTORY, b"null"),
    ("house/unheard-of", b"{}"),
]


@pytest.mark.parametrize(("req", "body"), UNREADABLE, ids=lambda each: str(each)[:30])
def test_what_cannot_be_read_changes_nothing_and_is_counted(req, body):
    hand = paying(DUTCH, CROSS)
    hand.list(plain(3), plain(4))
    hand.relate(rel("implies", market_id(3), market_id(4)))
    hand.show(3, 0.60, 0.65)
    hand.show(4, 0.45, 0.50)
    engine, watches = hand.pipeline.engine, hand.pipeline.engine.related_to(market_id(3))
    rules, open_signals = engine.rules, len(hand.pipeline.episodes)

    assert hand.feed("gamma", body, req) == []

    assert hand.pipeline.problems.counts()["unreadable"] == 1
    assert (engine.rules, engine.related_to(market_id(3))) == (rules, watches)
    assert len(hand.pipeline.episodes) == open_signals == 2
    (problem,) = hand.pipeline.problems.drain()
    assert (problem.source, problem.subject) == ("house", req)
    assert problem.detail


def test_relations_that_contradict_each_other_are_named():
    hand = Hand(CROSS)
    hand.list(plain(1), plain(2))

    hand.relate(
        rel("exclusive", market_id(1), market_id(2)),
        rel("exhaustive", market_id(1), market_id(2)),
        rel("equivalent", market_id(1), market_id(2)),
    )

    (problem,) = hand.pipeline.problems.drain()
    assert problem.reason == "contradiction"
    assert market_id(1) in problem.subject


def test_relations_that_contradict_new_terms_are_named():
    """One of them is true and both are equal: not once the venue says that one at most is."""
    hand = Hand(CROSS)
    hand.list(plain(1), plain(2))
    hand.relate(
        rel("exhaustive", market_id(1), market_id(2)),
        rel("equivalent", market_id(1), market_id(2)),
    )
    assert hand.pipeline.problems.drain() == []

    hand.list(event([market(1), market(2)]))

    (problem,) = hand.pipeline.problems.drain()
    assert (problem.source, problem.reason) == ("house", "contradiction")


def test_a_house_frame_is_no_listing():
    hand = Hand(DUTCH)

    hand.feed("gamma", house.rules_body([]), RULES)

    assert hand.pipeline.events == {}
    assert hand.pipeline.problems.total == 0


# --- the same again ------------------------------------------------------------------


def test_the_frames_of_a_day_of_changes_give_the_same_digest_again():
    hand = paying(DUTCH, CROSS, ENDGAME)
    hand.list(plain(3), plain(4))
    hand.show(3, 0.60, 0.65)
    hand.show(4, 0.45, 0.50)
    hand.relate(rel("implies", market_id(3), market_id(4), approved=False))
    hand.sweep(2)
    hand.relate(rel("implies", market_id(3), market_id(4)))
    hand.sweep()
    hand.use_rules(STRICT, CROSS)
    hand.feed("gamma", b"{", RULES)
    hand.sweep()
    hand.relate()
    hand.sweep(2)
    hand.pipeline.stop()

    digests = {fed([rule(t) for t in (DUTCH, CROSS, ENDGAME)], hand.frames) for _ in range(3)}

    assert digests == {hand.pipeline.digest.hexdigest()}
    assert hand.pipeline.digest.changes == 9


class Given:
    """A source that gives these frames at once, with the time of a running clock."""

    def __init__(self, frames: list[Frame], clock: Clock) -> None:
        self.frames, self.clock = frames, clock

    async def run(self, take) -> None:
        first = self.frames[0].t
        begun = self.clock.now()
        for frame in self.frames:
            take(Frame(begun + frame.t - first, frame.ch, frame.body, frame.conn, frame.req))

    def confirm(self, event_id: str) -> None: ...

    def vital_signs(self) -> dict[str, object]:
        return {}


def test_a_recording_with_changes_of_the_desk_replays_to_the_live_digest(tmp_path: Path):
    hand = paying(DUTCH, CROSS)
    hand.list(plain(3), plain(4))
    hand.show(3, 0.60, 0.65)
    hand.show(4, 0.45, 0.50)
    hand.relate(rel("implies", market_id(3), market_id(4)))
    hand.sweep()
    hand.use_rules(STRICT, CROSS)
    hand.sweep()
    hand.relate()
    file, clock = tmp_path / "changes.jsonl", Clock()
    live = Live((rule(DUTCH), rule(CROSS)), clock=clock, writer=None, recording=file)

    asyncio.run(live.run(Given(hand.frames, clock), stop=asyncio.Event()))
    replays = [Replayed(file, "--json").last["digest"] for _ in range(3)]

    told = [frame.req for frame in Recording(file, problems=Problems()) if house.is_ours(frame.req)]
    assert told == [RELATIONS, RULES, RELATIONS]
    assert live.pipeline.digest.changes >= 8
    assert replays == [live.digest] * 3
