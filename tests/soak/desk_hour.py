"""An hour at the desk: simulated venue, one person suggests, another approves at once.

    python -m tests.soak.desk_hour --minutes 60 --out figures.json

Frames go through pipeline and desk as fast as the machine can, on SQLite in a folder that is
gone afterwards. The limits are wide open, so that the venue and the books decide. Each clean fill
is held to a linear program over the books that its legs met. Exit code 1 if one earned more
than there was, or an invariant does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--events", type=int, default=30)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpx-desk-hour-") as home:
        told = work(Path(home), given)
    print(json.dumps(told, indent=1))
    if given.out:
        given.out.write_text(json.dumps(told, indent=1))
    return 1 if told["over_optimum"] or told["broken_invariants"] else 0


def work(home: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Set up a desk of its own, let it work, and return its figures."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="mpx_site.settings",
        MPX_HOME=str(home),
        DATABASE_URL="",
        POSTGRES_HOST="",
        REDIS_URL="",
        LOG_LEVEL="ERROR",
        EXEC_MAX_DAILY_NOTIONAL="100000000",
        EXEC_MAX_CONCURRENT_ORDERS="1000",
        EXEC_MAX_EVENT_EXPOSURE="100000000",
    )
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)

    from execution.invariants import invariants
    from execution.models import OrderIntent
    from markets.frames import moment
    from tests.desk_shift import Shift, figures

    shift, begun = Shift(seed=given.seed, events=given.events), time.monotonic()

    def tell(minute: int) -> None:
        done = OrderIntent.objects.filter(status="FILLED").count()
        print(f"minute {minute}: {done} filled, {time.monotonic() - begun:.0f} s", file=sys.stderr)

    shift.run(given.minutes, each_minute=tell)
    broken = [f"{b.rule} of {b.subject}: {b.detail}" for b in invariants(moment(shift.due))]
    told = figures(shift, minutes=given.minutes)
    open_at_end = OrderIntent.objects.open().count()
    return told | {
        "seed": given.seed,
        "events": given.events,
        "open_at_end": open_at_end,
        "broken_invariants": broken,
        "wall_seconds": round(time.monotonic() - begun, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
