"""How every API view reads a body of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any, ClassVar

from rest_framework import exceptions
from rest_framework.parsers import JSONParser


class TooLarge(exceptions.APIException):
    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class JsonParser(JSONParser):
    """REST framework's, bounded: it reads without end, and fails on what is nested without end."""

    most_bytes: ClassVar[int] = 64 * 1024

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the body says. Raises `ParseError` and `TooLarge`."""
        raw = stream.read(self.most_bytes + 1)
        if len(raw) > self.most_bytes:
            raise TooLarge(f"A body has at most {self.most_bytes:,} bytes here.")
        try:
            return super().parse(BytesIO(raw), media_type, parser_context)
        except RecursionError as error:
            raise exceptions.ParseError(f"JSON parse error - {error}") from error
