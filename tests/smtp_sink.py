"""A mail server on loopback: keeps what it was sent and refuses what it was told to (RFC 5321)."""

from __future__ import annotations

import base64
import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

PASSWORD = "email-canary-email-canary"
TO = ("olga@desk.example", "dana@desk.example")


@pytest.fixture
def mail(settings: Any) -> Iterator[SmtpSink]:
    """Settings of a desk that tells by e-mail, and the server that it sends by."""
    with SmtpSink() as sink:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", sink.port
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "desk", PASSWORD
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.MPX_EMAIL_TO, settings.MPX_EMAIL_FROM = TO, "mpx@desk.example"
        yield sink


class SmtpSink:
    """Use as a context manager. `answers` replaces the answer to a verb, such as RCPT, once each.

    An answer of "" breaks the connection, "hang" never comes.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.letters: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.logins: list[str] = []
        self.connections = 0
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _session(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> SmtpSink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def _session(sink: SmtpSink) -> type[socketserver.StreamRequestHandler]:
    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            sink.connections += 1
            self.to: list[str] = []
            if not self._say("CONNECT", "220 sink"):
                return
            while line := self.rfile.readline().decode("ascii").strip():
                verb = line.split()[0].upper()
                if not self._one(verb, line):
                    return

        def _one(self, verb: str, line: str) -> bool:
            """Answer one command; False when that was the last."""
            if verb == "AUTH":
                sink.logins.append(base64.b64decode(line.split()[-1]).decode())
            if verb == "DATA":
                return self._data()
            usual = {"EHLO": "250-sink\r\n250 AUTH PLAIN", "AUTH": "235 ok", "QUIT": "221 bye"}
            said = self._say(verb, usual.get(verb, "250 ok"))
            if verb == "RCPT" and said == "250 ok":
                self.to.append(line.partition(":")[2].strip(" <>"))
            return bool(said) and verb != "QUIT"

        def _data(self) -> bool:
            if not (said := self._say("DATA", "354 go on")).startswith("354"):
                return bool(said)
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            if not (said := self._say("TAKE", "250 taken")).startswith("250"):
                return bool(said)
            whole = b"".join(lines).replace(b"\r\n", b"\n")
            letter = email.message_from_bytes(whole, policy=email.policy.default)
            assert isinstance(letter, EmailMessage)
            sink.letters.append(letter)
            sink.recipients.append(self.to)
            self.to = []
            return True

        def _say(self, verb: str, usual: str) -> str:
            """Send an answer and return it; "" when there is none to come."""
            told = sink.answers.get(verb)
            answer = told.pop(0) if told else usual
            if answer == "hang":
                sink.closing.wait(30)
                return ""
            if answer:
                self.wfile.write(f"{answer}\r\n".encode())
            return answer

    return Session
