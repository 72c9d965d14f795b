"""Named places where a test lets the process die as `kill -9` would."""

from __future__ import annotations

import os

CRASH_KEY = "MPX_CRASH_AT"
KILLED = 137  # what a shell reports of a process that SIGKILL ended

POINTS = (
    "suggest_before_commit",
    "suggest_after_commit",
    "approve_before_commit",
    "approve_after_commit",
    "broker_before_write",
    "fill_before_commit",
    "fill_after_commit",
    "settle_before_commit",
    "unwind_before_commit",
    "unwind_after_commit",
    "expire_before_commit",
    "kill_before_commit",
    "kill_after_commit",
)


def crash_point(name: str) -> None:
    """Die here, at once and without a word, if the environment asks for it."""
    if os.environ.get(CRASH_KEY) == name:
        os._exit(KILLED)
