"""Rule versions: published once, never changed, never replaced by something broken."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import ProtectedError
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from alerts import journal
from alerts.models import AuditEntry
from rules.dsl import parse_rule
from rules.load import (
    SHIPPED,
    TextMismatch,
    enabled_definitions,
    publish,
    publish_dir,
    publish_missing,
    switch,
)
from rules.models import Rule, RuleVersion, VersionIsImmutable

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ONE = "code: DUTCH_BOOK_DETECT\ntitle: Dutch book\ndetector: dutch_book\n"
TWO = ONE.replace("Dutch book", "Dutch book, stricter") + "params: {min_profit_usd: 2}\n"
BROKEN = ONE + "params: {min_profit_usd: 1e-3}\n"


def published(text: str, *, by: User | None = None, at: datetime = NOON) -> RuleVersion:
    return publish(parse_rule(text, source="test"), source=text, by=by, at=at)


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator", password="a long passphrase")


# --- publishing


def test_first_publication_creates_the_rule_and_is_audited(operator: User):
    version = published(ONE, by=operator)

    rule = Rule.objects.get()
    assert (rule.code, rule.title, rule.current) == ("DUTCH_BOOK_DETECT", "Dutch book", version)
    assert (version.number, version.source, version.created_by) == (1, ONE, operator)
    entry = AuditEntry.objects.get()
    assert (entry.kind, entry.subject) == ("rule.published", "rule:DUTCH_BOOK_DETECT")
    assert (entry.actor, entry.at) == ("operator", NOON)
    assert entry.data == {"number": 1, "sha256": version.sha256, "before": None}
    assert journal.verify() == 1


def test_publishing_the_same_meaning_again_changes_nothing():
    first = published(ONE)

    again = published(f"# only a comment\n{ONE}", at=NOON + timedelta(hours=1))

    assert again == first
    assert RuleVersion.objects.count() == 1
    assert Rule.objects.get().changed_at == NOON
    assert AuditEntry.objects.count() == 1


def test_a_changed_text_is_a_new_version_and_the_old_one_stays():
    first, second = published(ONE), published(TWO)

    rule = Rule.objects.get()
    assert (second.number, rule.current, rule.title) == (2, second, "Dutch book, stricter")
    first.refresh_from_db()
    assert first.source == ONE


def test_publishing_an_older_text_makes_its_version_current_again():
    first = published(ONE)
    published(TWO)

    assert published(ONE) == first
    assert Rule.objects.get().current == first
    assert RuleVersion.objects.count() == 2
    assert AuditEntry.objects.latest("id").data == {
        "number": 1,
        "sha256": first.sha256,
        "before": 2,
    }


def test_text_that_says_something_else_is_not_published():
    with pytest.raises(TextMismatch):
        publish(parse_rule(ONE, source="test"), source=TWO, at=NOON)

    assert not Rule.objects.exists()


def test_nothing_is_left_of_a_publication_that_fails_half_way(monkeypatch: pytest.MonkeyPatch):
    first = published(ONE)

    def no_journal(**_: object) -> None:
        raise RuntimeError("the journal is full")

    monkeypatch.setattr(journal, "record", no_journal)
    with pytest.raises(RuntimeError):
        published(TWO)

    assert list(RuleVersion.objects.all()) == [first]
    assert Rule.objects.get().current == first


def test_a_broken_file_leaves_the_good_version_running(tmp_path: Path):
    good = published(ONE)
    (tmp_path / "broken.yaml").write_text(BROKEN)

    result = publish_dir(tmp_path, at=NOON)

    (problem,) = result.problems
    assert str(problem).startswith(f"{tmp_path}/broken.yaml:4:26: params.min_profit_usd: 1e-3")
    assert [rule.version_id for rule in enabled_definitions()] == [good.pk]


def test_a_start_publishes_what_is_shipped_but_does_not_undo_the_operator():
    started = publish_missing(at=NOON).publications
    edited = published(TWO)

    assert {one.change for one in started} == {"published"}
    assert "DUTCH_BOOK_DETECT" in {one.version.rule.code for one in started}
    assert publish_missing(at=NOON).publications == ()
    assert Rule.objects.get(code="DUTCH_BOOK_DETECT").current == edited


# --- immutability


def test_a_version_cannot_be_changed_or_deleted():
    version = published(ONE)

    version.source = TWO
    with pytest.raises(VersionIsImmutable):
        version.save()
    with pytest.raises(VersionIsImmutable):
        version.delete()
    with pytest.raises(VersionIsImmutable):
        RuleVersion.objects.update(source=TWO)
    with pytest.raises(VersionIsImmutable):
        RuleVersion.objects.all().delete()
    with pytest.raises(VersionIsImmutable), transaction.atomic():
        RuleVersion.objects.bulk_update([version], ["source"])
    with pytest.raises(ProtectedError):
        version.rule.delete()
    version.refresh_from_db()
    assert version.source == ONE


def test_the_database_itself_refuses_to_change_a_version():
    published(ONE)

    with (
        pytest.raises(DatabaseError, match="rule versions never change"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("UPDATE rules_ruleversion SET source = 'x'")

    assert RuleVersion.objects.get().source == ONE


# --- what runs


def test_a_rule_runs_only_if_the_desk_and_its_text_say_so(operator: User):
    rule = published(ONE).rule
    assert [(r.definition.code, r.number, r.problem) for r in enabled_definitions()] == [
        ("DUTCH_BOOK_DETECT", 1, "")
    ]

    assert switch(rule, on=False, by=operator, at=NOON)
    assert not switch(rule, on=False, by=operator, at=NOON)
    assert enabled_definitions() == []
    assert list(AuditEntry.objects.order_by("id").values_list("kind", flat=True)) == [
        "rule.published",
        "rule.disabled",
    ]

    switch(rule, on=True, by=operator, at=NOON)
    published(f"{ONE}enabled: false\n")
    assert enabled_definitions() == []


def test_a_current_version_that_cannot_be_read_gives_way_to_the_one_before():
    good = published(ONE)
    unreadable = RuleVersion.objects.create(
        rule=good.rule,
        number=2,
        sha256="0" * 64,
        source=TWO,
        canonical="detector: of a later release\n",
        created_at=NOON,
    )
    Rule.objects.update(current=unreadable)

    (running,) = enabled_definitions()

    assert (running.version_id, running.number) == (good.pk, 1)
    assert running.problem.startswith("v2 cannot run: DUTCH_BOOK_DETECT v2:1:1: the text was")


def test_a_rule_without_any_readable_version_stops_no_other():
    other = ONE.replace("DUTCH_BOOK_DETECT", "OTHER_RULE")
    published(other)
    rule = Rule.objects.create(code="A_RULE", title="x", changed_at=NOON)
    rule.current = RuleVersion.objects.create(
        rule=rule, number=1, sha256="0" * 64, source="", canonical="", created_at=NOON
    )
    rule.save(update_fields=["current"])

    assert [rule.definition.code for rule in enabled_definitions()] == ["OTHER_RULE"]


# --- the command


def run(*args: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("rules", *args, stdout=out, stderr=io.StringIO())
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_validate_prints_places_and_exits_1_for_a_broken_rule(tmp_path: Path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(ONE)
    bad.write_text(BROKEN)

    assert run("validate", str(good)) == (0, f"{good}: ok, DUTCH_BOOK_DETECT\n")
    code, out = run("validate", str(good), str(bad))
    assert code == 1
    assert f"{bad}:4:26: params.min_profit_usd: 1e-3 is not how numbers" in out
    code, out = run("validate", "--json", str(bad))
    (row,) = json.loads(out)["files"]
    assert (code, row["ok"], row["path"]) == (1, False, str(bad))
    assert row["problems"][0]["instead"].startswith("write 0.001")
    assert (row["problems"][0]["line"], row["problems"][0]["column"]) == (4, 26)


def test_a_missing_file_is_a_wrong_call(tmp_path: Path):
    for act in ("validate", "diff", "load"):
        with pytest.raises(CommandError) as refused:
            run(act, str(tmp_path / "absent"))
        assert refused.value.returncode == 2


def test_load_publishes_every_shipped_rule_once():
    code, out = run("load")
    assert code == 0
    assert "DUTCH_BOOK_DETECT v1: published\n" in out

    code, out = run("load", "--json")
    rows = json.loads(out)["rules"]
    assert code == 0
    assert {(row["change"], row["number"]) for row in rows} == {("unchanged", 1)}
    assert len(rows) == len(list(SHIPPED.glob("*.yaml"))) == Rule.objects.count()


def test_load_publishes_the_good_and_tells_the_broken(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(BROKEN)
    (tmp_path / "b.yaml").write_text(TWO)

    code, out = run("load", str(tmp_path))

    assert code == 1
    assert "a.yaml:4:26" in out
    assert "DUTCH_BOOK_DETECT v1: published" in out


def test_diff_compares_meaning_with_the_current_version(tmp_path: Path):
    file = tmp_path / "rule.yaml"
    file.write_text(TWO)
    code, out = run("diff", str(file))
    assert code == 1
    assert "(not published)" in out

    published(ONE)
    code, out = run("diff", str(file))
    assert code == 1
    assert "-  min_profit_usd: 0.5\n+  min_profit_usd: 2\n" in out

    file.write_text(f"# the same\n{ONE}")
    assert run("diff", str(file)) == (0, "DUTCH_BOOK_DETECT v1: the same\n")
    code, out = run("diff", "--json", str(file))
    assert json.loads(out) == {"code": "DUTCH_BOOK_DETECT", "current": 1, "same": True, "diff": []}


def test_list_shows_what_is_published():
    assert run("list") == (0, "")

    version = published(ONE)
    code, out = run("list", "--json")

    assert code == 0
    assert json.loads(out)["rules"] == [
        {
            "code": "DUTCH_BOOK_DETECT",
            "title": "Dutch book",
            "enabled": True,
            "runs": True,
            "why": "",
            "number": 1,
            "sha256": version.sha256,
            "changed_at": "2026-06-01T12:00:00+00:00",
        }
    ]


def test_list_says_who_stops_a_rule():
    published(f"{ONE}enabled: false\n")

    row = json.loads(run("list", "--json")[1])["rules"][0]

    assert (row["enabled"], row["runs"]) == (True, False)
    assert "DUTCH_BOOK_DETECT        off v1" in (listed := run("list")[1])
    assert listed.endswith("(its text says enabled: false)\n")


# --- the admin


@pytest.fixture
def desk(client: Client, operator: User) -> Client:
    client.force_login(operator)
    return client


def change_url(rule: Rule) -> str:
    return reverse("admin:rules_rule_change", args=[rule.pk])


def test_saving_an_edited_text_publishes_a_version_by_that_person(desk: Client, operator: User):
    rule = published(ONE).rule

    answer = desk.post(
        change_url(rule),
        {"text": TWO.replace("\n", "\r\n"), "seen": 1, "enabled": "on"},
        follow=True,
    )

    assert "DUTCH_BOOK_DETECT v2 is current now." in answer.content.decode()
    rule.refresh_from_db()
    assert rule.current is not None
    assert (rule.current.number, rule.current.source) == (2, TWO)
    assert rule.current.created_by == operator


def test_a_broken_text_is_shown_with_line_and_column_and_not_published(desk: Client):
    rule = published(ONE).rule

    page = desk.post(change_url(rule), {"text": BROKEN, "seen": 1, "enabled": "on"})

    text = page.content.decode()
    assert "line 4, column 26: params.min_profit_usd: 1e-3 is not how numbers" in text
    assert RuleVersion.objects.count() == 1


def test_an_edit_of_an_outdated_version_is_refused(desk: Client):
    rule = published(ONE).rule
    published(TWO)

    page = desk.post(change_url(rule), {"text": f"{ONE}enabled: false", "seen": 1, "enabled": "on"})

    assert "DUTCH_BOOK_DETECT v2 became current while you were at it." in page.content.decode()
    assert RuleVersion.objects.count() == 2


def test_a_text_with_another_code_is_refused(desk: Client):
    rule = published(ONE).rule
    other = ONE.replace("DUTCH_BOOK_DETECT", "OTHER_RULE")

    page = desk.post(change_url(rule), {"text": other, "seen": 1, "enabled": "on"})

    assert "add a new rule for OTHER_RULE" in page.content.decode()
    assert Rule.objects.count() == 1


def test_a_rule_can_be_added_by_its_text_once(desk: Client):
    url = reverse("admin:rules_rule_add")

    desk.post(url, {"text": ONE})
    page = desk.post(url, {"text": TWO})

    assert Rule.objects.get().current is not None
    assert "edit that rule instead" in page.content.decode()


def test_switching_off_is_audited_and_adds_no_version(desk: Client):
    rule = published(ONE).rule

    desk.post(change_url(rule), {"text": ONE, "seen": 1})

    rule.refresh_from_db()
    assert not rule.enabled
    assert AuditEntry.objects.latest("id").kind == "rule.disabled"
    assert RuleVersion.objects.count() == 1


def test_switching_needs_its_own_permission(client: Client):
    rule = published(ONE).rule
    author = User.objects.create_user("author", is_staff=True)
    author.user_permissions.set(
        Permission.objects.filter(codename__in=("change_rule", "view_rule"))
    )
    client.force_login(author)

    client.post(change_url(rule), {"text": TWO, "seen": 1})

    rule.refresh_from_db()
    assert rule.enabled
    assert rule.current is not None
    assert rule.current.number == 2


def test_version_page_shows_text_and_change_and_no_form(desk: Client):
    published(ONE)
    second = published(TWO.replace("stricter", "<b>stricter</b>"))

    page = desk.get(reverse("admin:rules_ruleversion_change", args=[second.pk]))

    text = page.content.decode()
    assert "-title: &quot;Dutch book&quot;\n+title: &quot;Dutch book, &lt;b&gt;stricter" in text
    assert "<b>stricter" not in text
    assert 'name="_save"' not in text


def test_the_list_asks_as_often_for_five_rules_as_for_one(desk: Client, django_assert_num_queries):
    published(ONE)
    url = reverse("admin:rules_rule_changelist")
    with CaptureQueriesContext(connection) as asked:
        desk.get(url)
    for number in range(4):
        published(ONE.replace("DUTCH_BOOK_DETECT", f"RULE_{number}"))

    with django_assert_num_queries(len(asked)):
        assert "RULE_3" in desk.get(url).content.decode()
