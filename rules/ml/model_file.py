"""A model as a text file: one line of JSON, then LightGBM's own text (pure).

Never a pickle. What is read is held to its sha256 before anything looks into it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from rules.ml.features import FEATURES_SHA, NAMES, Vector

if TYPE_CHECKING:
    from rules.ml.training import Learnt
    from rules.ml.trees import Trees

FORMAT: Final = 1
MOST_BYTES: Final = 8 * 1024 * 1024
MOST_TREES: Final = 1_000


class BadModel(Exception):
    """A model that cannot serve; the text says why, in words for the page."""


@dataclass(frozen=True, slots=True)
class Chance:
    """What a model says of one finding: from 0 to 1, and USD."""

    p_fill: float
    expected_usd: float


class Served:
    """A model that was read and may be asked."""

    def __init__(self, trees: Trees, learnt: Learnt) -> None:
        self._trees = trees
        self._learnt = learnt

    def chances(self, vectors: Sequence[Vector]) -> list[float]:
        """Return the chance of a fill for each vector; raise `BadModel` if one is no chance."""
        if any(len(vector) != len(NAMES) for vector in vectors):
            raise BadModel("it was asked about other features than it was trained on")
        found = [self._learnt.calibration.of(score) for score in self._trees.scores(vectors)]
        if not all(math.isfinite(each) and 0 <= each <= 1 for each in found):
            raise BadModel("it gave a number that is no chance")
        return found

    def expected(self, chance: float, *, rule: str, profit: float, cost: float) -> Chance:
        """Weigh a profit by its chance and a failure by what unwinding costs on average.

        Never more than the profit itself: no loss is below 0, no chance above 1.
        """
        loss = self._learnt.losses.expected(rule, cost)
        return Chance(chance, min(chance * profit - (1 - chance) * loss, profit))


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def written(trees: Trees, learnt: Learnt) -> bytes:
    """Return the bytes of a model's file."""
    head = {
        "mpx_model": FORMAT,
        "features_sha256": FEATURES_SHA,
        "features": NAMES,
        "learnt": learnt,
    }
    return msgspec.json.encode(head) + b"\n" + trees.text.encode()


def hold(body: bytes, *, sha: str) -> None:
    """Raise `BadModel` for bytes that are not what was registered."""
    if sha256(body) != sha:
        raise BadModel("its file was changed since it was registered")
    if len(body) > MOST_BYTES:
        raise BadModel(f"its file is larger than {MOST_BYTES:,} bytes")


def read(body: bytes, *, sha: str) -> Served:
    """Read a model; raise `BadModel` for one that is not what was registered, or does not fit."""
    hold(body, sha=sha)
    head, _, text = body.partition(b"\n")
    learnt = _head(head)
    from rules.ml.trees import Trees  # LightGBM is large, and most processes never need it

    try:
        trees = Trees.read(text.decode())
    except ValueError as error:
        raise BadModel("its trees cannot be read") from error
    if trees.names != NAMES or trees.size > MOST_TREES:
        raise BadModel("its trees do not fit the features of this release")
    return Served(trees, learnt)


class _Head(msgspec.Struct, frozen=True):
    mpx_model: int
    features_sha256: str
    learnt: msgspec.Raw


def _head(line: bytes) -> Learnt:
    from rules.ml.training import Learnt  # loads LightGBM

    try:
        head = msgspec.json.decode(line, type=_Head)
        if head.mpx_model != FORMAT:
            raise BadModel(f"it is of format {head.mpx_model}, and this release reads {FORMAT}")
        if head.features_sha256 != FEATURES_SHA:
            raise BadModel("it was trained on other features than this release computes")
        return msgspec.json.decode(head.learnt, type=Learnt)
    except msgspec.MsgspecError as error:
        raise BadModel("its first line cannot be read") from error
