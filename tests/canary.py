"""A canary through the whole suite: secrets that nothing may repeat, and ears everywhere.

Importing this puts distinctive secrets into the environment, before settings are read; all hold
one word that is drawn for each run. As a plugin of pytest it then listens to what tests and
their processes print and log, to every answer of the desk, to every value written to a database,
to the command lines of all processes and, at the end, to every file that the run left. A test
that was under way when the word was heard fails, and what is heard at the end fails the run.
"""

from __future__ import annotations

import mmap
import os
import secrets
import subprocess
import threading
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.base import BaseHandler
from django.db.backends.signals import connection_created
from django.http import FileResponse

KEY = "MPX_CANARY"
SECRETS = {
    "SECRET_KEY": "key-of-the-desk-{}-and-no-other-desk",
    "TELEGRAM_BOT_TOKEN": "7654321:{}AAAAAAAA",
    "ADMIN_API_TOKEN": "admin-{}-token",
    "MPX_WEBHOOK_SECRET": "webhook-{}-secret",
    "EMAIL_URL": "smtp+ssl://desk:email-{}-password@127.0.0.1:9",
}
LOOK_SECONDS = 1.0  # between two looks at the command lines of this machine
OF_SECRETS = "secret_key"  # the file that is there to hold one
EXCERPT = 80  # characters shown on each side


def word(environ: MutableMapping[str, str] = os.environ) -> str:
    """Return the word of this run, drawn by the first process of it."""
    return environ.setdefault(KEY, f"cAnArY{secrets.token_hex(9)}")


def password() -> str:
    """Return the password for a database or broker of the run."""
    return f"pass-{word()}-word"


def settings() -> dict[str, str]:
    """Return the secrets as the environment of a desk."""
    return {key: form.format(word()) for key, form in SECRETS.items()}


os.environ.update(settings())


class Ears:
    """What was heard and not reported yet."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.heard: list[str] = []

    def listen(self, where: str, what: object) -> None:
        """Note it if text or bytes hold the secret, without repeating it."""
        text = what.decode("utf-8", "replace") if isinstance(what, bytes) else what
        if isinstance(text, str) and self.secret in text:
            at = text.index(self.secret)
            around = text[max(at - EXCERPT, 0) : at + len(self.secret) + EXCERPT]
            self.heard.append(f"{where}: ...{around.replace(self.secret, 'CANARY')!r}...")

    def take(self) -> list[str]:
        heard, self.heard = self.heard, []
        return heard


EARS = Ears(word())


# --- what is printed and logged ----------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report: pytest.TestReport = yield
    for name, text in report.sections:
        EARS.listen(name, text)
    if heard := EARS.take():
        report.outcome = "failed"
        report.longrepr = "A secret was heard by the canary in\n" + "\n".join(heard)
    return report


class Heard:
    """A pipe from a process that is listened to while it is read."""

    def __init__(self, pipe: Any, where: str) -> None:
        self._pipe, self._where = pipe, where

    def __getattr__(self, name: str) -> Any:
        given = getattr(self._pipe, name)
        return self._listened(given) if name in ("read", "readline", "readlines") else given

    def _listened(self, read: Any) -> Any:
        def heard(*size: int) -> Any:
            text = read(*size)
            EARS.listen(self._where, text if isinstance(text, str | bytes) else repr(text))
            return text

        return heard

    def __iter__(self) -> Iterator[Any]:
        for line in self._pipe:
            EARS.listen(self._where, line)
            yield line

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()


def _listen_to_processes() -> None:
    begin, communicate = subprocess.Popen.__init__, subprocess.Popen.communicate

    def begun(self: Any, args: Any, *rest: Any, **more: Any) -> None:
        EARS.listen("command line", args if isinstance(args, str) else " ".join(map(str, args)))
        begin(self, args, *rest, **more)
        for name in ("stdout", "stderr"):
            if getattr(self, name) is not None:
                setattr(self, name, Heard(getattr(self, name), f"{name} of {args}"))

    def communicated(self: Any, *rest: Any, **more: Any) -> Any:
        told = communicate(self, *rest, **more)
        for text in told:
            EARS.listen(f"output of {self.args}", text)
        return told

    subprocess.Popen.__init__ = begun  # type: ignore[method-assign]
    subprocess.Popen.communicate = communicated  # type: ignore[method-assign]


def _look_at_command_lines(halt: threading.Event) -> None:
    while not halt.wait(LOOK_SECONDS):
        for line in _command_lines():
            EARS.listen("command line of a process", line)


def _command_lines() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:  # it has ended
            continue


# --- what the desk answers ---------------------------------------------------------------------


def _listen_to_answers() -> None:
    get, get_async = BaseHandler.get_response, BaseHandler.get_response_async

    def answered(self: Any, request: Any) -> Any:
        return _heard_answer(request, get(self, request))

    async def answered_async(self: Any, request: Any) -> Any:
        return _heard_answer(request, await get_async(self, request))

    BaseHandler.get_response = answered  # type: ignore[method-assign]
    BaseHandler.get_response_async = answered_async  # type: ignore[method-assign]


def _heard_answer(request: Any, response: Any) -> Any:
    where = f"answer of {request.path}"
    EARS.listen(where, f"{response.headers} {response.cookies.output()}")
    if not response.streaming:
        EARS.listen(where, response.content)
    elif not isinstance(response, FileResponse) and not response.is_async:
        response.streaming_content = _each(where, response.streaming_content)
    return response


def _each(where: str, parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        EARS.listen(where, part)
        yield part


# --- what is written down ----------------------------------------------------------------------


def _listen_to(connection: Any, **_: Any) -> None:
    if _hear_query not in connection.execute_wrappers:
        connection.execute_wrappers.append(_hear_query)


def _hear_query(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    for value in _values(params):
        EARS.listen(f"value for {sql[:60]}", value)
    return execute(sql, params, many, context)


def _values(params: Any) -> Iterator[object]:
    """Give what a statement is given; JSON for PostgreSQL has its value inside."""
    if isinstance(params, list | tuple):
        for each in params:
            yield from _values(each)
    elif isinstance(params, dict):
        yield from _values(list(params.values()))
    else:
        inside = getattr(params, "obj", None)
        yield params if inside is None else repr(inside)


def listen_in(folder: Path) -> None:
    """Listen to every file of a folder; databases among them hold the rows of all tests."""
    needle = EARS.secret.encode()
    for path in folder.rglob("*"):
        if path.name == OF_SECRETS:
            continue
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as all:
                if (at := all.find(needle)) >= 0:
                    around = all[max(at - EXCERPT, 0) : at + len(needle) + EXCERPT]
                    EARS.listen(f"file {path}", around)


# --- the run -----------------------------------------------------------------------------------

_halt = threading.Event()
_at_the_end: list[str] = []


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _runs_tests(config: pytest.Config) -> bool:
    """Say whether this process runs tests itself; else it hears its workers' reports."""
    return _is_worker(config) or not config.getoption("numprocesses", None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let pytest show log lines as our handler writes them, which is what may hold no secret."""
    from mpx_site.logs import Lines  # not before the suite has chosen its settings

    plugin: Any = session.config.pluginmanager.get_plugin("logging-plugin")
    for handler in (plugin.caplog_handler, plugin.report_handler):
        handler.setFormatter(Lines("text"))


def pytest_configure(config: pytest.Config) -> None:
    if _runs_tests(config):
        _listen_to_processes()
        _listen_to_answers()
        connection_created.connect(_listen_to, weak=False)
    if not _is_worker(config):
        threading.Thread(target=_look_at_command_lines, args=(_halt,), daemon=True).start()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    _at_the_end.extend(getattr(node, "workeroutput", {}).get(KEY, []))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    config: Any = session.config
    if _is_worker(config):
        config.workeroutput[KEY] = EARS.take()
        return
    _halt.set()
    for folder in (config._tmp_path_factory.getbasetemp(), Path(os.environ.get("MPX_HOME", ""))):
        if folder != Path():
            listen_in(folder)
    _at_the_end.extend(EARS.take())
    if _at_the_end:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _at_the_end:
        terminalreporter.section("A secret was heard by the canary", red=True)
        for each in _at_the_end:
            terminalreporter.write_line(each)
