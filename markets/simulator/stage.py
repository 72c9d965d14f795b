"""The clock and the tape: what happens when, what it sends, and what it really opened."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from markets.frames import Frame
from markets.simulator.gamma import event_object
from markets.simulator.state import LiveEvent, LiveMarket, Tie
from markets.simulator.truth import PLANTED, Truth

MS = 1_000_000  # ns
SECOND = 1_000 * MS
TOKENS_PER_CONNECTION = 200
OVER_MAX = 2_000  # resolved events that can still be asked for
REST = 3 * SECOND  # between two plants in one event, so that no signal spans both
LATENCY_MIN, LATENCY_MEAN, LATENCY_MAX = 5 * MS, 14 * MS, 100 * MS


class Stage:
    """Keeps venue time (`now`, unix ns), the agenda of things to come, and the open events."""

    def __init__(self, *, seed: int, start: int, latency: bool = True) -> None:
        self.now = start
        self.skew = 0  # ns that the venue's clock is ahead of true time
        self.events: dict[str, LiveEvent] = {}
        self.over: dict[str, LiveEvent] = {}  # resolved ones, the oldest first
        self.places: dict[str, tuple[LiveMarket, int]] = {}  # of the tokens that have a book
        self.truth: list[Truth] = []
        self.conns: list[int] = []  # tokens subscribed on each connection
        self._latency = random.Random(f"{seed}:latency") if latency else None
        self._received = start
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._added = 0
        self._tape: list[Frame] = []

    @property
    def ms(self) -> int:
        """Venue time as it is written in messages."""
        return (self.now + self.skew) // MS

    def after(self, delay: float, act: Callable[[], None]) -> None:
        """Do something `delay` ns from now."""
        self._added += 1
        heapq.heappush(self._agenda, (self.now + int(delay), self._added, act))

    def advance(self, until: int | None) -> list[Frame] | None:
        """Do the next thing and give what it sent; None when nothing is left before `until`."""
        if not self._agenda or (until is not None and self._agenda[0][0] > until):
            self.now = max(self.now, until or 0)
            return None
        self.now, _, act = heapq.heappop(self._agenda)
        act()
        return self.collect()

    def collect(self) -> list[Frame]:
        """Take what was sent since the last call."""
        tape, self._tape = self._tape, []
        return tape

    def _receive(self) -> int:
        """Give the receive time of a message sent now; the network never reorders."""
        wait = 0
        if self._latency:
            wait = LATENCY_MIN + int(self._latency.expovariate(1.0) * LATENCY_MEAN)
        self._received = max(self._received + 1_000, self.now + min(wait, LATENCY_MAX))
        return self._received

    def send(self, event: LiveEvent, leg: LiveMarket, bodies: Sequence[bytes]) -> None:
        """Send what happened to one market, and look whether it opened or closed something."""
        first = self._receive()
        for number, body in enumerate(bodies):  # one connection delivers back to back
            self._received = first + number * 1_000
            self._tape.append(Frame(self._received, "ws", body, event.conn))
        if leg.touch != leg.seen:
            leg.seen = leg.touch
            self._watch(event, first)

    def push(self, conn: int, body: bytes) -> None:
        """Send one message on a connection."""
        self._tape.append(Frame(self._receive(), "ws", body, conn))

    def broadcast(self, body: bytes) -> None:
        """Send a message that the venue sends to everyone, whatever they subscribed to."""
        for conn in range(len(self.conns)):
            self.push(conn, body)

    def publish(self, events: Sequence[LiveEvent], *, req: str, cursor: str | None = None) -> None:
        """Answer a catalogue request. `cursor` None: this is the last page."""
        page: dict[str, object] = {
            "events": [event_object(event, now=self.now) for event in events]
        }
        if cursor:
            page["next_cursor"] = cursor
        self._tape.append(Frame(self._receive(), "gamma", msgspec.json.encode(page), req=req))

    def republish(self, event: LiveEvent) -> None:
        """Show one event whose listing changed."""
        closed = "&closed=true" if event.resolved else ""
        self.publish([event], req=f"/events/keyset?limit=100&id={event.spec.event_id}{closed}")

    def admit(self, event: LiveEvent) -> None:
        """Open an event and give it the first connection with room for all its tokens."""
        need = 2 * len(event.legs)
        able = (at for at, used in enumerate(self.conns) if used + need <= TOKENS_PER_CONNECTION)
        conn = next(able, len(self.conns))
        if conn == len(self.conns):
            self.conns.append(0)
        self.conns[conn] += need
        event.conn = conn
        self.events[event.spec.event_id] = event
        for leg in event.legs:
            leg.seen = leg.touch
            self.places |= {token: (leg, at) for at, token in enumerate(leg.spec.token_ids)}

    def close(self, event: LiveEvent) -> None:
        """Resolve an event whose winners are known: from now on only its listing is there."""
        event.resolved_at = self.now
        self.republish(event)
        self.conns[event.conn] -= 2 * len(event.legs)
        for leg in event.legs:
            for token in leg.spec.token_ids:
                del self.places[token]
        for tie in list(event.ties):
            tie.cut()
        del self.events[event.spec.event_id]
        self.over[event.spec.event_id] = event
        if len(self.over) > OVER_MAX:
            del self.over[next(iter(self.over))]

    def _watch(self, event: LiveEvent, first: int) -> None:
        found = event.mispriced()
        for kind in [kind for kind in event.windows if kind not in found]:
            self.close_window(event.windows.pop(kind))
        for kind, tokens in found.items():
            if kind not in event.windows:
                family = event.cause or "spontaneous"
                event.windows[kind] = self.open_window(event, family, kind, tokens, t0=first)
        for tie in event.ties:
            self._watch_tie(tie, first)

    def _watch_tie(self, tie: Tie, first: int) -> None:
        tokens = tie.mispriced()
        if tie.window is not None and not tokens:
            self.close_window(tie.window)
            tie.window = None
        elif tie.window is None and tokens:
            family = tie.second.cause or tie.first.cause or "spontaneous"
            tie.window = self.open_window(
                tie.second, family, tie.kind, tokens, t0=first, other=tie.first.spec.event_id
            )

    def open_window(
        self,
        event: LiveEvent,
        family: str,
        kind: str,
        tokens: tuple[str, ...],
        *,
        t0: int | None = None,
        other: str = "",
    ) -> int:
        """Log that an event looks mispriced since `t0`, or since the message sent last.

        `other` is the id of the event that it is mispriced against.
        Gives the row's place in the log.
        """
        t0 = t0 or self._received
        t1 = max(t0 + 1, event.ends)
        row = Truth(family, kind, event.spec.event_id, tokens, t0, t1, family in PLANTED, other)
        self.truth.append(row)
        return len(self.truth) - 1

    def rested(self) -> list[LiveEvent]:
        """List the events in which something new may be started."""
        return [
            event
            for event in self.events.values()
            if event.idle and self.now >= event.ends and not any(leg.paused for leg in event.legs)
        ]

    def release(self, event: LiveEvent) -> None:
        """Hand an event back to ordinary business."""
        event.cause = None
        event.ends = self.now + REST

    def close_window(self, place: int) -> None:
        """Log that it ended with the message sent last."""
        self.truth[place] = replace(self.truth[place], t1=self._received)
