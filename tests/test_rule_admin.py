"""Rules in the admin: check before saving, switch, roll back, and who may."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from alerts.models import AuditEntry
from rules import admin as rules_admin
from rules.load import enabled_definitions, rule_of
from rules.models import Rule, RuleVersion
from tests.rule_cast import CODE, NOON, ONE, TWO, a_rule, account, published, running

pytestmark = pytest.mark.django_db

LIST = "/admin/rules/rule/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.fixture
def analyst(client: Client) -> Client:
    client.force_login(account("analyst", "enable_rule", "view_rule", staff=True))
    return client


@pytest.fixture
def author(client: Client) -> Client:
    client.force_login(account("author", "change_rule", "add_rule", "view_rule", staff=True))
    return client


def change_url(rule: Rule) -> str:
    return reverse("admin:rules_rule_change", args=[rule.pk])


def back_url(rule: Rule, number: int) -> str:
    return reverse("admin:rules_rule_back", args=[rule.pk, number])


def words_of(response: HttpResponse) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


# --- checking before saving ----------------------------------------------------------------


def test_checking_shows_what_saving_would_change_and_publishes_nothing(author: Client) -> None:
    rule = published(ONE).rule
    before = running()

    page = author.post(change_url(rule), {"text": TWO, "seen": 1, "_check": "1"})

    text = page.content.decode()
    assert "The text is good." in text
    assert '<span data-change="-">-  min_profit_usd: 0.5\n</span>' in text
    assert '<span data-change="+">+  min_profit_usd: 2\n</span>' in text
    assert "params: {min_profit_usd: 2}" in text  # what was typed is still there
    assert running() == before
    author.post(change_url(rule), {"text": TWO, "seen": 1})
    assert rule_of(CODE).versions.count() == 2


def test_checking_says_when_saving_would_add_nothing(author: Client) -> None:
    rule = published(ONE).rule

    page = author.post(change_url(rule), {"text": f"# note\n{ONE}", "seen": 1, "_check": "1"})

    assert "means what v1 means: saving adds no version" in words_of(page)


def test_a_new_text_can_be_checked_before_there_is_a_rule(author: Client) -> None:
    page = author.post(f"{LIST}add/", {"text": ONE, "_check": "1"})

    assert f"Saving publishes {CODE} v1:" in words_of(page)
    assert not Rule.objects.exists()


def test_a_problem_comes_with_its_line_and_a_mark_under_its_place(author: Client) -> None:
    rule = published(ONE).rule
    broken = f"{ONE}params:\n  min_profit_usd: 1e-3  # a tenth of a cent\n"

    page = author.post(change_url(rule), {"text": broken, "seen": 1, "_check": "1"})

    text = page.content.decode()
    assert 'data-line="5" data-column="19"' in text
    assert "line 5, column 19: params.min_profit_usd: 1e-3 is not how numbers are" in text
    assert f"  min_profit_usd: 1e-3  # a tenth of a cent\n{' ' * 18}^" in text
    assert "The text is good" not in text


def test_a_change_that_loses_the_race_is_refused(
    author: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version is published between the form's check and the publication."""
    rule = published(ONE).rule
    genuine = rules_admin.publish_text

    def late(text: str, **given: Any) -> Any:
        published(f"{ONE}enabled: false\n")
        return genuine(text, **given)

    monkeypatch.setattr(rules_admin, "publish_text", late)

    page = author.post(change_url(rule), {"text": TWO, "seen": 1}, follow=True)

    assert f"{CODE} v2 became current while you were at it." in words_of(page)
    assert not RuleVersion.objects.filter(source=TWO).exists()


def test_a_hostile_text_is_shown_as_text(author: Client) -> None:
    rule = published(ONE).rule
    hostile = f"{ONE}</textarea><script>alert(1)</script>: &a x\n"

    page = author.post(change_url(rule), {"text": hostile, "seen": 1}).content.decode()

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


# --- switching -----------------------------------------------------------------------------


def test_an_analyst_switches_one_rule_or_several(analyst: Client) -> None:
    rule = published(ONE).rule
    published(ONE.replace(CODE, "OTHER"))
    switch_url = reverse("admin:rules_rule_switch", args=[rule.pk])

    page = analyst.post(switch_url, {"on": "0"}, follow=True)
    assert f"Switched off: {CODE}." in words_of(page)
    both = {"action": "switch_off", "_selected_action": [r.pk for r in Rule.objects.all()]}
    page = analyst.post(LIST, both, follow=True)

    assert "Switched off: OTHER." in words_of(page)
    assert f"Off already: {CODE}." in words_of(page)
    assert enabled_definitions() == []
    assert set(AuditEntry.objects.filter(kind="rule.disabled").values_list("actor")) == {
        ("analyst",)
    }


def test_without_the_right_to_switch_there_is_no_button_and_no_way(author: Client) -> None:
    rule = a_rule()
    before = running()
    switch_url = reverse("admin:rules_rule_switch", args=[rule.pk])

    page = author.get(change_url(rule)).content.decode()

    assert switch_url not in page
    assert back_url(rule, 1) not in page
    assert "switch_off" not in author.get(LIST).content.decode()
    assert author.post(switch_url, {"on": "0"}).status_code == 403
    assert author.get(back_url(rule, 1)).status_code == 403
    assert author.post(back_url(rule, 1), {"seen": "2"}).status_code == 403
    author.post(LIST, {"action": "switch_off", "_selected_action": [rule.pk]})
    assert running() == before


def test_an_analyst_may_not_write_rules(analyst: Client) -> None:
    rule = published(ONE).rule
    before = running()

    assert analyst.get(f"{LIST}add/").status_code == 403
    assert analyst.post(change_url(rule), {"text": TWO, "seen": 1}).status_code == 403
    assert 'name="_check"' not in analyst.get(change_url(rule)).content.decode()
    assert running() == before


@pytest.mark.parametrize(
    ("role", "publishes", "switches"),
    [
        ("viewer", False, False),
        ("analyst", False, True),
        ("trader", False, False),
        ("approver", False, False),
        ("admin", True, True),
    ],
)
def test_roles_see_rules_and_do_what_is_theirs(
    client: Client, role: str, publishes: bool, switches: bool
) -> None:
    rule = published(ONE).rule
    person = account(role, staff=True)
    person.groups.set(Group.objects.filter(name=role))
    client.force_login(person)

    assert client.get(f"/rules/{CODE}/").status_code == 200
    page = client.get(change_url(rule))
    saved = client.post(change_url(rule), {"text": TWO, "seen": 1, "enabled": "on"})
    switched = client.post(f"/rules/{CODE}/disable/")

    assert page.status_code == 200
    assert ('name="_check"' in page.content.decode()) is publishes
    assert saved.status_code == (302 if publishes else 403)
    assert rule.versions.count() == (2 if publishes else 1)
    assert switched.status_code == (302 if switches else 403)
    assert rule_of(CODE).enabled is not switches


def test_whoever_is_not_staff_is_kept_out(client: Client) -> None:
    rule = a_rule()
    client.force_login(account("outsider", "enable_rule", "view_rule"))

    for url in (change_url(rule), back_url(rule, 1)):
        assert client.get(url).status_code in (302, 403)


# --- versions ------------------------------------------------------------------------------


def test_going_back_compares_first_and_is_audited(analyst: Client) -> None:
    rule = a_rule()
    assert f'href="{back_url(rule, 1)}"' in analyst.get(change_url(rule)).content.decode()

    page = analyst.get(back_url(rule, 1)).content.decode()
    done = analyst.post(back_url(rule, 1), {"seen": "2"}, follow=True)

    assert '<span data-change="+">+  min_profit_usd: 0.5\n</span>' in page
    assert f"{CODE} v1 is current now." in words_of(done)
    assert "rule.rolled_back v1 by analyst" in words_of(done)
    rule.refresh_from_db()
    assert rule.current is not None
    assert (rule.current.number, rule.title) == (1, "Dutch book")


@pytest.mark.parametrize("seen", ["1", "", "x"])
def test_going_back_from_what_was_not_seen_is_refused(analyst: Client, seen: str) -> None:
    rule = a_rule()
    before = running()

    page = analyst.post(back_url(rule, 1), {"seen": seen}, follow=True)

    assert "Nothing was changed" in words_of(page)
    assert running() == before


def test_going_back_to_what_cannot_be_read_is_refused(analyst: Client) -> None:
    rule = published(ONE).rule
    later = {"sha256": "0" * 64, "source": "?", "canonical": "detector: of a later release\n"}
    RuleVersion.objects.create(rule=rule, number=2, created_at=NOON, **later)
    before = running()

    page = analyst.post(back_url(rule, 2), {"seen": "1"}, follow=True)

    assert "the text was changed after publication; publish it again" in words_of(page)
    assert running() == before
    assert analyst.get(back_url(rule, 9)).status_code == 404
