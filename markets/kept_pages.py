"""Pages of the venue that were kept in files, as `sync.files` takes them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

LINES_A_PAGE = 200


def pages_of(paths: Iterable[Path]) -> Iterator[object]:
    """Yield what the files hold: JSON pages, or lists of objects from lines of JSON or CSV.

    Names may end in `.gz`. Raises OSError, and ValueError for a whole file that
    is no JSON; a line that is none becomes a text among the objects.
    """
    for path in paths:
        name = path.name.removesuffix(".gz")
        with _opened(path) as file:
            if name.endswith(".jsonl"):
                yield from _grouped(map(_object, file))
            elif name.endswith(".csv"):
                yield from _grouped(map(_filled, csv.DictReader(file)))
            else:
                yield json.load(file)


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _grouped(objects: Iterator[object]) -> Iterator[list[object]]:
    while page := list(islice(objects, LINES_A_PAGE)):
        yield page


def _object(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return line


def _filled(row: dict[str, str]) -> dict[str, str]:
    """Leave out empty cells: they are fields the object did not have."""
    return {name: value for name, value in row.items() if value != ""}
