"""The committed description of the API is the one that the code gives."""

from __future__ import annotations

from io import StringIO
from typing import Any

import yaml
from django.core.management import call_command

from tests.servers import ROOT

KEPT = ROOT / "docs" / "openapi.yaml"


def described() -> str:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    return out.getvalue()


def test_committed_description_is_that_of_the_code() -> None:
    assert KEPT.read_text() == described(), (
        "write it anew: manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml"
    )


def test_every_operation_says_how_it_may_be_refused() -> None:
    described: Any = yaml.safe_load(KEPT.read_text())

    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if path == "/api/healthz":
                continue
            answers = set(operation["responses"])
            assert {"400", "401", "403", "429", "500", "503"} <= answers, (method, path)
            assert ("304" in answers) == (method == "get"), (method, path)
            assert not operation.get("requestBody") or {"413", "415"} <= answers, (method, path)
            assert "{" not in path or "404" in answers, (method, path)
