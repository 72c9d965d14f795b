"""Private servers for tests: PostgreSQL and Redis on loopback, and our own commands.

Each server listens on a free port, keeps its files in a folder of its own and ends with
whoever started it: by `stop`, or by the kernel should that process be killed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests import canary

ROOT = Path(__file__).resolve().parent.parent
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
START_SECONDS = 30.0

T = TypeVar("T")


class CannotStart(Exception):
    """A server cannot be started on this machine; the message says what is missing."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(look: Callable[[], T], *, seconds: float, what: str) -> T:
    """Return the first true answer; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)
    return answer


class Postgres:
    """A PostgreSQL of our own. It may be stopped and started again; its data stays.

    `disk` is the folder that its home is made in, where that matters.
    """

    def __init__(self, disk: Path | None = None) -> None:
        if not POSTGRES_BIN.is_dir():
            raise CannotStart(f"PostgreSQL 15 is not installed ({POSTGRES_BIN})")
        self.home = Path(tempfile.mkdtemp(prefix="mpx-postgres-", dir=disk))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._as_user = _postgres_user()
        if self._as_user:
            shutil.chown(self.home, self._as_user.pw_uid, self._as_user.pw_gid)
        self._run("initdb", "--auth=trust", "--username=mpx", "--encoding=UTF8", "--locale=C.UTF-8",
                  "--no-sync")  # fmt: skip

    @property
    def url(self) -> str:
        """Its address. It trusts whoever comes, so the password is only there to be kept secret."""
        return f"postgres://mpx:{canary.password()}@127.0.0.1:{self.port}/postgres"

    def start(self) -> Postgres:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 60,
            "shared_buffers": "32MB",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command("postgres"), *options], stdout=log, stderr=log, cwd="/"
            )
        wait_for(self._is_ready, seconds=START_SECONDS, what="PostgreSQL to accept connections")
        return self

    def stop(self) -> None:
        """End it at once, without waiting for its clients."""
        _end(self.process, signal.SIGINT)

    def remove(self) -> None:
        self.stop()
        canary.listen_in(self.home)
        shutil.rmtree(self.home)

    def _is_ready(self) -> bool:
        asked = [POSTGRES_BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        assert self.process and self.process.poll() is None, (self.home / "log").read_text()
        return subprocess.run(asked).returncode == 0

    def _run(self, program: str, *options: str) -> None:
        done = subprocess.run(
            [*self._command(program), *options], capture_output=True, text=True, cwd="/"
        )
        if done.returncode:
            raise CannotStart(f"{program} failed: {done.stderr.strip()}")

    def _command(self, program: str) -> list[str]:
        """Run it as somebody who is not root, and let it end with us."""
        command = [str(POSTGRES_BIN / program), "-D", str(self.home / "data")]
        if self._as_user is None:
            return ["setpriv", "--pdeathsig", "QUIT", *command]
        who = [f"--reuid={self._as_user.pw_uid}", f"--regid={self._as_user.pw_gid}"]
        return ["setpriv", *who, "--clear-groups", "--pdeathsig", "QUIT", *command]


class Redis:
    """A Redis of our own that keeps nothing on disk."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise CannotStart("redis-server is not installed")
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._command = ["setpriv", "--pdeathsig", "KILL", program]

    @property
    def url(self) -> str:
        return f"redis://:{canary.password()}@127.0.0.1:{self.port}/0"

    def start(self) -> Redis:
        """Start it; its settings go in by a pipe, because a command line is for all to see."""
        settings = {
            "port": self.port, "bind": "127.0.0.1", "save": '""', "requirepass": canary.password()
        }  # fmt: skip
        command = [*self._command, "-"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        assert self.process and self.process.stdin
        with self.process.stdin as told:
            told.write("".join(f"{name} {value}\n" for name, value in settings.items()))
        wait_for(
            lambda: accepts(self.port), seconds=START_SECONDS, what="Redis to accept connections"
        )
        return self

    def stop(self) -> None:
        _end(self.process, signal.SIGTERM)


def _postgres_user() -> pwd.struct_passwd | None:
    """Return whom to run PostgreSQL as; None where we are not root anyway."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotStart("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _end(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def settings_for(home: Path, **given: str) -> dict[str, str]:
    """Return the environment of a process of ours: nothing set but what is given.

    Keys that `.env` could set are given as empty, because what is set already is left alone.
    """
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    unset = dict.fromkeys(("DATABASE_URL", "POSTGRES_HOST", "REDIS_URL"), "")
    ours = {"MPX_HOME": str(home), "PYTHONUNBUFFERED": "1", **canary.settings()}
    return {**kept, **unset, **ours, **given}


def manage(
    *words: str, env: dict[str, str], timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end."""
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


def start_manage(*words: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start one of our commands; both its outputs come as text."""
    return subprocess.Popen(
        [sys.executable, "manage.py", *words],
        env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
