"""The audit page: what happened, to whom it may be shown, and whether the chain holds."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from alerts import journal
from alerts.models import AuditEntry
from mpx_site.portal import audit_views
from tests import forger
from tests import portal_cast as cast
from tests.desk_cast import person
from tests.portal_cast import START

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
QUERIES = 13
HOSTILE = "</bdi><script>alert(1)</script>\u202e"


def happen(kind: str, subject: str, *, after: int = 0, actor: str = "system", **data: Any) -> int:
    at = START + timedelta(minutes=after)
    with transaction.atomic():
        return journal.record(kind=kind, subject=subject, actor=actor, data=data, at=at).pk


@pytest.fixture
def analyst(client: Client) -> Client:
    client.force_login(person("ana", "analyst"))
    audit_views.memory.last = None
    return client


@pytest.fixture
def chain() -> dict[str, int]:
    """Five entries, one every ten minutes."""
    return {
        "opened": happen("signal.opened", "signal:" + "a" * 32),
        "enabled": happen("rule.enabled", "rule:DUTCH", after=10, actor="otto"),
        "published": happen(
            "rule.published", "rule:DUTCH", after=20, actor="ana", number=3, before=2
        ),
        "limits": happen(
            "policy.changed", "policy", after=30, actor="otto",
            before={"order_notional": "200"}, after_={}, reason="calmer",
        ),
        "tripped": happen("killswitch.tripped", "killswitch", after=40, actor="ana"),
    }  # fmt: skip


def words(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def entries(page: Client, query: str = "") -> list[int]:
    body = page.get(f"/audit/?{query}").content.decode()
    return [int(number) for number in re.findall(r'id="entry-(\d+)"', body)]


def test_viewers_are_told_that_the_chain_is_not_theirs(client: Client) -> None:
    client.force_login(person("vera", "viewer"))

    for answer in (client.get("/audit/"), client.post("/audit/verify/")):
        assert answer.status_code == 403
        assert "analyst, trader, approver or admin" in words(answer)
    assert client.get("/audit/?format=csv").status_code == 403


def test_an_empty_chain_says_what_would_fill_it(analyst: Client) -> None:
    forger.remove_all()
    assert "Nothing happened here yet." in words(analyst.get("/audit/"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["tripped", "limits", "published", "enabled", "opened"]),
        ("about=rule", ["published", "enabled"]),
        ("about=policy", ["limits"]),
        ("kind=rule.", ["published", "enabled"]),
        ("kind=rule", ["published", "enabled"]),
        ("kind=rule.enabled", ["enabled"]),
        ("kind=rule.enab", []),
        ("actor=ana", ["tripped", "published"]),
        ("subject=rule:D", ["published", "enabled"]),
        ("subject=RULE:D", []),
        ("since=2026-05-01T12:20", ["tripped", "limits", "published"]),
        ("since=2026-05-01T12:20&until=2026-05-01T12:30", ["limits", "published"]),
        ("about=rule&actor=otto", ["enabled"]),
        ("actor=nobody", []),
    ],
)
def test_filters(analyst: Client, chain: dict[str, int], query: str, found: list[str]) -> None:
    assert entries(analyst, query) == [chain[name] for name in found]


def test_a_filter_that_cannot_be_read_is_left_out_and_said(
    analyst: Client, chain: dict[str, int]
) -> None:
    answer = analyst.get("/audit/?since=yesterday&about=rule&kind=%27--")

    assert "The filter “since” cannot be read" in words(answer)
    assert "The filter “kind” cannot be read" in words(answer)
    assert entries(analyst, "since=yesterday&about=rule") == [chain["published"], chain["enabled"]]


def test_pages_follow_each_other_while_entries_are_added(analyst: Client) -> None:
    numbers = [happen("rule.enabled", "rule:X") for _ in range(25)]

    first = entries(analyst, "size=10&about=rule")
    happen("rule.enabled", "rule:X")
    second = entries(analyst, f"size=10&about=rule&before={first[-1]}")

    assert first + second == numbers[:4:-1]
    body = analyst.get(f"/audit/?size=10&about=rule&before={numbers[10]}").content.decode()
    assert "« Newest" in body and "Older" not in body


def test_before_and_after_are_told_in_words(analyst: Client) -> None:
    happen("policy.changed", "policy", before={"daily": "500"}, after_={"x": 1})
    entry = AuditEntry.objects.get(pk=happen("rule.published", "rule:X", number=4, before=3))
    limits = AuditEntry(
        pk=9, kind="policy.changed", subject="policy", actor="ana",
        data={"before": {"daily_notional": "500"}, "after": {"daily_notional": None}},
    )  # fmt: skip

    (version,) = audit_views.line_of(entry).changes
    (limit,) = audit_views.line_of(limits).changes

    assert (version.name, version.before, version.after) == ("version", "3", "4")
    assert (limit.name, limit.before, limit.after) == ("daily notional", "500", "none")


def test_hostile_text_is_text(analyst: Client) -> None:
    happen(HOSTILE[:60], HOSTILE, actor=HOSTILE, reason=HOSTILE, data_=[HOSTILE] * 3)

    body = analyst.get("/audit/").content.decode()

    assert "<script>alert" not in body
    assert HOSTILE in html.unescape(body)


def test_the_export_is_what_is_filtered(analyst: Client, chain: dict[str, int]) -> None:
    answer: Any = analyst.get("/audit/?about=rule&format=json")

    rows = json.loads(b"".join(answer.streaming_content))["rows"]
    assert [row["id"] for row in rows] == [chain["published"], chain["enabled"]]
    assert rows[0]["data"] == {"number": 3, "before": 2}


# --- does it hold --------------------------------------------------------------------


def verify(page: Client) -> str:
    return words(page.post("/audit/verify/", follow=True))


def test_a_sound_chain_holds_and_the_answer_is_kept(analyst: Client, chain: dict[str, int]) -> None:
    assert "not verified since this process started" in words(analyst.get("/audit/"))

    assert "The audit chain holds: all 5 links." in verify(analyst)
    assert "● holds all 5 links, read" in words(analyst.get("/audit/"))


def test_a_changed_entry_is_found(analyst: Client, chain: dict[str, int]) -> None:
    forger.change(chain["limits"], actor="nobody")

    assert "The audit chain is BROKEN: audit entry 4: was changed" in verify(analyst)
    assert "■ BROKEN" in words(analyst.get("/audit/"))


def test_a_cut_end_is_found(analyst: Client, chain: dict[str, int]) -> None:
    forger.remove(chain["tripped"])
    assert "audit entry 5: is missing at the end" in verify(analyst)


def test_of_a_very_long_chain_the_end_is_read(
    analyst: Client, chain: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_views, "WHOLE", 4)
    assert "The audit chain holds: the last 5 links hold." in verify(analyst)

    forger.change(chain["limits"], actor="nobody")
    assert "BROKEN" in verify(analyst)


def test_the_page_asks_as_much_however_long_the_chain(
    analyst: Client, chain: dict[str, int], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(QUERIES):
        analyst.get("/audit/?since=2026-05-01T12:00")
    for _ in range(15):
        happen("rule.enabled", "rule:X", after=50)

    with django_assert_num_queries(QUERIES):
        analyst.get("/audit/?since=2026-05-01T12:00")


def test_a_superuser_sees_it(client: Client) -> None:
    client.force_login(cast.operator())
    assert client.get("/audit/").status_code == 200
