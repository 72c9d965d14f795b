"""A pipeline written down as it is, so that a replay can begin where a long session was.

What a span begins with (`markets.past.state`) is enough to find the same mispricings again,
but not the same signals to the byte: a rule may look back for an hour, an episode may be
open for days. Files are signed with the desk's own key, since reading one runs what it says.
"""

from __future__ import annotations

import copyreg
import hashlib
import hmac
import io
import pickle
import zlib
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

from django.conf import settings

from markets.problems import Problems
from signals.episodes import Digest
from signals.pipeline import Pipeline

MAC_BYTES = 32
ROOT = Path(__file__).resolve().parent.parent
# What decides which signals frames lead to.
DECIDES = ("markets", "rules", "signals")
BESIDE = ("migrations", "management", "tests", "__pycache__", "static", "past", "simulator")


class NotUsable(Exception):
    """A checkpoint that was not written by this desk, or by other code."""


def packed(pipeline: Pipeline) -> bytes:
    """Return a pipeline as bytes, without its digest and problems; the caller's thread waits.

    Raises `RecursionError` or `pickle.PicklingError` for one that cannot be written.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    pickler.dispatch_table = copyreg.dispatch_table | {
        Digest: lambda _: (Digest, ()),
        Problems: lambda _: (Problems, ()),
        MethodType: lambda _: (_nobody, ()),  # somebody who listens beside the pipeline
    }
    pickler.dump(pipeline)
    return file.getvalue()


def _nobody() -> None:
    return None


def write(path: Path, state: bytes) -> None:
    packed_state = zlib.compress(state, 1)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(_mac(packed_state) + packed_state)
    temporary.replace(path)


def read(path: Path) -> Pipeline:
    """Return the pipeline of a file; raise `NotUsable` for any other file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotUsable(str(error)) from None
    mac, packed_state = content[:MAC_BYTES], content[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(packed_state)):
        raise NotUsable(f"{path.name}: it is cut, or was written with another SECRET_KEY")
    try:
        # Signed above with the desk's own key: nobody else wrote it.
        pipeline: Any = pickle.loads(zlib.decompress(packed_state))  # noqa: S301  # nosec B301
    except Exception as error:  # noqa: BLE001 - whatever other code made of its classes
        raise NotUsable(f"{path.name}: {error}") from None
    if not isinstance(pipeline, Pipeline):
        raise NotUsable(f"{path.name}: there is no pipeline in it")
    return pipeline


def _mac(content: bytes) -> bytes:
    return hmac.digest(settings.SECRET_KEY.encode(), content, "sha256")


@cache
def code() -> str:
    """Return a fingerprint of the code that decides which signals frames lead to."""
    told = hashlib.sha256()
    for room in DECIDES:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not set(BESIDE) & set(path.relative_to(ROOT).parts):
                told.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return told.hexdigest()[:16]
