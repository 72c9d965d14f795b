"""A Bot API on loopback that people write to: it hands out updates and keeps what is answered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from tests.bot_api import TOKEN

GROUP = -1001234567890
LONGEST_POLL = 10.0
FIRST = 700_000  # Telegram's numbers begin anywhere


@dataclass(frozen=True)
class Answered:
    """One call of ours other than `getUpdates`."""

    method: str
    given: dict[str, str]
    message: int

    @property
    def text(self) -> str:
        return self.given.get("text", "")

    @property
    def chat(self) -> int:
        return int(self.given["chat_id"])

    @property
    def buttons(self) -> dict[str, str]:
        """Return what each button carries, by the first word on it."""
        rows = json.loads(self.given.get("reply_markup", "{}")).get("inline_keyboard", [])
        return {key["text"].split()[0]: key["callback_data"] for row in rows for key in row}


@dataclass
class Inbox:
    """Use as a context manager. `idle` is called when somebody waits and nothing is new.

    `refusals` answer the next polls with a status; `offsets` are what polls have asked for.
    """

    now: Callable[[], datetime]
    idle: Callable[[], None] = lambda: None
    refusals: list[int] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    last: int = FIRST

    def __enter__(self) -> Inbox:
        self._news: list[dict[str, Any]] = []
        self._changed, self._closing = threading.Condition(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/bot"

    # --- what people do --------------------------------------------------------------

    def writes(self, who: int, text: str, *, chat: int | None = None, **more: Any) -> int:
        """Let somebody write; in their own chat unless another is named. Returns its number."""
        at = more.pop("at", None) or self.now()
        message = {
            "message_id": self.last + 1, "date": int(at.timestamp()), "text": text,
            "from": _person(who, more.pop("username", f"u{who}")), "chat": _chat(chat or who),
            **more,
        }  # fmt: skip
        return self._add({"message": message})

    def presses(self, who: int, data: str, *, message: int, chat: int | None = None) -> int:
        """Let somebody press a button of a message."""
        shown = {"message_id": message, "date": int(self.now().timestamp()), "text": "…",
                 "chat": _chat(chat or who), "from": _person(1, "bot")}  # fmt: skip
        press = {"id": f"p{self.last}", "from": _person(who, "x"), "message": shown,
                 "chat_instance": "1", "data": data}  # fmt: skip
        return self._add({"callback_query": press})

    def again(self, *updates: dict[str, Any]) -> None:
        """Hand out what was handed out before, as after a crash of whoever read it."""
        with self._changed:
            self._news[:0] = updates
            self._changed.notify_all()

    def waiting(self) -> list[dict[str, Any]]:
        return list(self._news)

    def _add(self, what: dict[str, Any]) -> int:
        with self._changed:
            self.last += 1
            self._news.append({"update_id": self.last, **what})
            self._changed.notify_all()
            return self.last

    # --- what the bot sees -----------------------------------------------------------

    def poll(self, offset: int, seconds: float) -> list[dict[str, Any]]:
        """Forget what came before an offset and return the rest, or wait for it."""
        deadline = time.monotonic() + min(seconds, LONGEST_POLL)
        self.offsets.append(offset)
        with self._changed:
            self._news = [each for each in self._news if each["update_id"] >= offset]
            if not self._news:
                self.idle()
            while not self._news and not self._closing.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 0.1))
            return list(self._news)

    def take(self, method: str, given: dict[str, str]) -> dict[str, Any]:
        number = 9_000 + len(self.answered)
        self.answered.append(Answered(method, given, number))
        if method == "answerCallbackQuery":
            return {"ok": True, "result": True}
        chat = _chat(int(given["chat_id"]))
        return {"ok": True, "result": {"message_id": number, "date": 1, "chat": chat}}


def _person(who: int, username: str) -> dict[str, Any]:
    return {"id": who, "is_bot": False, "first_name": "F", "username": username}


def _chat(number: int) -> dict[str, Any]:
    if number < 0:
        return {"id": number, "type": "supergroup", "title": "desk"}
    return {"id": number, "type": "private", "first_name": "F"}


def _handler(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            given = {key: values[0] for key, values in parse_qs(body).items()}
            _, bot, method = self.path.split("/")
            if bot != f"bot{TOKEN}":
                self._say(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})
            elif method != "getUpdates":
                self._say(200, inbox.take(method, given))
            elif inbox.refusals:
                code = inbox.refusals.pop(0)
                self._say(code, {"ok": False, "error_code": code, "description": "refused"})
            else:
                seconds = float(given.get("timeout", 0))
                news = inbox.poll(int(given.get("offset", 0)), seconds)
                self._say(200, {"ok": True, "result": news})

        def _say(self, status: int, told: dict[str, Any]) -> None:
            raw = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            try:
                self.wfile.write(raw)
            except OSError:  # whoever asked has gone
                self.close_connection = True

    return Handler
