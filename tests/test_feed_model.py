"""A client written from docs/api.md always ends with the server's state.

The hub, its listeners and sockets are the real ones; the log is in memory and the network is
a bad one: it drops lines, loses and swaps messages, and stops reading. The server is restarted,
its log pruned, lost or put back to an older state. MPX_FEED_CASES sets how many schedules are
tried (1,000 take about a minute).
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.feedlog import Place, Position
from mpx_site import feed, feed_hub, feed_listener, feed_log, feed_ticket
from mpx_site.feed_hub import Hub
from tests.feed_memory import MemoryLog, Session, Viewer, hearable_without_database

T = TypeVar("T")

CASES = int(os.environ.get("MPX_FEED_CASES", "60"))
KEYS = ("a", "b", "c", "d")
LEVELS = ("P1", "P2", "P3")
CHANNELS = ("signals", "risk")


class World(MemoryLog):
    """The server's database: a log and the state it tells of, which belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in CHANNELS}
        self.home = "first"
        self.homes: dict[str, str] = {}
        self.changes = 0

    def change(self, channel: str, key: str, level: str, *, closes: bool) -> None:
        self.changes += 1
        rows = self.state[channel]
        kind = "closed" if closes and key in rows else "updated" if key in rows else "opened"
        row = {"key": key, "level": level, "number": self.changes}
        if kind == "closed":
            del rows[key]
        else:
            rows[key] = row
        self.tell(kind, row, topic=channel)

    def settle(self) -> Position:
        for channel in (*CHANNELS, "intents", "positions"):
            place = self._head(channel)
            if self.homes.setdefault(channel, self.home) != self.home:
                self.heads[channel] = Place(self._drawn(), place.seq)
                self.homes[channel] = self.home
        return self.position()

    def prune(self) -> None:
        self.entries = self.entries[len(self.entries) // 2 :]

    def lose(self, channel: str) -> None:
        """Lose entries and head of a channel, as if somebody emptied the tables."""
        self.entries = [each for each in self.entries if each.topic != channel]
        self.heads.pop(channel, None)
        self.homes.pop(channel, None)

    def backup(self) -> dict[str, Any]:
        names = ("entries", "heads", "last_id", "state", "homes")
        return copy.deepcopy({name: getattr(self, name) for name in names})

    def restore(self, backup: dict[str, Any], *, elsewhere: bool) -> None:
        vars(self).update(copy.deepcopy(backup))
        if elsewhere:
            self.home = f"{self.home}'"


class Wrong(AssertionError):
    """The server broke a promise of docs/api.md."""


@dataclass
class Line:
    """One connection: what is under way to the client, and what came back."""

    to_server: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    under_way: list[str] = field(default_factory=list)
    closed: int | None = None
    tampered: bool = False
    task: asyncio.Task[None] | None = None

    async def send(self, event: Any) -> None:
        if event["type"] == "websocket.send":
            self.under_way.append(event["text"])
        elif event["type"] == "websocket.close":
            self.closed = event["code"]


class Client:
    """As docs/api.md says, and nothing more."""

    def __init__(self, world: World, choice: dict[str, Any] | None) -> None:
        self.world = world
        self.choice = choice
        self.line: Line | None = None
        self.places: dict[str, dict[str, Any] | None] = dict.fromkeys(CHANNELS)
        self.state: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in CHANNELS}
        self.reads = True
        self.credits = True
        self.taken = 0
        self.gaps = 0
        self.closes: list[int] = []

    def connect(self, hub: Hub) -> None:
        line = Line()
        self.line, self.reads, self.credits = line, True, True
        scope = {"type": "websocket", "query_string": b"", "user": Viewer(pk=id(self)),
                 "session": Session()}  # fmt: skip
        line.to_server.put_nowait({"type": "websocket.connect"})
        socket = feed.FeedConsumer(hub)
        line.task = asyncio.create_task(socket(scope, line.to_server.get, line.send))
        for channel in CHANNELS:
            asked = {"op": "subscribe", "channel": channel, "resume": self.places[channel]}
            if channel == "signals" and self.choice:
                asked["filter"] = self.choice
            self.say(**asked)

    def say(self, **told: Any) -> None:
        if self.line is not None:
            event = {"type": "websocket.receive", "text": json.dumps(told)}
            self.line.to_server.put_nowait(event)

    def drop(self) -> None:
        """Lose the line with all that is under way."""
        line, self.line = self.line, None
        if line is not None:
            line.to_server.put_nowait({"type": "websocket.disconnect", "code": 1006})

    def read(self, most: int = 10_000) -> None:
        line = self.line
        for _ in range(most if self.reads else 0):
            if line is None or self.line is not line or not line.under_way:
                break
            self.take(json.loads(line.under_way.pop(0)))
        if line is not None and self.line is line and line.closed and not line.under_way:
            self.closes.append(line.closed)
            self.drop()

    def take(self, told: dict[str, Any]) -> None:
        op = told.get("op")
        if "ch" in told:
            self.apply(told)
        elif op == "ack" and told["mode"] == "live":
            self.go_on_from(told)
            self.load(told["channel"])
        elif op == "gap":
            self.gaps += 1
            self.go_on_from(told)
            self.load(told["channel"])
        elif op == "skip":
            self.check_next(told["channel"], told, first=told["from"])
        elif op == "hb":
            self.check_heartbeat(told)
        elif op == "error":
            raise Wrong(told)

    def apply(self, told: dict[str, Any]) -> None:
        channel, row = told["ch"], told["d"]
        if not self.check_next(channel, told, first=told["seq"]):
            return
        if told["t"] == "closed":
            self.state[channel].pop(row["key"], None)
        else:
            self.state[channel][row["key"]] = row
        self.taken += 1
        if self.credits and self.taken % 3 == 0:
            self.credit()

    def credit(self) -> None:
        self.say(op="credit", seq={name: place["seq"] for name, place in self.places.items()
                                   if place})  # fmt: skip

    def check_next(self, channel: str, told: dict[str, Any], *, first: int) -> bool:
        """Say whether a message continues the last; reconnect where a number is missing."""
        place = self.places[channel]
        if place and told["epoch"] == place["epoch"] and first == place["seq"] + 1:
            self.go_on_from(told)
            return True
        self.missing(f"{channel}: {told} after {place}")
        return False

    def check_heartbeat(self, told: dict[str, Any]) -> None:
        for channel, place in self.places.items():
            named = {"epoch": told["epoch"][channel], "seq": told["seq"][channel]}
            lost_its_ack = place is None and self.line is not None and self.line.tampered
            if lost_its_ack or (place is not None and named != place):
                self.missing(f"{channel}: heartbeat of {named} at {place}")
                return

    def missing(self, what: str) -> None:
        """Something between us lost a message; the server itself never may."""
        if self.line is not None and not self.line.tampered:
            raise Wrong(what)
        self.drop()

    def go_on_from(self, told: dict[str, Any]) -> None:
        self.places[told.get("channel") or told["ch"]] = {
            "epoch": told["epoch"],
            "seq": told["seq"],
        }

    def load(self, channel: str) -> None:
        """Ask over HTTP, which answers with the state of this moment."""
        self.state[channel] = copy.deepcopy(self.world.state[channel])


class Loop(Hub):
    """A hub that asks the log in the event loop, so that a schedule takes no time."""

    async def ask(self, question: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return question()


class Desk:
    """A world, the web process before it, and its clients."""

    def __init__(self) -> None:
        self.world = World()
        self.hub = self.process()
        self.clients = [Client(self.world, None), Client(self.world, {"level": ["P1"]})]
        self.backups = [self.world.backup()]

    def process(self) -> Hub:
        return Loop(self.world, poll_seconds=60, beat_seconds=60, check_seconds=60)

    async def step(self, step: tuple[Any, ...]) -> None:
        what, *given = step
        getattr(self, f"do_{what}")(*given)
        await self.rest()

    async def rest(self) -> None:
        """Let the hub and the sockets do what they have to, on a loop without a clock."""
        self.hub.wake()
        for _ in range(30):
            await asyncio.sleep(0)

    def do_change(self, channel: str, key: str, level: str, closes: bool) -> None:
        self.world.change(channel, key, level, closes=closes)

    def do_burst(self, channel: str, number: int) -> None:
        for count in range(number):
            self.world.change(channel, KEYS[count % 4], LEVELS[count % 3], closes=count % 5 == 0)

    def do_connect(self, who: int) -> None:
        if self.clients[who].line is None:
            self.clients[who].connect(self.hub)

    def do_drop(self, who: int) -> None:
        self.clients[who].drop()

    def do_read(self, who: int, most: int) -> None:
        self.clients[who].read(most)

    def do_stop_reading(self, who: int) -> None:
        self.clients[who].reads = False

    def do_stop_credit(self, who: int) -> None:
        self.clients[who].credits = False

    def do_resume_reading(self, who: int) -> None:
        self.clients[who].reads = True
        self.clients[who].read()
        self.clients[who].credit()

    def do_lose(self, who: int, at: int) -> None:
        """Lose one message that is under way."""
        line = self.clients[who].line
        if line and line.under_way:
            line.under_way.pop(at % len(line.under_way))
            line.tampered = True

    def do_swap(self, who: int, at: int) -> None:
        line = self.clients[who].line
        if line and len(line.under_way) > 1:
            at %= len(line.under_way) - 1
            line.under_way[at : at + 2] = line.under_way[at : at + 2][::-1]
            line.tampered = True

    def do_beat(self) -> None:
        self.hub._beat_due = 0

    def do_patience(self) -> None:
        """Let ten seconds without credit go by."""
        for listener in self.hub._listeners:
            if listener._full_since is not None:
                listener._full_since -= 11

    def do_restart(self) -> None:
        self.stop()
        self.hub = self.process()

    def do_prune(self) -> None:
        self.world.prune()

    def do_fail(self) -> None:
        self.world.failures = 1

    def do_backup(self) -> None:
        self.backups.append(self.world.backup())

    def do_restore(self, which: int) -> None:
        """Put an older state back, with the web process stopped, as a file of its own."""
        self.stop()
        self.world.restore(self.backups[which % len(self.backups)], elsewhere=True)
        self.hub = self.process()

    def do_restore_alive(self, which: int) -> None:
        """Put an older state back under the running process, which sees it at its heartbeat.

        One that serves nobody looks at nothing; docs/api.md says so.
        """
        if not self.hub._listeners:
            return
        self.world.restore(self.backups[which % len(self.backups)], elsewhere=False)
        self.hub._beat_due = 0

    def do_lose_log(self, channel: str) -> None:
        self.stop()
        self.world.lose(channel)
        self.hub = self.process()

    def stop(self) -> None:
        for client in self.clients:
            client.drop()

    async def settle(self) -> None:
        """Let everybody come back, read and hear a heartbeat."""
        for _ in range(8):
            for who, client in enumerate(self.clients):
                client.reads = client.credits = True
                self.do_connect(who)
            await self.rest()
            self.do_beat()
            for _ in range(6):
                await self.rest()
                for client in self.clients:
                    client.read()
                    client.credit()


def expected(client: Client) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what a client has to know: a filter may show more than it asks for, never less."""
    state = client.world.state
    if not client.choice:
        return state
    wanted = client.choice["level"]
    signals = {key: row for key, row in state["signals"].items() if row["level"] in wanted}
    return state | {"signals": signals}


def known(client: Client) -> dict[str, dict[str, dict[str, Any]]]:
    if not client.choice:
        return client.state
    wanted = client.choice["level"]
    signals = {key: row for key, row in client.state["signals"].items() if row["level"] in wanted}
    return client.state | {"signals": signals}


WHO = st.integers(0, 1)
CHANNEL = st.sampled_from(CHANNELS)
STEPS = st.one_of(
    st.tuples(st.just("change"), CHANNEL, st.sampled_from(KEYS), st.sampled_from(LEVELS),
              st.booleans()),
    st.tuples(st.just("burst"), CHANNEL, st.integers(2, 30)),
    st.tuples(st.just("connect"), WHO),
    st.tuples(st.just("read"), WHO, st.integers(1, 20)),
    st.tuples(st.just("drop"), WHO),
    st.tuples(st.just("stop_reading"), WHO),
    st.tuples(st.just("stop_credit"), WHO),
    st.tuples(st.just("resume_reading"), WHO),
    st.tuples(st.just("lose"), WHO, st.integers(0, 30)),
    st.tuples(st.just("swap"), WHO, st.integers(0, 30)),
    st.tuples(st.sampled_from(["beat", "patience", "restart", "prune", "fail", "backup"])),
    st.tuples(st.sampled_from(["restore", "restore_alive"]), st.integers(0, 3)),
    st.tuples(st.just("lose_log"), CHANNEL),
)  # fmt: skip


@contextmanager
def small_limits() -> Iterator[None]:
    """Bring every limit within a schedule's reach."""
    limits = [
        (feed_listener, "OUT_MAX", 8), (feed_listener, "WAITING_MAX", 20),
        (feed_log, "BATCH", 7), (feed_hub, "BATCH", 7),
        (feed_log, "REPLAY_MAX", 25), (feed_hub, "REPLAY_MAX", 25),
        (feed_hub, "RETRY_SECONDS", 0), (feed, "INBOUND_MAX", 100_000),
        (feed_ticket, "hearable", hearable_without_database),
    ]  # fmt: skip
    with ExitStack() as stack:
        for where, name, value in limits:
            stack.enter_context(patch.object(where, name, value))
        yield


async def played(desk: Desk, steps: list[tuple[Any, ...]]) -> Desk:
    tasks: list[Any] = []
    try:
        for step in steps:
            await desk.step(step)
        await desk.settle()
    finally:
        desk.stop()
        await desk.rest()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return desk


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=CASES < 1_000,
)
@given(st.lists(STEPS, min_size=5, max_size=40))
def test_client_always_ends_with_the_servers_state(steps: list[tuple[Any, ...]]) -> None:
    with small_limits():
        desk = asyncio.run(played(Desk(), steps))

    for client in desk.clients:
        assert known(client) == expected(client)


OPENED = [("connect", 0), ("change", "signals", "a", "P1", False)]
WAYS = {
    "replayed": [*OPENED, ("read", 0, 20), ("drop", 0), ("burst", "signals", 5)],
    "pruned": [*OPENED, ("read", 0, 20), ("drop", 0), ("burst", "signals", 5), ("prune",)],
    "restored": [("backup",), *OPENED, ("read", 0, 20), ("restore", 1)],
    "too slow": [*OPENED, ("stop_reading", 0), ("burst", "signals", 20), ("burst", "risk", 20)],
    "lost log": [*OPENED, ("read", 0, 20), ("lose_log", "signals"), ("burst", "signals", 4)],
}


@pytest.mark.parametrize("way", WAYS)
def test_schedules_reach_what_they_are_meant_to(way: str) -> None:
    with small_limits():
        desk = asyncio.run(played(Desk(), WAYS[way]))

    client = desk.clients[0]
    assert known(client) == expected(client)
    assert (client.gaps > 0) is (way in ("pruned", "restored", "lost log"))
    assert (4408 in client.closes) is (way == "too slow")


@pytest.mark.parametrize("fault", ["loses a message", "keeps its epoch"])
def test_model_notices_a_server_that_breaks_its_promise(fault: str) -> None:
    desk = Desk()
    if fault == "loses a message":
        steps = [*OPENED, ("change", "signals", "b", "P1", False)]
        broken = patch.object(Loop, "_tell", lambda self, messages: None)
    else:
        other = ("change", "signals", "b", "P1", False)
        steps = [("connect", 0), ("backup",), OPENED[1], ("read", 0, 20), ("restore", 1), other]
        broken = patch.object(World, "settle", MemoryLog.settle)

    with small_limits(), broken:
        try:
            asyncio.run(played(desk, steps))
        except Wrong:
            return
    assert known(desk.clients[0]) != expected(desk.clients[0])
