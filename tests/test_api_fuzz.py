"""schemathesis against a live server: no 5xx that is not foreseen, no undocumented status.

`MPX_FUZZ_SECONDS` (15 unless set) is how long it goes on, `MPX_FUZZ_EXAMPLES` (8) how many
requests it makes up for an operation before the next one's turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.servers.basehttp import WSGIRequestHandler
from django.test import Client

from mpx_site import api_answers, api_token_book
from mpx_site.models import Scope
from tests.desk_cast import NOW, basket, prepare, show, suggested, trader

PROGRAM = Path(sys.executable).with_name("schemathesis")
EXAMPLES = int(os.environ.get("MPX_FUZZ_EXAMPLES", "8"))
SECONDS = int(os.environ.get("MPX_FUZZ_SECONDS", "15"))
CSRF = "c" * 32
# 503 is an answer of the desk: the kill switch is on, books are late. Any other is a fault,
# and what was not foreseen is caught inside as well.
CONFIG = """
seed = 7
max-time = {seconds}
workers = 1
warnings = false
[headers]
Authorization = "Bearer {token}"
Cookie = "sessionid={session}; csrftoken={csrf}"
X-CSRFToken = "{csrf}"
[generation]
max-examples = {examples}
with-security-parameters = false
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
negative_data_rejection.enabled = false
positive_data_acceptance.enabled = false
ignored_auth.enabled = false
[dictionaries]
signals = {{ values = ["{signal}"] }}
intents = {{ values = [{intents}] }}
rules = {{ values = ["DUTCH_BOOK_DETECT"] }}
markets = {{ values = ["700", "701"] }}
[parameters]
"path.key" = {{ dictionary = "signals", probability = 0.7 }}
"path.intent_id" = {{ dictionary = "intents", probability = 0.7 }}
"path.code" = {{ dictionary = "rules", probability = 0.7 }}
"path.market_id" = {{ dictionary = "markets", probability = 0.7 }}
"""


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every exception that a view did not foresee, the database's own included."""
    seen: list[str] = []
    worded = api_answers._unexpected

    def note(error: Exception, request: Any) -> Any:
        seen.append(f"{request.method} {request.get_full_path()}: {error!r}")
        return worded(error, request)

    monkeypatch.setattr(api_answers, "_unexpected", note)
    return seen


@pytest.mark.timeout(SECONDS + 90)
def test_no_request_that_can_be_made_up_breaks_the_api(
    live_server: Any, tmp_path: Path, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare()
    # Headers and body go in two writes, and the second would wait 40 ms for the caller.
    monkeypatch.setattr(WSGIRequestHandler, "disable_nagle_algorithm", True)
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    view, signal = basket()
    show(view)
    first = suggested(signal, trader())
    client, program = Client(), User.objects.create_superuser("program")
    client.force_login(User.objects.create_superuser("person"))  # who finds and revokes tokens
    _, token = api_token_book.make(program, name="fuzz", scopes=Scope.values, days=1, at=NOW)
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        CONFIG.format(
            seconds=SECONDS,
            examples=EXAMPLES,
            token=token,
            session=client.cookies["sessionid"].value,
            csrf=CSRF,
            signal=signal.key,
            intents=first.pk,
        )
    )

    run = subprocess.run(
        [
            *(str(PROGRAM), "--no-color", "--config-file", str(config)),
            *("run", f"{live_server.url}/api/schema/"),
            *("--report", "json", "--report-json-path", str(tmp_path / "report.json")),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    told = run.stdout + run.stderr
    assert run.returncode == 0, told
    assert faults == []
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["operations"]["tested"] == report["operations"]["total"], told
    assert report["test_cases"]["generated"] > 2 * report["operations"]["total"], told
