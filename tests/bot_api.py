"""A Bot API on loopback: keeps what it was sent and answers as it was told to."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests import canary

TOKEN = canary.settings()["TELEGRAM_BOT_TOKEN"]
CHAT = "-1001234567890"


@dataclass(frozen=True)
class Answer:
    """One answer: `hang` seconds pass before it, and a `drop` one is never finished."""

    status: int = 200
    description: str = ""
    parameters: dict[str, Any] | None = None
    hang: float = 0.0
    drop: bool = False
    taken: bool = False  # the message is kept although the answer is an error


OK = Answer()


@pytest.fixture
def telegram(settings: Any) -> Iterator[BotApi]:
    """Settings of a desk that tells by Telegram, and the API that it talks to."""
    settings.TELEGRAM_ENABLED = True
    settings.TELEGRAM_BOT_TOKEN, settings.TELEGRAM_CHAT_ID = TOKEN, CHAT
    with BotApi() as api:
        settings.TELEGRAM_API_URL = api.url
        yield api


class BotApi:
    """Use as a context manager. `answers` are used up in turn; then all is well."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = deque(answers)
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/bot"

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.taken]

    def __enter__(self) -> BotApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(api: BotApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            api.asked += 1
            answer = api.answers.popleft() if api.answers else OK
            if self.path.split("/")[1] != f"bot{TOKEN}":
                answer = Answer(401, "Unauthorized")
            api.closing.wait(answer.hang)
            if answer.status == 200 or answer.taken:
                asked = {key: values[0] for key, values in parse_qs(body.decode()).items()}
                method = self.path.split("/")[2]
                api.taken.append({**asked, "method": method, "at": time.monotonic()})
            if answer.drop:
                self.close_connection = True
                return
            self._say(answer)

        def _say(self, answer: Answer) -> None:
            told: dict[str, Any] = {"ok": answer.status == 200}
            if answer.status == 200:
                chat = {"id": int(CHAT), "type": "supergroup", "title": "desk"}
                number = int(
                    api.taken[-1].get("message_id", len(api.taken))
                )  # an edit keeps its own
                told["result"] = {"message_id": number, "date": 1, "chat": chat}
            else:
                told |= {"error_code": answer.status, "description": answer.description}
            if answer.parameters:
                told["parameters"] = answer.parameters
            raw = json.dumps(told).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler
