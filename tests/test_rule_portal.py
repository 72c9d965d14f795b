"""The portal's pages about rules: what they say, who may press what, what pressing does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from alerts.models import AuditEntry
from mpx_site.portal.rules_views import LOOKS, fields_of
from rules.dsl import DETECTORS, parse_rule
from rules.load import enabled_definitions, publish_missing, rule_of, switch
from rules.models import Rule, RuleVersion
from tests import api_cast
from tests.rule_cast import CODE, NOON, ONE, TWO, a_rule, account, published, running

pytestmark = pytest.mark.django_db

PAGE = f"/rules/{CODE}/"


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(account("viewer"))
    return client


@pytest.fixture
def analyst(client: Client) -> Client:
    client.force_login(account("analyst", "enable_rule"))
    return client


def words_of(response: HttpResponse) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


# --- the list ------------------------------------------------------------------------------


def test_the_list_says_for_each_rule_what_it_does_and_who_changed_it(viewer: Client) -> None:
    version = published(ONE)
    api_cast.an_event()
    api_cast.a_signal(version, minutes=0, opened_at=timezone.now(), level="P2")
    api_cast.a_signal(version, minutes=1, opened_at=NOON, level="P1")  # long ago
    switch(version.rule, on=False, by=User.objects.create_user("ann"), at=timezone.now())

    answer = viewer.get("/rules/")
    words = words_of(answer)

    assert "0 of 1 run" in words
    assert f"Dutch book {CODE}" in words
    assert "off switched off by the desk" in words
    assert re.search(r"switched off \d+ s ago by ann", words)
    signals = re.findall(r"\?rule=DUTCH_BOOK_DETECT&amp;level=(P\d)", answer.content.decode())
    assert signals == ["P2"]


def test_an_empty_list_says_what_would_fill_it(viewer: Client) -> None:
    assert "No rules yet." in words_of(viewer.get("/rules/"))


def test_the_list_asks_as_often_for_seven_rules_as_for_one(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    published(ONE)
    with CaptureQueriesContext(connection) as asked:
        viewer.get("/rules/")
    publish_missing()

    with django_assert_num_queries(len(asked)):
        words = words_of(viewer.get("/rules/"))

    assert "4 of 7 run" in words
    assert words.count("its text says enabled: false") == 3


# --- a rule --------------------------------------------------------------------------------


def test_a_rule_says_what_it_looks_for_and_what_differs_from_the_defaults(viewer: Client) -> None:
    a_rule()

    words = words_of(viewer.get(PAGE))

    assert "Outcomes of one event that together pay more than they cost" in words
    assert "min_profit_usd 2 0.5 USD, 0 or more" in words
    assert "min_edge_bps 20 the same basis points of cost, 0 or more" in words
    assert "params: {min_profit_usd: 2}" in words
    assert "v2 after v1 by the desk&#x27;s start" in words


def test_every_detector_has_words_and_every_field_has_a_meaning() -> None:
    assert set(LOOKS) == set(DETECTORS)
    for detector in DETECTORS:
        definition = parse_rule(f"code: X_1\ntitle: x\ndetector: {detector}\n", source="x")
        for field in fields_of(definition, ("params", "scope", "scoring", "dedupe", "outputs")):
            assert field.about, (detector, field.name)
            assert not field.changed


def test_a_hostile_text_is_shown_as_text(viewer: Client) -> None:
    title = "<script>alert(1)</script>"
    published(ONE.replace("Dutch book", f"'{title}'") + "# <img src=x onerror=alert(1)>\n")

    for page in ("/rules/", PAGE):
        content = viewer.get(page).content.decode()
        assert "&lt;script&gt;alert(1)" in content
        assert "<script>alert" not in content
        assert "<img src=x" not in content


def test_a_version_that_cannot_be_read_is_told_and_the_older_one_runs(viewer: Client) -> None:
    rule = published(ONE).rule
    later = {"sha256": "0" * 64, "source": "?", "canonical": "detector: of a later release\n"}
    current = RuleVersion.objects.create(rule=rule, number=2, created_at=NOON, **later)
    Rule.objects.update(current=current)

    words = words_of(viewer.get(PAGE))

    assert "on v2 cannot run:" in words
    assert "; v1 runs instead" in words


def test_an_unknown_rule_is_not_found(viewer: Client) -> None:
    assert viewer.get("/rules/NOPE/").status_code == 404


# --- switching -----------------------------------------------------------------------------


def test_an_analyst_switches_a_rule_with_a_button(analyst: Client) -> None:
    published(ONE)
    assert f'action="{PAGE}disable/"' in analyst.get(PAGE).content.decode()

    answer = analyst.post(f"{PAGE}disable/", follow=True)

    assert "Switched off. It counts within 5 s." in words_of(answer)
    assert f'action="{PAGE}enable/"' in answer.content.decode()
    assert enabled_definitions() == []
    assert AuditEntry.objects.latest("id").actor == "analyst"
    assert "It was off already." in words_of(analyst.post(f"{PAGE}disable/", follow=True))


def test_a_viewer_sees_no_button_and_may_not_press_one(viewer: Client) -> None:
    a_rule()
    before = running()

    page = viewer.get(PAGE).content.decode()
    refused = [viewer.post(f"{PAGE}{act}/", {"number": 1}) for act in ("enable", "disable", "back")]

    assert f"{PAGE}disable/" not in page
    assert f"{PAGE}back/" not in page
    assert [answer.status_code for answer in refused] == [403, 403, 403]
    assert running() == before


def test_switching_needs_a_post_with_the_forms_token(analyst: Client) -> None:
    published(ONE)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = analyst.cookies

    assert analyst.get(f"{PAGE}disable/").status_code == 405
    assert strict.post(f"{PAGE}disable/").status_code == 403
    assert rule_of(CODE).enabled


# --- rolling back --------------------------------------------------------------------------


def test_rolling_back_shows_the_difference_first_and_the_audit_after(analyst: Client) -> None:
    a_rule()
    page = analyst.get(PAGE)
    assert "Going back to v1" in words_of(page)
    diff = re.findall(r'data-change="([-+])">[-+](.*)', page.content.decode())
    assert ("-", "  min_profit_usd: 2") in diff
    assert ("+", "  min_profit_usd: 0.5") in diff

    answer = analyst.post(f"{PAGE}back/", {"number": "1", "seen": "2"}, follow=True)

    words = words_of(answer)
    assert f"{CODE} v1 is current again." in words
    assert "rolled back v1 after v2 by analyst" in words
    rule = rule_of(CODE)
    assert rule.current is not None
    assert (rule.current.number, rule.title) == (1, "Dutch book")


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"number": "1", "seen": "1"}, "DUTCH_BOOK_DETECT v2 became current while you were"),
        ({"number": "9", "seen": "2"}, "DUTCH_BOOK_DETECT has no version 9. It has 1 to 2."),
        ({"number": "one", "seen": "2"}, "Which version?"),
        ({"seen": "2"}, "Which version?"),
        ({"number": "9" * 5_000, "seen": "2"}, "Which version?"),
        ({"number": "1", "seen": "9" * 5_000}, "Which version?"),
        ({"number": "2", "seen": "2"}, "DUTCH_BOOK_DETECT v2 was current already."),
    ],
)
def test_a_roll_back_that_cannot_be_done_says_why(
    analyst: Client, form: dict[str, str], told: str
) -> None:
    a_rule()
    before = running()

    assert told in words_of(analyst.post(f"{PAGE}back/", form, follow=True))

    assert running() == before


def test_going_back_to_an_unreadable_version_says_what_to_do(analyst: Client) -> None:
    rule = published(ONE).rule
    later = {"sha256": "0" * 64, "source": "?", "canonical": "detector: of a later release\n"}
    RuleVersion.objects.create(rule=rule, number=2, created_at=NOON, **later)
    before = running()

    answer = analyst.post(f"{PAGE}back/", {"number": "2", "seen": "1"}, follow=True)

    assert "the text was changed after publication; publish it again" in words_of(answer)
    assert running() == before


def test_the_same_meaning_twice_leaves_one_entry_and_no_going_back(analyst: Client) -> None:
    published(TWO)
    published(f"# comment\n{TWO}")

    words = words_of(analyst.get(PAGE))

    assert "the first version" in words
    assert "Going back to" not in words
