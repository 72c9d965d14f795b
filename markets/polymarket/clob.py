"""The CLOB's public reads: books, a market's terms, the venue's clock."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec

from markets.polymarket.http import BadRequest, Unexpected, VenueHttp
from markets.polymarket.wire import DECODE_ERRORS

BATCH = 500  # the most books one request may ask for
CONDITION_DIGITS = 64

_is_token = re.compile(r"[0-9]{1,78}").fullmatch
_is_condition = re.compile(r"0x[0-9a-fA-F]{62}(?:[0-9a-fA-F]{2})?").fullmatch


@dataclass(frozen=True, slots=True)
class BooksAnswer:
    """A `/books` answer as it came, what was asked for, and what it has nothing about.

    `asked` has every id of the batch once. Ids that cannot be the venue's were
    not sent; they are `missing` like those that the venue does not know.
    """

    body: bytes
    asked: tuple[str, ...]
    missing: tuple[str, ...]


class _Named(msgspec.Struct, frozen=True):
    asset_id: object = None


class _TokenId(msgspec.Struct, frozen=True):
    token_id: str


_decode_named = msgspec.json.Decoder(list[_Named]).decode  # skips the ladders
_encode = msgspec.json.Encoder().encode


class Clob:
    def __init__(self, http: VenueHttp) -> None:
        self._http = http

    async def books(self, token_ids: Iterable[str]) -> AsyncIterator[BooksAnswer]:
        """Yield the venue's books of these tokens, up to 500 an answer.

        Raises VenueError for a batch that got no answer; later batches are then not asked for.
        """
        for batch in _batches(token_ids):
            yield await self._batch(batch)

    async def _batch(self, batch: tuple[str, ...]) -> BooksAnswer:
        sent = [_TokenId(token) for token in batch if _is_token(token)]
        if not sent:
            return BooksAnswer(b"[]", batch, batch)
        body = await self._http.post("clob", "/books", _encode(sent))
        try:
            answered = {book.asset_id for book in _decode_named(body)}
        except DECODE_ERRORS:
            raise Unexpected("clob", "/books", "the answer is no list of books") from None
        return BooksAnswer(body, batch, tuple(token for token in batch if token not in answered))

    async def book(self, token_id: str) -> bytes:
        """Return one book. Raises NotFound (not hydrated yet, or ended) or another VenueError."""
        if not _is_token(token_id):
            raise BadRequest("clob", "/book", "not a token of the venue; not asked for")
        return await self._http.get("clob", "/book", (("token_id", token_id),))

    async def clob_market(self, condition_id: str) -> bytes:
        """Return a market's compact terms; the short ids of protocol 2 are padded.

        Raises NotFound or another VenueError.
        """
        if not _is_condition(condition_id):
            raise BadRequest("clob", "/clob-markets", "not a condition id; not asked for")
        digits = condition_id.removeprefix("0x").ljust(CONDITION_DIGITS, "0")
        return await self._http.get("clob", f"/clob-markets/0x{digits}")

    async def time(self) -> int:
        """Return the venue's clock in whole unix seconds. Raises VenueError."""
        text = (await self._http.get_text("clob", "/time")).strip('"')
        if not (text.isascii() and text.isdigit() and len(text) <= 11):
            raise Unexpected("clob", "/time", "the answer is no time in seconds")
        return int(text)

    async def ok(self) -> bool:
        """Tell whether the service calls itself well. Raises VenueError if it does not answer."""
        return (await self._http.get_text("clob", "/ok")).strip('"') == "OK"


def _batches(token_ids: Iterable[str]) -> Iterator[tuple[str, ...]]:
    left = iter(dict.fromkeys(token_ids))
    while batch := tuple(islice(left, BATCH)):
        yield batch
