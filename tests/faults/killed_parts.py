"""Each part of the desk killed in turn: after how many seconds which voice says so.

    python -m tests.faults.killed_parts [PART ...]

prints the table as JSON, and exits 1 where something was said later than `BOUND` seconds, or
not at all. Takes some six minutes.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.topology import Desk, Person

BOUND = 30.0
KILLED = ("stream", "worker", "beat", "redis", "database")
# By which name the desk speaks of it: on the page, in healthz and metrics, in alerts.
PAGE_ROW = {"stream": "Stream", "worker": "Scheduled jobs", "beat": "Beat", "redis": "Broker"}
COMPONENT = {"redis": "broker"}
PLACES = ("page", "healthz", "metrics", "alert")


@dataclass(frozen=True)
class Row:
    """Seconds from the kill, and from the start again, until each place said it; None: never."""

    part: str
    said: dict[str, float | None]
    back: dict[str, float | None]

    @property
    def ok(self) -> bool:
        told = [*self.said.values(), *self.back.values()]
        return all(seconds is not None and seconds <= BOUND for seconds in told)


def measure(desk: Desk, part: str, *, within: float = BOUND + 15) -> Row:
    """Kill a part, see who says so, start it again, see who says that."""
    olga = Person(desk.port)
    olga.login()
    heard = len(desk.bot.texts)
    looks = _looks(desk, olga, part)

    since = time.monotonic()
    desk.kill(part)
    said = _first({**looks, "alert": lambda: _told(desk, part, "is silent", heard)}, since, within)
    heard = len(desk.bot.texts)
    since = time.monotonic()
    desk.start(part)
    well: dict[str, Callable[[], bool]] = {
        name: (lambda look=look: not look()) for name, look in looks.items()
    }
    back = _first({**well, "alert": lambda: _told(desk, part, "is back", heard)}, since, within)
    return Row(part, said, back)


def _looks(desk: Desk, olga: Person, part: str) -> dict[str, Callable[[], bool]]:
    """Return the questions whether a place says that a part is not well."""
    name = COMPONENT.get(part, part)
    if part == "database":
        return {
            "page": lambda: _page_without_database(olga),
            "healthz": lambda: desk.health().get("db") != "ok",
            "metrics": lambda: desk.metric("mpx_database_up") != {(): 1.0},
        }
    return {
        "page": lambda: _row(olga, PAGE_ROW[part]) != "ok",
        "healthz": lambda: name in desk.health().get("silent", [name]),
        "metrics": lambda: desk.metric("mpx_component_silent").get((name,)) != 0.0,
    }


def _page_without_database(olga: Person) -> bool:
    status, body = olga.get("/health/")
    if status == 200:
        return False
    assert status in (0, 503), (status, body[:500])
    return "database" in body


def _row(olga: Person, component: str) -> str:
    """Return the state that a row of the health page shows."""
    status, body = olga.get("/health/")
    if status != 200:
        return f"page {status}"
    row = body.partition(f"<b>{component}</b>")[2].partition("</tr>")[0]
    found = re.search(r'class="state" data-state="[^"]*"><span[^>]*>[^<]*</span> ([^<]+)<', row)
    assert found, f"no row of {component} on the health page"
    return found[1]


def _told(desk: Desk, part: str, what: str, after: int) -> bool:
    name = f"component: {COMPONENT.get(part, part)}"
    return any(
        what in text and (name in text or f"{COMPONENT.get(part, part)}" in text)
        for text in desk.bot.texts[after:]
    )


def _first(
    looks: dict[str, Callable[[], bool]], since: float, within: float
) -> dict[str, float | None]:
    """Look at all places in turn until each was true once; return when."""
    found: dict[str, float | None] = dict.fromkeys(looks)
    while None in found.values() and time.monotonic() - since < within:
        for name, look in looks.items():
            if found[name] is None and look():
                found[name] = round(time.monotonic() - since, 1)
        time.sleep(0.25)
    return found


def main(parts: list[str]) -> int:
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="mpx-faults-") as home,
        Desk.up(Path(home)) as desk,
    ):
        for part in parts or KILLED:
            print(f"killing {part} ...", file=sys.stderr)
            rows.append(measure(desk, part))
            print(json.dumps({**asdict(rows[-1]), "ok": rows[-1].ok}), file=sys.stderr)
            desk.wait_until_well()
    told = {"bound_seconds": BOUND, "rows": [{**asdict(row), "ok": row.ok} for row in rows]}
    print(json.dumps(told, indent=1))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
