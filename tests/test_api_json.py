"""Bodies that no API of the desk can read: refused, not a fault of ours."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.desk_cast import prepare, trader

pytestmark = pytest.mark.django_db


@pytest.fixture
def program(client: Client) -> Client:
    prepare()
    client.force_login(trader())
    return client


@pytest.mark.parametrize("path", ["v1/intents/preview", "v1/risk/kill-switch", "execution/intent"])
@pytest.mark.parametrize(
    "body",
    ["{", "[" * 20_000, '{"capital": ' + "1" * 5_000 + "}"],
    ids=["cut off", "without end", "longest number"],
)
def test_what_cannot_be_read_as_json_is_refused(program: Client, path: str, body: str) -> None:
    answer = program.post(f"/api/{path}", body, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (400, "parse_error")
