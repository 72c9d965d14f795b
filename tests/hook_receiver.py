"""The far side of the webhook voice, on loopback: checks signatures and answers as it is told."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SECRET = "webhook-canary-webhook-canary-webhook-canary"


@dataclass(frozen=True)
class Reply:
    """One answer. `hang` seconds pass before it; `drip` is a body that comes bit by bit."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    drip: bool = False


OK = Reply()


@pytest.fixture
def hook(settings: Any) -> Iterator[HookReceiver]:
    """Settings of a desk that tells by webhook, and the receiver that it talks to."""
    with HookReceiver() as receiver:
        settings.MPX_WEBHOOK_URL, settings.MPX_WEBHOOK_SECRET = receiver.url, SECRET
        yield receiver


class HookReceiver:
    """Use as a context manager. `replies` are used up in turn; then all is well.

    `taken` has the bodies that were answered with 2xx, `asked` every request's headers.
    """

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.taken: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.forged = 0
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks/path-that-is-secret"

    @property
    def ids(self) -> list[str]:
        """Return the ids of the alerts that were taken, in their order."""
        return [alert["id"] for body in self.taken for alert in body["alerts"]]

    def __enter__(self) -> HookReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def is_signed(header: str, body: bytes, *, now: float) -> bool:
    """Check a signature as a receiver does, written apart from the code that makes it."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    wanted = hmac.new(SECRET.encode(), parts["t"].encode() + b"." + body, hashlib.sha256)
    return hmac.compare_digest(wanted.hexdigest(), parts["v1"]) and abs(now - int(parts["t"])) < 300


def _handler(receiver: HookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.asked.append(dict(self.headers))
            receiver.bodies.append(body)
            reply = receiver.replies.popleft() if receiver.replies else OK
            if not is_signed(self.headers["X-MPX-Signature"], body, now=time.time()):
                receiver.forged += 1
                reply = Reply(401)
            receiver.closing.wait(reply.hang)
            if 200 <= reply.status < 300:
                receiver.taken.append(json.loads(body))
            self._say(reply)

        def _say(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if not reply.drip and reply.status != 204:
                self.send_header("Content-Length", "0")
            self.end_headers()
            while reply.drip and not receiver.closing.wait(0.05):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return

    return Handler
