"""Who is who on the long shelf: ids that follow from a market's place, and back."""

from __future__ import annotations

import hashlib

BLOCK = 10  # markets, in four events:
SPANS = ((0, 5), (5, 8), (8, 9), (9, 10))  # a neg-risk group, a plain group, two singles
FIRST_MARKET, MARKET_STEP = 20_000_000, 7
FIRST_EVENT, EVENT_STEP = 10_000_000, 3
V2_EVERY = 25  # every so manieth block is of the second protocol


def digest(text: str) -> bytes:
    """Draw 32 bytes that follow from a text."""
    return hashlib.sha256(text.encode()).digest()


class Places:
    """Numbers `count` markets from 0, rounded up to whole blocks, and names them."""

    def __init__(self, *, seed: int, count: int) -> None:
        self.seed = seed
        self.count = -(-count // BLOCK) * BLOCK

    @property
    def event_count(self) -> int:
        """How many events it lists."""
        return self.count // BLOCK * len(SPANS)

    def market_id(self, at: int) -> int:
        """Give the Gamma id of the market at a place."""
        return FIRST_MARKET + MARKET_STEP * at

    def event_id(self, number: int) -> int:
        """Give the Gamma id of the event with this number."""
        return FIRST_EVENT + EVENT_STEP * number

    def event_of(self, at: int) -> int:
        """Give the number of the event a market belongs to."""
        block, place = divmod(at, BLOCK)
        own = next(number for number, (_, end) in enumerate(SPANS) if place < end)
        return block * len(SPANS) + own

    def legs(self, number: int) -> range:
        """Give the places of an event's markets."""
        block, own = divmod(number, len(SPANS))
        first, end = SPANS[own]
        return range(block * BLOCK + first, block * BLOCK + end)

    def is_v2(self, at: int) -> bool:
        """Whether a market is of the second protocol."""
        return at // BLOCK % V2_EVERY == V2_EVERY - 1

    def condition_id(self, at: int) -> str:
        """Give the condition id as the CLOB knows it: 64 hex digits."""
        own = f"{digest(f'{self.seed}:condition:{at}').hex()[:54]}{at:08x}"
        return f"0x{own}00" if self.is_v2(at) else f"0x{own}{at % 255 + 1:02x}"

    def token_ids(self, at: int) -> tuple[str, str]:
        """Give the tokens of both outcomes."""
        return self._token(at, 0), self._token(at, 1)

    def _token(self, at: int, outcome: int) -> str:
        head = int.from_bytes(digest(f"{self.seed}:token:{at}:{outcome}")[:26], "big")
        return str(head << 48 | at << 1 | outcome)

    def by_market_id(self, number: int) -> int | None:
        """Find a market by its Gamma id; None: not here."""
        at, rest = divmod(number - FIRST_MARKET, MARKET_STEP)
        return at if not rest and 0 <= at < self.count else None

    def by_event_id(self, number: int) -> int | None:
        """Find an event's number by its Gamma id."""
        at, rest = divmod(number - FIRST_EVENT, EVENT_STEP)
        return at if not rest and 0 <= at < self.event_count else None

    def by_token(self, token: str) -> tuple[int, int] | None:
        """Find the market and outcome of a token."""
        tail = int(token) & (1 << 48) - 1 if token.isdecimal() and len(token) <= 78 else -1
        at, outcome = tail >> 1, tail & 1
        known = 0 <= at < self.count and self._token(at, outcome) == token
        return (at, outcome) if known else None

    def by_condition(self, condition: str) -> int | None:
        """Find a market by its condition id, 62 (Gamma, second protocol) or 64 hex digits."""
        try:
            at = int(condition[56:64], 16)
        except ValueError:
            return None
        full = self.condition_id(at) if 0 <= at < self.count else ""
        return at if full and condition in (full, self.gamma_condition(at)) else None

    def by_slug(self, slug: str) -> int | None:
        """Find a market by its slug."""
        tail = slug.rsplit("-", 1)[-1]
        at = int(tail) if tail.isdecimal() else -1
        return at if 0 <= at < self.count and self.slug(at) == slug else None

    def by_event_slug(self, slug: str) -> int | None:
        """Find an event's number by its slug."""
        tail = slug.rsplit("-", 1)[-1]
        number = int(tail) if tail.isdecimal() else -1
        known = 0 <= number < self.event_count and slug == f"shelf-event-{number}"
        return number if known else None

    def slug(self, at: int) -> str:
        """Give a market's slug; renaming does not change it."""
        return f"shelf-market-{at}"

    def gamma_condition(self, at: int) -> str:
        """Give the condition id as Gamma shows it: 62 hex digits in the second protocol."""
        full = self.condition_id(at)
        return full[:-2] if self.is_v2(at) else full

    def neg_risk_id(self, at: int) -> str | None:
        """Give the id that a neg-risk group shares; None: not in one."""
        if at % BLOCK >= SPANS[0][1]:
            return None
        return f"0x{digest(f'{self.seed}:group:{at // BLOCK}').hex()[:62]}00"
