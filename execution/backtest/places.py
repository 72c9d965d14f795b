"""Where this desk keeps what backtests read and write."""

from __future__ import annotations

import subprocess
import sys

from django.conf import settings

from execution.backtest.runs import Places


def desk_places() -> Places:
    return Places(settings.MPX_KEEP_DIR, settings.MPX_RECORDINGS, settings.MPX_HOME / "backtests")


def start_process(run_id: int) -> subprocess.Popen[bytes]:
    """Start `manage.py run_backtest`; return its process without waiting for it."""
    manage = settings.BASE_DIR / "manage.py"
    return subprocess.Popen(  # noqa: S603 - our own program and a number
        [sys.executable, str(manage), "run_backtest", str(run_id)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
