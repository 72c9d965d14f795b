"""Where two texts differ, word by word, for a person to read (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

MOST_WORDS: Final = 6_000  # of both together: more take seconds to compare

_PIECE = re.compile(r"\s+|[^\s\w]|\w+")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a text. `only` says that the other text does not have it."""

    text: str
    only: bool = False


def marked(a: str, b: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return both texts in parts; joined they are the texts again."""
    pieces_a, pieces_b = _PIECE.findall(a), _PIECE.findall(b)
    if len(pieces_a) + len(pieces_b) > 2 * MOST_WORDS:
        return (Part(a, a != b),), (Part(b, a != b),)
    blocks = SequenceMatcher(None, pieces_a, pieces_b, autojunk=False).get_opcodes()
    return (
        _joined(_parts(pieces_a, [(tag, start, end) for tag, start, end, _, _ in blocks])),
        _joined(_parts(pieces_b, [(tag, start, end) for tag, _, _, start, end in blocks])),
    )


def _parts(pieces: Sequence[str], blocks: Sequence[tuple[str, int, int]]) -> Iterator[Part]:
    for tag, start, end in blocks:
        text = "".join(pieces[start:end])
        if text:
            yield Part(text, tag != "equal")


def _joined(parts: Iterator[Part]) -> tuple[Part, ...]:
    """Let spaces between two marked words be marked with them, and join what is alike."""
    found: list[Part] = []
    for part in parts:
        blank = part.text.isspace()
        if found and (part.only is found[-1].only or (blank and found[-1].only)):
            found[-1] = Part(found[-1].text + part.text, found[-1].only)
        else:
            found.append(part)
    return tuple(found)
