"""The one spine: frames -> books -> engine -> episodes.

Live, simulated, recorded and tested data all go through `Pipeline.feed`. It
reads no clock and writes nothing: time comes with each frame, and the caller
stores what a step gives back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markets.books import Books
from markets.frames import Frame
from markets.listing import OVER, BadListing, EventTerms, decode_page, read_page
from markets.problems import Problems
from rules import house
from rules.dsl import RuleError, parse_rule
from rules.engine import ActiveRule, Engine
from signals.episodes import Digest, Episodes, SignalChange


@dataclass(frozen=True, slots=True)
class Step:
    """What one frame did."""

    changes: tuple[SignalChange, ...] = ()
    events: tuple[EventTerms, ...] = ()


NOTHING = Step()
SWEEP_EVERY_NS = 1_000_000_000  # in whole seconds, so that all processes sweep at one time
PROVE_EVERY_NS = 20_000_000  # 400 hashes a second: under 1 % of a core, a round of 1,000 in 3 s


class Pipeline:
    """All state of the live path. `digest` covers every change since the start."""

    def __init__(self, rules: Iterable[ActiveRule], *, confirm_terms: bool = False) -> None:
        self.problems = Problems()
        self.books = Books(self.problems)
        self.engine = Engine(rules, confirm_terms=confirm_terms)
        self.episodes = Episodes()
        self.digest = Digest()
        self.events: dict[str, EventTerms] = {}
        self.frames = 0
        self.last_frame_at = 0
        self._prove_at = 0
        self._sweep_at = 0

    def feed(self, frame: Frame) -> Step:
        """Take one frame, in order of receive time."""
        self.frames += 1
        t = self.last_frame_at = frame.t
        gone = self.advance(t) if t >= self.episodes.due else None
        if t >= self._prove_at:
            self._prove_at = t + PROVE_EVERY_NS
            gone = [*(gone or ()), *self._examine(frame)]
        if frame.ch == "ws" and frame.req is None:
            touched = self.books.feed(frame.body, t, frame.conn)
        elif frame.ch == "gamma":
            if house.is_ours(frame.req):
                return Step((*(gone or ()), *self._house(frame)))
            return self._listing_frame(frame, gone or [])
        else:
            touched = self.books.hear(frame)
        if touched and (sightings := self.engine.look(touched, at=t)):
            return Step((*(gone or ()), *self._told(self.episodes.take(sightings, at=t))))
        return Step(tuple(gone)) if gone else NOTHING

    def advance(self, t: int) -> list[SignalChange]:
        """Let time pass to `t` (unix ns) without a frame; say what is due by then."""
        return self._told(self.episodes.advance(at=t))

    def pass_by(self, t: int) -> list[SignalChange]:
        """Let time pass to that of a frame (unix ns) that is about nothing that is kept here.

        What is done now and then is done when it would be if the frame were taken.
        """
        self.last_frame_at = t
        told = self.advance(t) if t >= self.episodes.due else []
        if t >= self._prove_at:
            self._prove_at = t + PROVE_EVERY_NS
            told += self._now_and_then(t)
        return told

    def stop(self, *, why: str = "stopped") -> list[SignalChange]:
        """Close all open episodes at the time of the last frame, as a replay would."""
        return self._told(self.episodes.close_all(at=self.last_frame_at, why=why))

    def _examine(self, frame: Frame) -> list[SignalChange]:
        """Do now and then what is too dear for every frame, or depends on time alone."""
        if frame.ch == "ws" and frame.req is None:
            self.books.look_for_unknown_fields(frame.body, frame.t)
        return self._now_and_then(frame.t)

    def _now_and_then(self, t: int) -> list[SignalChange]:
        self.books.prove_some()
        seen = self.engine.catch_up(at=t)
        if t >= self._sweep_at and self.engine.sweeps:
            self._sweep_at = t - t % SWEEP_EVERY_NS + SWEEP_EVERY_NS
            seen += self.engine.sweep(at=t)
        return self._told(self.episodes.take(seen, at=t))

    def settle(self) -> list[SignalChange]:
        """Say what waits to be told, as when nothing more is to come for a while."""
        return self._told(self.episodes.settle(at=self.last_frame_at))

    def _listing_frame(self, frame: Frame, gone: list[SignalChange]) -> Step:
        rejected: list[BadListing] = []
        try:
            events = read_page(decode_page(frame.body), rejected=rejected)
        except BadListing as error:
            self.problems.note(
                "gamma", "bad_page", at=frame.t, detail=str(error), sample=frame.body
            )
            return Step(tuple(gone))
        for bad in rejected:
            self.problems.note(
                "gamma", "bad_listing", at=frame.t, subject=bad.market_id, detail=str(bad)
            )
        changes: list[SignalChange] = []
        for event in events:
            changes += self.list_event(event, t=frame.t)
        return Step((*gone, *changes), events)

    def list_event(self, event: EventTerms, *, t: int) -> list[SignalChange]:
        """Take over an event's terms, keep books for what trades, look at it anew."""
        if event.same_terms(self.events.get(event.event_id)):
            again = self.engine.confirmed(event.event_id, at=t)
            return self._told(self.episodes.take(again, at=t))
        self.events[event.event_id] = event
        for market in event.markets:
            if market.untradable in OVER:
                self.books.drop(market.condition_id)
            else:
                self.books.add(market)
        self.engine.terms_told(event.event_id, at=t)
        seen = self.engine.watch_event(event, self.books.by_market, at=t)
        seen += self.engine.relate_event(event, at=t)
        self._note_refused(t)
        return self._told(self.episodes.take(seen, at=t))

    # --- what the desk itself knows ---------------------------------------------------

    def _house(self, frame: Frame) -> list[SignalChange]:
        """Take rules, relations or a history of endgames; what cannot be read changes nothing."""
        try:
            if frame.req == house.RULES:
                return self.use_rules(_rules(frame.body), t=frame.t)
            if frame.req == house.RELATIONS:
                return self._use_relations(frame)
            self.engine.use_history(house.history_of(frame.body))
        except (house.BadHouse, RuleError) as error:
            self.problems.note(
                "house", "unreadable", at=frame.t, subject=frame.req or "", detail=str(error)
            )
        return []

    def use_rules(self, rules: Iterable[ActiveRule], *, t: int) -> list[SignalChange]:
        """Run these from now on. Signals of a rule that changed are closed and found anew."""
        now = {rule.code: rule for rule in rules}
        changed = [old.code for old in self.engine.rules if now.get(old.code) != old]
        changes = self._told(self.episodes.close_rules(changed, at=t, why="rule_changed"))
        self.engine.use_rules(now.values())
        for event in self.events.values():
            seen = self.engine.watch_event(event, self.books.by_market, at=t)
            changes += self._told(self.episodes.take(seen, at=t))
        seen = self.engine.relate_all(at=t)
        return changes + self._told(self.episodes.take(seen, at=t))

    def _use_relations(self, frame: Frame) -> list[SignalChange]:
        seen = self.engine.use_relations(house.relations_of(frame.body), at=frame.t)
        self._note_refused(frame.t)
        return self._told(self.episodes.take(seen, at=frame.t))

    def _note_refused(self, t: int) -> None:
        """Count relations that cannot hold together, by themselves or with the terms of now."""
        for refused in self.engine.refused:
            self.problems.note("house", "contradiction", at=t, subject=str(refused)[:200])

    def _told(self, changes: Iterable[SignalChange]) -> list[SignalChange]:
        told = list(changes)
        for change in told:
            self.digest.add(change)
        return told


def _rules(body: bytes) -> list[ActiveRule]:
    texts = house.rule_texts(body)
    return [ActiveRule.of(parse_rule(text, source="house/rules")) for text in texts]
