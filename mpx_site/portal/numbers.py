"""Numbers of rows as addresses and forms give them."""

from __future__ import annotations

MOST_DIGITS = 18  # a row's id has no more; of thousands of digits Python itself reads none


def row_number(text: str | None) -> int | None:
    """Return the number that a text names; None if it can be that of no row."""
    if not text or not text.isdecimal() or len(text) > MOST_DIGITS:
        return None
    return int(text)
