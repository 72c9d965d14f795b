"""`manage.py invariants`: one command says whether everything holds that must."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from alerts.models import AuditEntry
from execution.invariants import NAMES
from execution.models import OrderIntent
from tests import forger
from tests.desk_cast import approved, approver, basket, prepare, show, trader

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def intent() -> OrderIntent:
    prepare()
    view, signal = basket()
    show(view)
    return approved(signal, trader("dana"), approver("avi"))


def asked(*words: str) -> tuple[int, str]:
    """Return the exit code and what was printed."""
    out = StringIO()
    try:
        call_command("invariants", *words, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def told() -> dict[str, Any]:
    return dict(json.loads(asked("--json")[1]))


def rules_broken() -> set[str]:
    return {each["rule"] for each in told()["broken"] if each["rule"] != "expiry"}


def test_desk_that_holds_says_so() -> None:
    OrderIntent.objects.update(fill_by="2999-01-01T00:00Z")  # the cast lives in another year

    code, printed = asked()

    assert (code, printed.strip()) == (0, f"{', '.join(NAMES)}: all hold")
    assert told()["ok"] is True


def test_what_was_bent_is_named_with_exit_code_1(intent: OrderIntent) -> None:
    OrderIntent.objects.update(notional=1, plan_hash="0" * 64)

    code, printed = asked()

    assert code == 1
    assert f"BROKEN plan_hash of intent:{intent.pk}" in printed
    assert rules_broken() == {"plan_hash"}


def test_cut_off_end_of_the_chain_is_named() -> None:
    forger.remove(AuditEntry.objects.latest("id").pk)

    assert "audit_chain" in rules_broken()
