"""Following the live venue: what is watched, over which connections, healed and checked how.

Everything that arrives goes to `take` as a frame, in order of arrival. What it
means is for the pipeline to say; this module only sees to it that the right
things are asked for:

- every watched event's terms, again and again
- both tokens of every market on one connection, at most 200 a connection
- a snapshot over REST for each book that only an answer can make clear
- a rotating check of all books, so that an asset that went silent is found
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass

import structlog

from markets.book import Book
from markets.books import Books
from markets.frames import LEFT, OPENED, Frame, left_out
from markets.polymarket.clob import Clob
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import VenueError
from markets.polymarket.turns import Turns
from markets.polymarket.wire import tokens_resolved
from markets.polymarket.ws import Patience, Shard

log = structlog.stdlib.get_logger(__name__)

BATCH = 500  # the most books one request may ask for
CONFIRM_PAUSE = 1.0  # seconds between two confirmations of one event
RESOLVED = b'"market_resolved"'
TERMS_BATCH = 10  # events read together
LONGEST_REST = 30.0  # seconds to leave the venue alone at most when it asks for it


@dataclass(frozen=True, slots=True)
class Pace:
    """How often what is asked for, in seconds."""

    watch_every: float = 4.0
    terms_every: float = 4.0
    probe_round: float = 60.0  # one look at every book over REST
    heal_every: float = 0.25
    heal_patience: float = 0.5  # how long a book may be unclear before it is asked for
    again_from: float = 1.0
    again_to: float = 4.0


@dataclass(frozen=True, slots=True)
class Followed:
    """An event to follow and the token pairs of its markets that have a book."""

    event_id: str
    tokens: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Unclear:
    """Since when a book is unclear and when it may be asked for next (loop time)."""

    next_at: float
    wait: float


class Ingest:
    """Keeps following what `watched` names until it is cancelled.

    `watched` is given what is followed now and returns what should be.
    """

    def __init__(
        self,
        *,
        gamma: Gamma,
        clob: Clob,
        ws_url: str,
        books: Books,
        watched: Callable[[Sequence[Followed]], Awaitable[Sequence[Followed]]],
        take: Callable[[Frame], None],
        clock: Callable[[], int],
        pace: Pace | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.shards: list[Shard] = []
        self._turns: list[Turns] = []
        self._gamma, self._clob = gamma, clob
        self._ws_url = ws_url
        self._books = books
        self._watched = watched
        self._take = take
        self._clock = clock
        self._pace = pace or Pace()
        self._patience = patience or Patience()
        self._followed: dict[str, Followed] = {}
        self._shard_of: dict[str, Shard] = {}  # by token
        self._unclear: dict[str, _Unclear] = {}  # by token of outcome 0
        self._event_of: dict[str, str] = {}  # by token
        self._confirmed: dict[str, float] = {}  # by event: not again before this loop time
        self._running = 0  # shards whose task was started
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        async with self._tasks as tasks:
            tasks.create_task(self._repeat("watch", self._pace.watch_every, self.refresh))
            tasks.create_task(self._terms_for_ever())
            tasks.create_task(self._repeat("heal", self._pace.heal_every, self._heal))
            tasks.create_task(self._probe_for_ever())

    async def _repeat(self, name: str, every: float, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step for ever; the venue's refusals are counted and waited out."""
        while True:
            wait = every
            try:
                await step()
            except VenueError as error:
                wait = max(every, error.retry_after or 0)
                self._refused(name, error)
            await asyncio.sleep(wait)

    def _refused(self, name: str, error: VenueError) -> None:
        self.counts[f"{name}:{type(error).__name__}"] += 1
        log.warning("ingest.refused", what=name, error=str(error))

    # --- what is followed --------------------------------------------------

    async def refresh(self) -> None:
        """Take over the watch list: begin what is new on it, leave what is gone."""
        wanted = {
            each.event_id: each for each in await self._watched(tuple(self._followed.values()))
        }
        gone = [each for key, each in self._followed.items() if wanted.get(key) != each]
        fresh = [each for key, each in wanted.items() if self._followed.get(key) != each]
        if fresh:
            await self._fetch_terms([each.event_id for each in fresh])
        for each in gone:
            await self._leave(each)
        for each in fresh:
            await self._begin(each)
        self._start_new_shards()

    def confirm(self, event_id: str) -> None:
        """Read an event's terms at once: what pays may be a market that was just paused.

        The feed does not tell of a pause; between two readings only this does.
        """
        now = asyncio.get_running_loop().time()
        at = max(now, self._confirmed.get(event_id, 0))
        if event_id in self._followed and at < now + CONFIRM_PAUSE:  # none waits for it already
            self._confirmed[event_id] = at + CONFIRM_PAUSE
            self._start(self._confirm_later(event_id, at - now))

    async def _confirm_later(self, event_id: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._confirm([event_id])

    async def _confirm(self, event_ids: list[str]) -> None:
        try:
            await self._fetch_terms(event_ids)
        except VenueError as error:
            self._refused("terms", error)
            await asyncio.sleep(min(error.retry_after or 0, LONGEST_REST))

    async def _terms_for_ever(self) -> None:
        """Read the terms of all followed events once per round, a few at a time.

        A page of hundreds would hold up the frames that arrive meanwhile.
        """
        while True:
            ids = sorted(self._followed)
            batches = [ids[i : i + TERMS_BATCH] for i in range(0, len(ids), TERMS_BATCH)] or [[]]
            for batch in batches:
                await asyncio.sleep(self._pace.terms_every / len(batches))
                if batch:
                    await self._confirm(batch)

    async def _fetch_terms(self, event_ids: list[str]) -> None:
        async for body in self._gamma.events_by_id(event_ids):
            self._take(Frame(self._clock(), "gamma", body, None, "/events/keyset"))

    async def _begin(self, event: Followed) -> None:
        self._followed[event.event_id] = event
        for pair in event.tokens:
            shard = self._shard_with_room()
            self._shard_of.update(dict.fromkeys(pair, shard))
            self._event_of.update(dict.fromkeys(pair, event.event_id))
            await shard.follow(pair)

    async def _leave(self, event: Followed) -> None:
        del self._followed[event.event_id]
        for pair in event.tokens:
            shard = self._shard_of[pair[0]]
            for token in pair:
                self._unclear.pop(token, None)
                del self._shard_of[token], self._event_of[token]
            self._take(Frame(self._clock(), "ws", ",".join(pair).encode(), shard.number, LEFT))
            await shard.leave(pair)

    def _shard_with_room(self) -> Shard:
        for shard in self.shards:
            if shard.room >= 2:
                return shard
        shard = Shard(
            len(self.shards),
            self._ws_url,
            emit=self._arrived,
            clock=self._clock,
            patience=self._patience,
            others=self._turns,
        )
        self.shards.append(shard)
        return shard

    def _start_new_shards(self) -> None:
        for shard in self.shards[self._running :]:
            self._tasks.create_task(shard.run())
        self._running = len(self.shards)

    # --- what arrives ------------------------------------------------------

    def _arrived(self, frame: Frame) -> None:
        self._take(frame)
        if frame.req == OPENED:
            for shard in self.shards:
                shard.hurry()
            self._start(self._snapshot_again(self.shards[frame.conn or 0]))
        elif RESOLVED in frame.body:
            self._resolved(frame.body)

    def _resolved(self, body: bytes) -> None:
        """Read the terms of an event at once whose market the feed says is resolved."""
        for token in tokens_resolved(body):
            if token in self._event_of:
                self.counts["resolved"] += 1
                self.confirm(self._event_of[token])
                return

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Do something beside; nothing new is begun once everything is being ended."""
        try:
            self._tasks.create_task(work)
        except RuntimeError:
            work.close()

    async def _snapshot_again(self, shard: Shard) -> None:
        """After a gap ask for every book of a connection at once; the feed may not resend all."""
        await asyncio.sleep(self._pace.heal_patience)  # most come by themselves, in order
        unclear = [book.token0 for book in self._needing(shard.assets)]
        await self._ask_books(unclear)

    def _needing(self, tokens: Iterable[str]) -> list[Book]:
        books = (self._books.by_token.get(token) for token in tokens)
        return [book for book in dict.fromkeys(books) if book and book.needs_answer]

    # --- healing and checking ----------------------------------------------

    async def _heal(self) -> None:
        """Do something about books that have been unclear for a moment, less often every time."""
        now = asyncio.get_running_loop().time()
        asked = {book.token0 for book in self._books.needing_answer()} & self._shard_of.keys()
        silent = {b.token0 for b in self._books.silent() if self._is_connected(b)}
        for token in self._unclear.keys() - asked - silent:
            del self._unclear[token]
        await self._revive([token for token in sorted(silent) if self._is_due(token, now)])
        await self._ask_books([token for token in sorted(asked) if self._is_due(token, now)])

    def _is_connected(self, book: Book) -> bool:
        shard = self._shard_of.get(book.token0)
        return shard is not None and shard.open

    def _is_due(self, token: str, now: float) -> bool:
        known = self._unclear.get(token)
        if known is None:
            self._unclear[token] = _Unclear(now + self._pace.heal_patience, self._pace.again_from)
            return False
        if now < known.next_at:
            return False
        known.next_at = now + known.wait
        return True

    def _less_often(self, tokens: Iterable[str]) -> None:
        """Asking was in vain: wait twice as long before the next time."""
        for token in tokens:
            if token in self._unclear:
                known = self._unclear[token]
                known.wait = min(known.wait * 2, self._pace.again_to)

    async def _revive(self, tokens: Sequence[str]) -> None:
        """Subscribe anew to assets whose own feed is dead while the connection lives."""
        self._less_often(tokens)
        for token in tokens:
            book = self._books.by_token[token]
            self.counts["revived"] += 1
            await self._shard_of[token].again([book.token0, book.token1])

    async def _probe_for_ever(self) -> None:
        """Compare every followed book with the venue's own, once per round, spread over it."""
        while True:
            tokens = sorted({t for each in self._followed.values() for t, _ in each.tokens})
            batches = [tokens[i : i + BATCH] for i in range(0, len(tokens), BATCH)] or [[]]
            for batch in batches:
                await asyncio.sleep(self._pace.probe_round / len(batches))
                await self._ask_books(batch)
                self.counts["probed"] += len(batch)

    async def _ask_books(self, tokens: Sequence[str]) -> None:
        """Ask for books and hand on what comes, with the connection that keeps them fresh."""
        for number, part in self._by_connection(tokens).items():
            try:
                async for answer in self._clob.books(part):
                    self._take(Frame(self._clock(), "clob", answer.body, number, "/books"))
                    if answer.missing:
                        self._less_often(answer.missing)
                        req = left_out(answer.missing)
                        self._take(Frame(self._clock(), "clob", b"[]", number, req))
            except VenueError as error:
                self._less_often(part)
                self._refused("books", error)

    def _by_connection(self, tokens: Sequence[str]) -> dict[int, list[str]]:
        parts: dict[int, list[str]] = {}
        for token in tokens:
            shard = self._shard_of.get(token)
            if shard and shard.open:
                parts.setdefault(shard.number, []).append(token)
        return parts

    def vital_signs(self) -> dict[str, object]:
        """Return what the heartbeat tells of the connections.

        A quiet market's PONG is news of it, too; an opening or closing is none. So this
        `last_frame_at` (unix ms) counts instead of the last frame of any kind.
        """
        heard = max((shard.heard_at for shard in self.shards), default=None)
        return {
            **({} if heard is None else {"last_frame_at": heard // 1_000_000}),
            "events_followed": len(self._followed),
            "shards": [
                {
                    "number": shard.number,
                    "open": shard.open,
                    "assets": len(shard.assets),
                    "problem": shard.problem,
                    **shard.counts,
                }
                for shard in self.shards
            ],
            "unclear_books": len(self._unclear),
            "ingest": dict(self.counts),
        }
