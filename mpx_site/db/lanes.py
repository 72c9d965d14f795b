"""The connections of one process to PostgreSQL: so many at most, kept open between two uses.

Django opens a connection for each thread that asks, so sixty readers at once take all that a
server gives. Here a thread that needs one waits for its turn, pages behind everything else:
probes and the stream have lanes that pages never fill.

Not psycopg's own pool: while the server is away it waits its whole timeout and then has no
reason to tell, where this passes on the server's refusal at once. This has no threads either,
so a forked worker begins with nothing.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

Connection = psycopg.Connection[Any]

SPARE: Final = 4  # that pages leave to others
PATIENCE_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 60.0
LIVES_SECONDS: Final = 600.0  # then another one: a server's process only ever grows
LOOK_SECONDS: Final = 0.5  # for what was lost while somebody waits


class NoLane(psycopg.OperationalError):
    """Every connection that this process may have stayed in use for all our patience."""


@dataclass(slots=True, eq=False)
class Lane:
    """One connection in use. `limit_ms` is the statement timeout it has; None: the server's."""

    connection: Connection
    server: Hashable  # which one, as whom
    lost: weakref.finalize[Any, Any]
    pid: int = field(default_factory=os.getpid)
    born: float = field(default_factory=time.monotonic)
    idle_since: float = 0.0
    limit_ms: int | None = None

    def is_alive(self) -> bool:
        """Say whether it can be used: from one that is idle nothing comes but its end."""
        if self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)

    def is_idle(self) -> bool:
        return self.connection.info.transaction_status == TransactionStatus.IDLE

    def is_worth_keeping(self, now: float) -> bool:
        return self.is_idle() and now - self.born < LIVES_SECONDS


class Lanes:
    """At most `most` connections in use or idle. Safe from any thread."""

    def __init__(self, most: int, *, patience: float = PATIENCE_SECONDS) -> None:
        self.most = most
        self.patience = patience
        self.begin()

    def begin(self) -> None:
        """Start with nothing, as a process that was forked has to: the rest is its parent's."""
        self._changed = threading.Condition()
        self._used = 0
        self._idle: deque[Lane] = deque()
        self._lost: deque[None] = deque()  # of threads that ended without giving theirs back

    def take(
        self,
        server: Hashable,
        connect: Callable[[], Connection],
        *,
        page: bool = False,
        until: float | None = None,
    ) -> Lane:
        """Return a lane to a server; wait `until` then (monotonic), or for all our patience.

        Raises `NoLane`, or what `connect` raises.
        """
        self._claim(page, time.monotonic() + self.patience if until is None else until)
        try:
            return self._reused(server) or self._opened(server, connect)
        except BaseException:
            self._free()
            raise

    def give(self, lane: Lane) -> None:
        """Take a lane back: for the next who asks, if it can still be used."""
        if lane.pid != os.getpid():
            _PARENTS.append(lane)  # closing it would end the parent's session
            return
        if lane.lost.detach() is None:
            return  # it is back already
        now = time.monotonic()
        if lane.is_worth_keeping(now):
            lane.idle_since = now
            self._idle.append(lane)
        else:
            lane.connection.close()
        self._free()
        self._drop_idle(now - IDLE_SECONDS)

    def close_idle(self) -> None:
        """Close what nobody uses now."""
        self._drop_idle(float("inf"))

    def _claim(self, page: bool, end: float) -> None:
        most = self.most - SPARE if page else self.most
        with self._changed:
            while self._count() >= most:
                left = end - time.monotonic()
                if left <= 0:
                    raise NoLane(f"all {most} connections of this process are in use")
                self._changed.wait(min(left, LOOK_SECONDS))
            self._used += 1

    def _count(self) -> int:
        while self._lost:
            self._lost.pop()
            self._used -= 1
        return self._used

    def _free(self) -> None:
        with self._changed:
            self._used -= 1
            self._changed.notify_all()  # of a page and a probe only one may go on

    def _reused(self, server: Hashable) -> Lane | None:
        while True:
            try:
                lane = self._idle.pop()
            except IndexError:
                return None
            if lane.server == server and lane.is_alive():
                lane.lost = self._watched(lane.connection)
                return lane
            lane.connection.close()

    def _opened(self, server: Hashable, connect: Callable[[], Connection]) -> Lane:
        connection = connect()
        return Lane(connection, server, self._watched(connection))

    def _watched(self, connection: Connection) -> weakref.finalize[Any, Any]:
        """See that the place of a connection that is forgotten gets free; this takes no lock."""
        lost = weakref.finalize(connection, self._lost.append, None)
        lost.atexit = False
        return lost

    def _drop_idle(self, before: float) -> None:
        while self._idle:
            try:
                lane = self._idle.popleft()
            except IndexError:
                return
            if lane.idle_since > before:
                self._idle.appendleft(lane)
                return
            lane.connection.close()


_PARENTS: list[Lane] = []
