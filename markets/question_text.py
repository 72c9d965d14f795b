"""The text of a question while it is being read (pure)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Final

MOST_CHARS: Final = 1_000  # a question is a sentence; what is longer is read to here

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
_SAME_SIGN = str.maketrans(
    {**dict.fromkeys(_DASHES, "-"), "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
)
_ACRONYM = re.compile(r"\b(?:[A-Za-z]\.){2,}")
_SPACE = re.compile(r"\s+")


class Text:
    """A question from which readers take what they understand; the rest is `left`.

    `near` is the day the market ends, if known. `outcomes` are the names of its two outcomes.
    """

    def __init__(
        self,
        question: str,
        *,
        near: date | None = None,
        outcomes: tuple[str, str] = ("Yes", "No"),
    ) -> None:
        self.left = plain(question[:MOST_CHARS])
        self.near = near
        self.outcomes = outcomes

    def take(self, pattern: re.Pattern[str], use: Callable[[re.Match[str]], bool]) -> None:
        """Blank every place that fits and that `use` accepts."""
        self.left = pattern.sub(
            lambda found: " " * len(found.group()) if use(found) else found.group(), self.left
        )

    def blank(self, start: int, end: int) -> None:
        self.left = self.left[:start] + " " * (end - start) + self.left[end:]


def plain(text: str) -> str:
    """Return text with one kind of dash, quote and space, and U.S. written as US."""
    text = unicodedata.normalize("NFKC", text).translate(_SAME_SIGN)
    text = _ACRONYM.sub(lambda found: found.group().replace(".", ""), text)
    return _SPACE.sub(" ", text).strip()


def folded(word: str) -> str:
    """Return a word in small letters without accents and without its possessive."""
    lowered = word.lower()
    if not lowered.isascii():
        parts = unicodedata.normalize("NFKD", lowered)
        lowered = "".join(each for each in parts if not unicodedata.combining(each))
    return lowered.split("'")[0] or lowered
