"""A broken rule never replaces a good one, whichever way it comes, and is told the same way."""

from __future__ import annotations

import io
import itertools
import json
import time
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from rules.load import RuleState, enabled_definitions, rule_of, state_of
from tests.rule_cast import CODE, ONE, TOKEN, TRAPS, published, running

pytestmark = pytest.mark.django_db

EACH = pytest.mark.parametrize(
    ("text", "line", "column", "message", "instead"), TRAPS.values(), ids=TRAPS.keys()
)


@pytest.fixture
def good() -> dict[str, Any]:
    """Return what runs before anything broken comes."""
    published(ONE)
    return running()


def run(*args: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("rules", *args, stdout=out, stderr=io.StringIO())
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


def untouched(before: dict[str, Any]) -> bool:
    state = state_of(rule_of(CODE))
    runs = [(each.number, each.problem) for each in enabled_definitions()]
    return (
        running() == before
        and runs == [(1, "")]
        and state == RuleState(state.definition, runs=True, why="")
    )


@EACH
@pytest.mark.parametrize("whole_folder", [False, True], ids=["file", "folder"])
def test_the_command_refuses_it(
    good: dict[str, Any],
    tmp_path: Path,
    whole_folder: bool,
    text: str,
    line: int,
    column: int,
    message: str,
    instead: str,
) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(text)

    code, out = run("load", str(tmp_path if whole_folder else file))
    again, rows = run("load", "--json", str(tmp_path if whole_folder else file))
    checked, seen = run("validate", "--json", str(file))

    assert code == again == checked == 1
    assert f"{file}:{line}:{column}: " in out
    assert f"{message}; {instead}" in out
    (problem,) = json.loads(rows)["problems"]
    assert json.loads(seen)["files"][0]["problems"] == [problem]
    key = problem.pop("key")
    assert f"{key}: {message}" in out or not key
    assert problem == {
        "path": str(file),
        "line": line,
        "column": column,
        "message": message,
        "instead": instead,
    }
    assert untouched(good)


@EACH
@pytest.mark.parametrize("path", ["/api/rules", "/api/v1/rules", "/api/v1/rules/validate"])
@pytest.mark.parametrize("as_json", [False, True], ids=["yaml", "json"])
def test_the_api_refuses_it(
    good: dict[str, Any],
    client: Client,
    settings: Any,
    path: str,
    as_json: bool,
    text: str,
    line: int,
    column: int,
    message: str,
    instead: str,
) -> None:
    settings.ADMIN_API_TOKEN = TOKEN
    body = json.dumps({"text": text}) if as_json else text
    media = "application/json" if as_json else "text/yaml"

    answer = client.post(path, body, content_type=media, headers={"X-API-Key": TOKEN})

    told = answer.json()
    too_long = len(text) > 65_536
    assert answer.status_code == told["status"] == (413 if too_long else 400)
    assert told["code"] == ("rule_too_long" if too_long else "rule_refused")
    (problem,) = told["problems"]
    assert (problem["path"], problem["line"], problem["column"]) == ("text", line, column)
    assert (problem["message"], problem["instead"]) == (message, instead)
    assert untouched(good)


@EACH
@pytest.mark.parametrize("button", ["_save", "_check"])
def test_the_admin_refuses_it(
    good: dict[str, Any],
    client: Client,
    button: str,
    text: str,
    line: int,
    column: int,
    message: str,
    instead: str,
) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    form = {"text": text.replace("\n", "\r\n"), "seen": 1, "enabled": "on", button: "1"}

    page = client.post(f"/admin/rules/rule/{rule_of(CODE).pk}/change/", form)

    words = unescape(page.content.decode())
    assert f"line {line}, column {column}: " in words
    assert f"{message}; {instead}" in words
    assert untouched(good)


def test_the_bomb_is_refused_at_once_and_not_blown_up(good: dict[str, Any], tmp_path: Path) -> None:
    names = "abcdefghij"
    lines = [f"{names[0]}: &{names[0]} [x]"]
    lines += [
        f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]"
        for before, after in itertools.pairwise(names)
    ]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines))  # a billion items, were it read as YAML

    begun = time.process_time()
    code, out = run("load", str(file))

    assert code == 1
    assert f"{file}:1:4: a: anchor &a is not allowed; remove the anchor" in out
    assert time.process_time() - begun < 2
    assert untouched(good)


def test_bytes_that_are_no_text_are_told_with_their_place(
    good: dict[str, Any], client: Client, settings: Any
) -> None:
    settings.ADMIN_API_TOKEN = TOKEN
    body = ONE.encode() + b"description: caf\xe9\n"

    answer = client.post("/api/rules", body, content_type="text/yaml", headers={"X-API-Key": TOKEN})

    (problem,) = answer.json()["problems"]
    assert (answer.status_code, problem["line"], problem["column"]) == (400, 4, 17)
    assert problem["instead"] == "save the file as UTF-8"
    assert untouched(good)


def test_json_that_is_too_large_to_be_read_is_told_like_a_long_text(
    good: dict[str, Any], client: Client, settings: Any
) -> None:
    settings.ADMIN_API_TOKEN = TOKEN
    body = json.dumps({"text": "x" * 700_000})

    answer = client.post(
        "/api/rules", body, content_type="application/json", headers={"X-API-Key": TOKEN}
    )

    (problem,) = answer.json()["problems"]
    assert (answer.status_code, problem["line"], problem["column"]) == (413, 1, 1)
    assert untouched(good)
