"""Reading what a market asks out of its question: times, numbers, bounds, names, sense (pure).

A reading is for comparing questions, not for understanding them: what is not
recognised stays a word, and words must agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

from markets.question_numbers import Amount, Bound, Mode, take_numbers
from markets.question_text import Text, folded, plain
from markets.question_times import When, settled, take_times


class Aliases:
    """Spellings of names: runs of folded words, and the name that each of them means."""

    def __init__(self, names: Mapping[tuple[str, ...], str] | None = None) -> None:
        self._names = dict(names or {})
        self._lengths: dict[str, int] = {}  # of the longest run that begins with a word
        for run in self._names:
            self._lengths[run[0]] = max(self._lengths.get(run[0], 0), len(run))

    def __len__(self) -> int:
        return len(self._names)

    def run_at(self, words: Sequence[str], at: int) -> tuple[int, str | None]:
        """Return the length of the longest run there that means a name, and the name."""
        longest = min(self._lengths.get(words[at], 0), len(words) - at)
        for length in range(longest, 0, -1):
            name = self._names.get(tuple(words[at : at + length]))
            if name is not None:
                return length, name
        return 1, None


NO_ALIASES: Final = Aliases()


@dataclass(frozen=True, slots=True)
class Wording:
    """What the venue says of one market, as far as its meaning goes."""

    market_id: str
    question: str
    outcomes: tuple[str, str] = ("Yes", "No")
    label: str = ""
    event_id: str = ""
    event_title: str = ""
    end_at: datetime | None = None
    rules: str = ""
    source: str = ""
    neg_risk: bool = False  # at most one market of its event can be true
    payout: Decimal | None = None  # of outcome 0, once resolved
    opened_at: datetime | None = None  # when the venue listed it


@dataclass(frozen=True, slots=True)
class Reading:
    """What a question was read as. `words` are what is left, in order and in one spelling.

    `negated` says that it asks for something not to happen. `zone` is that of a clock
    time ("ET", "UTC"). `sides` are the names of its outcomes where they are not yes and no.
    """

    market_id: str
    words: tuple[str, ...]
    names: frozenset[str]
    whens: tuple[When, ...] = ()
    bounds: tuple[Bound, ...] = ()
    numbers: tuple[Amount, ...] = ()
    negated: bool = False
    mode: Mode = ""
    zone: str = ""
    sides: tuple[str, ...] = ()

    @property
    def deadline(self) -> When | None:
        """Return the time by which it must happen, if that is the only time it speaks of."""
        return self.whens[0] if len(self.whens) == 1 and self.whens[0].role == "by" else None

    @property
    def is_relative(self) -> bool:
        """Say whether what it is about depends on when it is asked ("the next briefing")."""
        return not self.whens and not _RELATIVE.isdisjoint(self.words)


def read(wording: Wording, *, aliases: Aliases = NO_ALIASES) -> Reading:
    """Read one market."""
    near = wording.end_at.date() if wording.end_at else None
    text = Text(full_question(wording), near=near, outcomes=wording.outcomes)
    whens, zone = take_times(text)
    bounds, numbers, mode = take_numbers(text)
    words, names, negated = _words(text.left, aliases)
    return Reading(
        market_id=wording.market_id,
        words=words,
        names=names,
        whens=settled(whens, wording.rules),
        bounds=bounds,
        numbers=numbers,
        negated=negated,
        mode=mode,
        zone=zone,
        sides=_sides(wording.outcomes, aliases),
    )


def full_question(wording: Wording) -> str:
    """Return the question; one that is missing is the event's title with its blank filled in."""
    if wording.question.strip():
        return wording.question
    title, label = wording.event_title, wording.label
    for blank in ("___", "...", "\u2026"):
        if blank in title:
            return title.replace(blank, f" {label} ", 1)
    return f"{title}: {label}" if label else title


def word_list(text: str) -> tuple[str, ...]:
    """Return the folded words of a text, numbers among them, in order."""
    return tuple(folded(each) for each in _TOKEN.findall(plain(text)))


# --- words -----------------------------------------------------------------------

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")
_SOFT_WORDS = (
    "a an and any are as at be been by can could did do does during for had has have how if in is "
    "it its of on s t than that the their there these this those to was were what when which who "
    "whom whose will with would x vs v"
)
_SOFT: Final = frozenset(_SOFT_WORDS.split())
_RELATIVE: Final = frozenset({"next", "upcom", "today", "tonight", "tomorrow"})
_NEGATIONS: Final = frozenset({"not", "never", "cannot"})
_SAME: Final = {  # verbs of the same meaning in questions, by their stem
    "attack": "strik",
    "leav": "out",
    "resign": "out",
    "occur": "happen",
}
_ENDINGS: Final = (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("es", "e"), ("s", ""))
_LEAST_STEM = 3


def _words(left: str, aliases: Aliases) -> tuple[tuple[str, ...], frozenset[str], bool]:
    written = _TOKEN.findall(left)
    kept = [token for token in written if not _negates(token)]
    plain_words = [folded(token) for token in kept]
    words: list[str] = []
    names: set[str] = set()
    for start, name in _runs(plain_words, aliases):
        if name is None and plain_words[start] in _SOFT:
            continue
        words.append(name or _stem(plain_words[start]))
        if name is not None or _is_name(kept[start], first=start == 0):
            names.add(words[-1])
    return tuple(words), frozenset(names), (len(written) - len(kept)) % 2 == 1


def _negates(token: str) -> bool:
    return token.lower() in _NEGATIONS or token.lower().endswith("n't")


def _is_name(token: str, *, first: bool) -> bool:
    """Say whether a word is written as a name; the first of a sentence is large anyway."""
    return token[0].isupper() and (not first or (token.isupper() and len(token) > 1))


def _runs(words: Sequence[str], aliases: Aliases) -> Iterator[tuple[int, str | None]]:
    """Yield where each run of words that means a name begins, with it, and each other word."""
    at = 0
    while at < len(words):
        length, name = aliases.run_at(words, at)
        yield at, name
        at += length


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    """Cut the endings that verbs and plurals take."""
    if not word.endswith(("ss", "us", "is")):
        for ending, instead in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
                word = word.removesuffix(ending) + instead
                break
    if len(word) > 4:
        word = word.removesuffix("e")
    return _SAME.get(word, word)


def _sides(outcomes: Iterable[str], aliases: Aliases) -> tuple[str, ...]:
    """Return the folded names of two outcomes, or nothing for yes and no."""
    names = tuple(_name(word_list(each), aliases) for each in outcomes)
    return () if names == ("yes", "no") else names


def _name(words: Sequence[str], aliases: Aliases) -> str:
    return " ".join(name or words[start] for start, name in _runs(words, aliases))
