"""Where this desk keeps what backtests read and write."""

from __future__ import annotations

from django.conf import settings

from execution.backtest.runs import Places


def desk_places() -> Places:
    return Places(settings.MPX_KEEP_DIR, settings.MPX_RECORDINGS, settings.MPX_HOME / "backtests")
