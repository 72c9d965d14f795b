"""Check a strict YAML document against a pydantic model, in words with places (pure).

The words come from the model: each field's `description` says what may stand there and its
first example is what to write instead.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, TypeGuard, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rules.strict_yaml import Document, Mark, Path, Problem

_Model = TypeVar("_Model", bound=BaseModel)

_MUST_BE: Final = {
    "model_type": "a mapping of `key: value` lines",
    "is_instance_of": "a number without quotes",
    "int_type": "a whole number without quotes",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
}


def validated(document: Document, model: type[_Model]) -> tuple[_Model | None, list[Problem]]:
    """Return what the document says as a model, None if it does not fit, and all problems.

    Problems of the document itself come first and are not told twice.
    """
    try:
        return model.model_validate(document.value), list(document.problems)
    except ValidationError as error:
        news = [detail for detail in error.errors() if not _refused(document, detail["loc"])]
        return None, [*document.problems, *(_problem(document, model, d) for d in news)]


def _refused(document: Document, key: Path) -> bool:
    return any(key[:length] in document.bad for length in range(1, len(key) + 1))


def _problem(document: Document, schema: type[BaseModel], detail: ErrorDetails) -> Problem:
    key = detail["loc"]
    if detail["type"] == "missing":
        mark = document.values.get(key[:-1], Mark(1, 1))
        return document.problem(key, mark, "is missing", _add(schema, key))
    if detail["type"] == "extra_forbidden":
        mark = document.keys[key]
        return document.problem(key, mark, "is not a known key", _known(schema, key))
    mark = document.values.get(key, Mark(1, 1))
    return document.problem(key, mark, _complaint(detail), _write(schema, key))


def _complaint(detail: ErrorDetails) -> str:
    got = _shown(detail["input"])
    if expected := _MUST_BE.get(detail["type"]):
        return f"must be {expected}, got {got}"
    if detail["type"] == "string_pattern_mismatch":
        return f"{got} does not have the right form"
    if detail["msg"].startswith("Input should be"):
        return f"{detail['msg'].replace('Input should', 'must')}, got {got}"
    return detail["msg"]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, tuple):
        return "a list"
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _fields(schema: type[BaseModel], key: Path) -> Iterator[FieldInfo]:
    """Follow a key into the schema: the field of each model on the way."""
    for part in key:
        info = schema.model_fields.get(str(part))
        if info is None:
            return
        yield info
        if not _is_model(info.annotation):
            return
        schema = info.annotation


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _example(info: FieldInfo) -> str:
    return str((info.examples or [""])[0])


def _write(schema: type[BaseModel], key: Path) -> str:
    if not key:
        name, info = next(iter(schema.model_fields.items()))
        return f"start with `{name}: {_example(info)}`"
    *_, info = _fields(schema, key)
    return f"write {_example(info)} ({info.description})"


def _add(schema: type[BaseModel], key: Path) -> str:
    *_, info = _fields(schema, key)
    return f"add `{key[-1]}: {_example(info)}`"


def _known(schema: type[BaseModel], key: Path) -> str:
    names = list(_model_at(schema, key[:-1]).model_fields)
    if close := difflib.get_close_matches(str(key[-1]), names, n=1):
        return f"write {close[0]}, or remove it"
    return f"remove it; known here: {', '.join(names)}"


def _model_at(schema: type[BaseModel], key: Path) -> type[BaseModel]:
    for info in _fields(schema, key):
        if _is_model(info.annotation):
            schema = info.annotation
    return schema
