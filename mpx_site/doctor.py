"""Is this desk well, and if not, what is to be done: a table of small checks.

A check looks at one thing and says ok, warn or fail with what it saw. None
takes longer than `LIMIT_SECONDS`: what talks to the network does so in
parallel, what asks the database in turn, and what is stuck is left behind.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

from django.db import DatabaseError, connections

from mpx_site import doctor_alerts
from mpx_site import doctor_inside as inside
from mpx_site import doctor_outside as outside
from mpx_site import doctor_parts as parts
from mpx_site import doctor_storage as storage
from mpx_site.doctor_words import Seen, fail, first_line, warn

LIMIT_SECONDS = 10.0
OK, FAILED, UNREACHABLE = 0, 1, 3  # exit codes

Asks = Literal["machine", "server", "tables", "network"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    It `asks` this machine alone, the database server, the tables in it, or somebody outside.
    """

    name: str
    asks: Asks
    look: Callable[[], Seen]


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    seen: Seen
    seconds: float

    def row(self) -> dict[str, object]:
        seen = self.seen
        return {
            "name": self.name,
            "state": seen.state,
            "seen": seen.text,
            "todo": seen.todo,
            "unreachable": seen.unreachable,
            "seconds": round(self.seconds, 3),
        }


DATABASE = Check("database", "server", inside.database)
CHECKS: tuple[Check, ...] = (
    Check("configuration", "machine", inside.configuration),
    Check("versions", "machine", inside.versions),
    Check("secret_key", "machine", inside.secret_key),
    Check("safety", "machine", inside.safety),
    Check("telegram", "machine", inside.telegram),
    Check("disk", "machine", inside.disk),
    DATABASE,
    Check("migrations", "server", inside.migrations),
    Check("clock_database", "tables", inside.clock_database),
    Check("clock_stream", "tables", parts.clocks_of_streams),
    Check("rules", "tables", inside.rules),
    Check("stream", "tables", inside.stream),
    Check("desk", "tables", inside.desk),
    Check("poll", "tables", inside.poll),
    Check("worker", "tables", inside.worker),
    Check("beat", "tables", parts.beat),
    Check("broker", "tables", parts.broker),
    Check("pulse", "tables", parts.pulse),
    Check("telegram_bot", "tables", parts.bot),
    Check("data", "tables", inside.data),
    Check("quarantine", "tables", inside.quarantine),
    Check("ticks", "tables", storage.ticks),
    Check("timescale", "tables", storage.hypertable),
    Check("watch", "tables", inside.watch_list),
    Check("catalogue", "tables", inside.catalogue),
    Check("alerts", "tables", doctor_alerts.alerts),
    Check("audit", "tables", inside.audit),
    Check("invariants", "tables", inside.broken_invariants),
    Check("gamma", "network", outside.gamma),
    Check("clob", "network", outside.clob),
    Check("clock_venue", "network", outside.clock_venue),
    Check("websocket", "network", outside.websocket),
    Check("redis", "network", outside.redis_server),
    Check("celery", "network", outside.celery_workers),
)
NAMES = tuple(check.name for check in CHECKS)


def examine(names: Iterable[str] = NAMES) -> list[Result]:
    """Do the named checks and return their results in the order of the table."""
    wanted = set(names)
    chosen = [check for check in CHECKS if check.name in wanted]
    outer = [check for check in chosen if check.asks == "network"]
    inner = [check for check in chosen if check.asks != "network"]
    benches = [*(_Bench([check]) for check in outer), _Bench(inner, known=_Ground().seen)]
    found = {result.name: result for bench in benches for result in bench.results()}
    return [found[check.name] for check in chosen]


def exit_code(results: Sequence[Result]) -> int:
    """Return 0, 1 where something failed, 3 where that is because something is unreachable."""
    failed = [result.seen for result in results if result.seen.state == "fail"]
    if any(seen.unreachable for seen in failed):
        return UNREACHABLE
    return FAILED if failed else OK


class _Ground:
    """What the other checks stand on: the database is looked at once, when first needed."""

    def seen(self, check: Check) -> Seen | None:
        """Say what is already known about a check; None: look."""
        if check is DATABASE:
            return self.database
        if check.asks in ("server", "tables") and self.database.state == "fail":
            return warn("not known: the database cannot be reached", "See the check: database")
        if check.asks == "tables" and self.is_empty:
            return warn("not known: the database has no tables yet", "See the check: migrations")
        return None

    @cached_property
    def database(self) -> Seen:
        return looked(DATABASE.look)

    @cached_property
    def is_empty(self) -> bool:
        return inside.has_no_tables()


class _Bench:
    """Does checks in turn in a thread of its own, which nobody waits for when it is stuck."""

    def __init__(
        self, checks: Sequence[Check], known: Callable[[Check], Seen | None] = lambda _: None
    ) -> None:
        self._checks = checks
        self._known = known
        self._done: queue.SimpleQueue[tuple[Result, float]] = queue.SimpleQueue()
        self._begun = time.monotonic()
        threading.Thread(target=self._work, name="doctor", daemon=True).start()

    def results(self) -> Iterator[Result]:
        """Yield a result for each check, in order."""
        since, stuck = self._begun, ""
        for check in self._checks:
            if stuck:
                yield Result(check.name, warn(f"not known: the check {stuck} did not end", ""), 0.0)
                continue
            try:
                left = max(0.0, since + LIMIT_SECONDS - time.monotonic())
                result, since = self._done.get(timeout=left)
                yield result
            except queue.Empty:
                stuck = check.name
                yield Result(check.name, _too_slow(check), LIMIT_SECONDS)

    def _work(self) -> None:
        try:
            for check in self._checks:
                begun = time.monotonic()
                seen = looked(partial(self._look, check))
                ended = time.monotonic()
                self._done.put((Result(check.name, seen, ended - begun), ended))
        finally:
            connections.close_all()

    def _look(self, check: Check) -> Seen:
        return self._known(check) or check.look()


def looked(look: Callable[[], Seen]) -> Seen:
    """Look here and now; a mistake in a check is its own failure."""
    try:
        return look()
    except DatabaseError as error:
        return fail(
            f"the database refused: {first_line(error)}",
            "See the checks database and migrations; `manage.py migrate` brings tables up to date",
        )
    except Exception as error:  # noqa: BLE001  # one bad check must not hide the others
        return fail(f"the check itself failed: {type(error).__name__}: {first_line(error)}", "")


def _too_slow(check: Check) -> Seen:
    return fail(
        f"no answer within {LIMIT_SECONDS:g} s",
        "See whether what it asks is overloaded or behind a wall that drops packets",
        unreachable=check.asks == "network" or check is DATABASE,
    )
