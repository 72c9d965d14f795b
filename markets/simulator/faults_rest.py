"""Faults of the REST side. `target` is a path prefix such as /books; None: every path."""

from __future__ import annotations

import asyncio
import functools
import math
import random
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import msgspec

from markets.polymarket.wire import book_hash, row_head
from markets.simulator.faults_base import Fault, chosen_market
from markets.simulator.server_http import Reply, Request, error, told

if TYPE_CHECKING:
    from markets.simulator.server import Venue

HTML = b"""<!DOCTYPE html>
<html lang="en-US"><head><title>Attention Required! | Cloudflare</title></head>
<body><h1>Sorry, you have been blocked</h1><p>You are unable to access this site.</p></body></html>
"""
BOMB_MB = 256
MATCHING = ("/book", "/books", "/tick-size", "/clob-markets", "/order", "/orders")
RESTART_SECONDS = 3.0  # of 425 before the post-only time begins


class _Rest(Fault):
    """Spoils the answers to the paths it is aimed at."""

    handshakes: ClassVar[bool] = False  # whether it also meets those who open a WebSocket

    def __init__(self, venue: Venue, target: str | None, seconds: float | None) -> None:
        super().__init__(venue, target, seconds)
        self.over = asyncio.Event()

    async def end(self) -> None:
        """Let answers that are still under way come to their end."""
        self.over.set()

    def rest(self, request: Request, reply: Reply) -> Reply:
        """Spoil an answer."""
        meant = request.path.startswith(self.target or "/")
        return self.spoil(reply) if meant and (self.handshakes or reply.status != 101) else reply

    def spoil(self, reply: Reply) -> Reply:
        """Give the bad answer instead of the good one."""
        raise NotImplementedError

    def retry_after(self) -> int:
        """Seconds a client is told to wait: one if nobody knows."""
        return max(1, math.ceil(self.seconds or 1))


class Drip(_Rest):
    """REST answers come one byte every 10 ms: the connection lives, the answer never ends.

    A good client gives up at a total deadline (not per chunk) and lets nothing else wait for it.
    """

    name = "drip"

    def spoil(self, reply: Reply) -> Reply:
        """Slow the body down."""
        return replace(reply, drip=0.01, over=self.over)


class Slow(_Rest):
    """REST answers come whole, but 0.3 to 3 s late.

    A good client does not overlap its polls, goes on with what it has and shows the latency.
    """

    name = "slow"

    def spoil(self, reply: Reply) -> Reply:
        """Wait first."""
        return replace(reply, wait=random.uniform(0.3, 3.0))


class RateLimit429(_Rest):
    """Every REST call is answered 429 with Retry-After.

    A good client asks nobody before that time is over, then eases back in.
    """

    name = "rate_limit_429"

    def spoil(self, reply: Reply) -> Reply:
        """Refuse."""
        limited = error(429, "Too Many Requests")
        return replace(limited, headers=(("Retry-After", str(self.retry_after())),))


class Restart425ThenPostOnly(_Rest):
    """The matching engine restarts: 3 s of 425 without a body, then 503 post_only_mode.

    Both meet the calls about books, terms and orders; Gamma and the WebSocket go on.

    A good client backs off from 1 s, pauses execution and names the mode, and goes on watching
    by the WebSocket.
    """

    name = "restart_425_then_post_only"

    async def begin(self) -> None:
        """Note when it began."""
        self._began = asyncio.get_running_loop().time()

    def rest(self, request: Request, reply: Reply) -> Reply:
        """Refuse what the matching engine would answer."""
        meant = request.path.startswith(MATCHING)
        return super().rest(request, reply) if meant else reply

    def spoil(self, reply: Reply) -> Reply:
        """Refuse in the way of the present phase."""
        passed = asyncio.get_running_loop().time() - self._began
        if passed < RESTART_SECONDS:
            return Reply(425, b"")
        wait = max(1, math.ceil((self.seconds or passed + 1) - passed))
        body = {"error": "post-only mode is active, only post-only orders are accepted",
                "code": "post_only_mode", "retry_after_seconds": wait}  # fmt: skip
        return replace(told(body, 503), headers=(("Retry-After", str(wait)),))


class CancelOnly503(_Rest):
    """The venue takes cancellations only: 503 on calls about books, terms and orders.

    A good client pauses execution, names the mode, and goes on watching by the WebSocket.
    """

    name = "cancel_only_503"

    def rest(self, request: Request, reply: Reply) -> Reply:
        """Refuse what the matching engine would answer."""
        meant = request.path.startswith(MATCHING)
        return super().rest(request, reply) if meant else reply

    def spoil(self, reply: Reply) -> Reply:
        """Name the mode."""
        return error(503, "Trading is currently cancel-only. New orders are not accepted.")


class Errors5xx(_Rest):
    """Every REST call fails: in turn 500 with JSON, 502 with HTML, 503 with nothing.

    A good client asks again with growing pauses, opens its breaker, and parses none of it.
    """

    name = "errors_5xx"

    async def begin(self) -> None:
        """Start counting."""
        self._turn = 0

    def spoil(self, reply: Reply) -> Reply:
        """Fail."""
        self._turn += 1
        failures = (
            error(500, "Internal server error"),
            Reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", kind="text/html"),
            Reply(503, b""),
        )
        return failures[(self._turn - 1) % len(failures)]


class Html403(_Rest):
    """A proxy in front of the venue answers 403 with an HTML page, WebSocket handshakes too.

    A good client does not parse it as JSON, names the cause and does not hammer.
    """

    name = "html_403"
    handshakes = True

    def spoil(self, reply: Reply) -> Reply:
        """Show the proxy's page."""
        return Reply(403, HTML, kind="text/html; charset=UTF-8")


class GzipBomb(_Rest):
    """Answers are gzip though nobody asked for it: 250 KB that unpack to 256 MB of spaces.

    A good client asks for identity and stops at its cap of unpacked bytes.
    """

    name = "gzip_bomb"

    def spoil(self, reply: Reply) -> Reply:
        """Send the bomb."""
        return replace(reply, body=_bomb(), headers=(("Content-Encoding", "gzip"),))


class EndlessBody(_Rest):
    """Answers begin as they should and then never end, as fast as the client reads.

    A good client stops at its cap of bytes and closes that connection.
    """

    name = "endless_body"

    def spoil(self, reply: Reply) -> Reply:
        """Never end."""
        return replace(reply, endless=True, over=self.over)


class TruncatedBody(_Rest):
    """The connection breaks in the middle of an answer's body.

    A good client counts the error, stores nothing of it and asks again.
    """

    name = "truncated_body"

    def spoil(self, reply: Reply) -> Reply:
        """Stop half way."""
        return replace(reply, sent=len(reply.body) // 2)


class GhostBook(Fault):
    """/book and /books show one market as 0.01 against 0.99, hash and all; the WebSocket is right.

    `target` is one of its tokens or its condition id; by default the busiest market.

    A good client does not let the ghost replace what the feed just proved, marks the
    disagreement, and does not resubscribe for ever.
    """

    name = "ghost_book"

    async def begin(self) -> None:
        """Choose the market."""
        _, leg = chosen_market(self.venue, self.target)
        self.target = leg.spec.condition_id
        self._tokens = frozenset(leg.spec.token_ids)

    def rest(self, request: Request, reply: Reply) -> Reply:
        """Replace the market's books."""
        if reply.status != 200 or request.path not in ("/book", "/books"):
            return reply
        shown = msgspec.json.decode(reply.body)
        for book in shown if isinstance(shown, list) else [shown]:
            if book["asset_id"] in self._tokens:
                _haunt(book)
        return replace(reply, body=msgspec.json.encode(shown))


def _haunt(book: dict[str, object]) -> None:
    book["bids"] = [{"price": "0.01", "size": "2500"}]
    book["asks"] = [{"price": "0.99", "size": "2500"}]
    book["hash"] = book_hash(
        market=str(book["market"]), asset_id=str(book["asset_id"]),
        timestamp=str(book["timestamp"]), bids=[row_head("0.01") + "2500"],
        asks=[row_head("0.99") + "2500"],
        min_order_size=str(book["min_order_size"]), tick_size=str(book["tick_size"]),
        neg_risk=bool(book["neg_risk"]), last_trade_price=str(book["last_trade_price"]),
    )  # fmt: skip


@functools.cache
def _bomb() -> bytes:
    """Pack spaces; one megabyte packed after a full flush can be repeated as it is."""
    megabyte = b" " * 2**20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(BOMB_MB):
        check = zlib.crc32(megabyte, check)
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    tail = packer.flush() + struct.pack("<II", check, BOMB_MB * 2**20)
    return head + piece * BOMB_MB + tail


KINDS = (
    Drip, Slow, RateLimit429, Restart425ThenPostOnly, CancelOnly503, Errors5xx, Html403, GzipBomb,
    EndlessBody, TruncatedBody, GhostBook,
)  # fmt: skip
