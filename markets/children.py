"""Our own commands in processes of their own: work that would hold up whoever shares its process.

A child's errors go where its parent's do. It ends by itself, or with the desk in one process
that started it.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

from django.conf import settings

END_SECONDS = 5.0
_running: list[tuple[str, subprocess.Popen[bytes]]] = []


def start(*command: str) -> None:
    """Start `manage.py COMMAND...` and do not wait for it. Raises OSError if it cannot start."""
    alive()
    process = subprocess.Popen(  # noqa: S603 - our own program and its own words
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _running.append((command[0], process))


def alive() -> set[str]:
    """Return the commands that children of this process are at; none of them stays a zombie."""
    _running[:] = [(name, process) for name, process in _running if process.poll() is None]
    return {name for name, _ in _running}


def end_all() -> None:
    """End the children of this process."""
    for _, process in _running:
        process.terminate()
    for _, process in _running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        process.kill()
        process.wait()
    _running.clear()
