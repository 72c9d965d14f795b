"""A short text as a QR code (ISO/IEC 18004, byte mode, error correction M; pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

# By version, from 1: all codewords, codewords of correction in each block, blocks.
SIZES: Final = (
    (26, 10, 1), (44, 16, 1), (70, 26, 1), (100, 18, 2), (134, 24, 2),
    (172, 16, 4), (196, 18, 4), (242, 22, 4), (292, 22, 5), (346, 26, 5),
)  # fmt: skip
ALIGNED: Final = (
    (), (6, 18), (6, 22), (6, 26), (6, 30), (6, 34), (6, 22, 38), (6, 24, 42), (6, 26, 46),
    (6, 28, 50),
)  # fmt: skip
MASKS: Final[tuple[Callable[[int, int], bool], ...]] = (
    lambda y, x: (y + x) % 2 == 0,
    lambda y, x: y % 2 == 0,
    lambda y, x: x % 3 == 0,
    lambda y, x: (y + x) % 3 == 0,
    lambda y, x: (y // 2 + x // 3) % 2 == 0,
    lambda y, x: y * x % 2 + y * x % 3 == 0,
    lambda y, x: (y * x % 2 + y * x % 3) % 2 == 0,
    lambda y, x: ((y + x) % 2 + y * x % 3) % 2 == 0,
)
QUIET: Final = 4  # modules of white around it

Grid = list[list[bool]]


class TooLong(ValueError):
    """The text has more bytes than version 10 holds."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`path` draws the dark modules, one unit each, in a square of `side` units."""

    side: int
    path: str


def picture(text: str) -> Picture:
    grid = modules(text)
    rows = (
        f"M{x + QUIET} {y + QUIET}h1v1h-1z"
        for y, row in enumerate(grid)
        for x, dark in enumerate(row)
        if dark
    )
    return Picture(len(grid) + 2 * QUIET, "".join(rows))


def modules(text: str, *, mask: int | None = None) -> Grid:
    """Return the rows of modules, True is dark; without `mask` the calmest one is taken."""
    data = text.encode()
    version = _version_for(len(data))
    words = _interleaved(_words(data, version), version)
    bits = [bool(word >> shift & 1) for word in words for shift in range(7, -1, -1)]
    drawn = [_drawn(version, bits, number) for number in (range(8) if mask is None else (mask,))]
    return min(drawn, key=_unrest)


def _version_for(length: int) -> int:
    for version in range(1, len(SIZES) + 1):
        if 4 + _count_bits(version) + 8 * length <= 8 * _capacity(version):
            return version
    raise TooLong(f"{length} bytes")


def _capacity(version: int) -> int:
    total, correction, blocks = SIZES[version - 1]
    return total - correction * blocks


def _count_bits(version: int) -> int:
    return 8 if version < 10 else 16


def _words(data: bytes, version: int) -> bytes:
    """Return mode, length and data, filled up to the version's capacity."""
    size = _count_bits(version)
    room = _capacity(version)
    number = (0b0100 << size | len(data)) << 8 * len(data) | int.from_bytes(data, "big")
    used = 4 + size + 8 * len(data)
    end = min(4, 8 * room - used)
    pad = -(used + end) % 8
    packed = (number << end + pad).to_bytes((used + end + pad) // 8, "big")
    return packed + bytes((0xEC, 0x11)[at % 2] for at in range(room - len(packed)))


def _interleaved(words: bytes, version: int) -> list[int]:
    _, correction, blocks = SIZES[version - 1]
    short, longer = divmod(len(words), blocks)
    parts, at = [], 0
    for number in range(blocks):
        size = short + (number >= blocks - longer)
        parts.append(words[at : at + size])
        at += size
    checks = [_correction(part, correction) for part in parts]
    told = [part[at] for at in range(short + 1) for part in parts if at < len(part)]
    return told + [check[at] for at in range(correction) for check in checks]


# --- Reed-Solomon over GF(256), polynomial 0x11D -----------------------------------------------

_EXP: Final[list[int]] = []
_LOG: Final = [0] * 256
_value = 1
for _power in range(255):
    _EXP.append(_value)
    _LOG[_value] = _power
    _value = _value << 1 ^ (0x11D if _value & 0x80 else 0)


def _times(a: int, b: int) -> int:
    return _EXP[(_LOG[a] + _LOG[b]) % 255] if a and b else 0


def _correction(words: Sequence[int], size: int) -> list[int]:
    divisor = [1]
    for power in range(size):
        grown = [*divisor, 0]
        for at, factor in enumerate(divisor):
            grown[at + 1] ^= _times(factor, _EXP[power])
        divisor = grown
    rest = [*words, *[0] * size]
    for at in range(len(words)):
        lead = rest[at]
        for step, factor in enumerate(divisor):
            rest[at + step] ^= _times(factor, lead)
    return rest[len(words) :]


# --- the square --------------------------------------------------------------------------------


def _drawn(version: int, bits: Sequence[bool], mask: int) -> Grid:
    side = 17 + 4 * version
    grid = [[False] * side for _ in range(side)]
    fixed = [[False] * side for _ in range(side)]
    for y, x, dark in _patterns(version, side, mask):
        grid[y][x], fixed[y][x] = dark, True
    stream = iter(bits)
    for y, x in _zigzag(side):
        if not fixed[y][x]:
            grid[y][x] = next(stream, False) ^ MASKS[mask](y, x)
    return grid


def _patterns(version: int, side: int, mask: int) -> Iterator[tuple[int, int, bool]]:
    """Yield what does not depend on the data: later ones stand over earlier ones."""
    for at in range(side):
        yield 6, at, at % 2 == 0
        yield at, 6, at % 2 == 0
    spots = ALIGNED[version - 1]
    last = side - 7
    for cy in spots:
        for cx in spots:
            if (cy, cx) not in ((6, 6), (6, last), (last, 6)):
                yield from _rings(cy, cx, 2, side)
    for cy, cx in ((3, 3), (3, side - 4), (side - 4, 3)):
        yield from _rings(cy, cx, 4, side)
    yield from _format(side, mask)
    if version >= 7:
        yield from _version(side, version)


def _rings(cy: int, cx: int, reach: int, side: int) -> Iterator[tuple[int, int, bool]]:
    """Yield an alignment (reach 2) or a finder with its white border (reach 4)."""
    for y in range(max(cy - reach, 0), min(cy + reach, side - 1) + 1):
        for x in range(max(cx - reach, 0), min(cx + reach, side - 1) + 1):
            ring = max(abs(y - cy), abs(x - cx))
            yield y, x, ring in ((0, 2) if reach == 2 else (0, 1, 3))


def _format(side: int, mask: int) -> Iterator[tuple[int, int, bool]]:
    rest = mask  # level M is 00
    for _ in range(10):
        rest = rest << 1 ^ (0x537 if rest & 0x200 else 0)
    told = (mask << 10 | rest) ^ 0x5412
    for at in range(15):
        dark = bool(told >> at & 1)
        # Once round the corner above left, skipping the timing lines; once along both others.
        yield (at if at < 6 else at + 1 if at < 8 else side - 15 + at), 8, dark
        yield 8, (side - 1 - at if at < 8 else 7 if at == 8 else 14 - at), dark
    yield side - 8, 8, True


def _version(side: int, version: int) -> Iterator[tuple[int, int, bool]]:
    rest = version
    for _ in range(12):
        rest = rest << 1 ^ (0x1F25 if rest & 0x800 else 0)
    told = version << 12 | rest
    for at in range(18):
        dark = bool(told >> at & 1)
        yield side - 11 + at % 3, at // 3, dark
        yield at // 3, side - 11 + at % 3, dark


def _zigzag(side: int) -> Iterator[tuple[int, int]]:
    """Yield all places in the order of the data: pairs of columns from the right, up and down."""
    rights = [*range(side - 1, 6, -2), 5, 3, 1]  # column 6 has the timing line
    for number, right in enumerate(rights):
        rows = range(side) if number % 2 else range(side - 1, -1, -1)
        for y in rows:
            yield y, right
            yield y, right - 1


def _unrest(grid: Grid) -> int:
    """Rate how hard it is to read: long runs, squares of one colour, more of one colour."""
    lines = [*grid, *map(list, zip(*grid, strict=True))]
    runs = [len(list(run)) for line in lines for _, run in groupby(line)]
    long_runs = sum(length - 2 for length in runs if length >= 5)
    squares = sum(
        3
        for above, below in pairwise(grid)
        for at in range(len(above) - 1)
        if above[at] == above[at + 1] == below[at] == below[at + 1]
    )
    share = sum(map(sum, grid)) / len(grid) ** 2
    return long_runs + squares + 10 * int(abs(share - 0.5) * 20)
