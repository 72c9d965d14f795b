"""Synonyms: the file, its groups, what matching makes of them, and similar markets."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django import DjangoAssertNumQueries

from alerts import journal
from alerts.models import AuditEntry
from markets.management.commands.synonyms import _member_line
from markets.models import Market
from markets.proposing import propose_all
from markets.questions import Wording
from markets.relation_models import Relation, SynonymGroup, SynonymGroupMember
from markets.relations import AlreadyDecided, ReasonMissing, approve, reject
from markets.resolution import ASPECTS
from markets.similar import similar_markets
from markets.synonyms import (
    GroupChange,
    add_members,
    approve_group,
    load,
    make_group,
    reject_group,
)
from markets.synonyms_file import SHIPPED, BadDictionary, Dictionary, read_dictionary, read_file
from tests import relation_cast as cast
from tests.relation_cast import START

LATER = START + timedelta(hours=1)


def dictionary(text: str) -> Dictionary:
    return read_dictionary(text.encode(), source="synonyms.yml")


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(BadDictionary) as bad:
        read_dictionary(text.encode() if isinstance(text, str) else text, source="f")
    return list(bad.value.problems)


# --- the file ----------------------------------------------------------------------------


def test_the_shipped_dictionary_is_good_and_keeps_names_apart() -> None:
    shipped = read_file(SHIPPED)

    assert (shipped.threshold, shipped.min_size) == (0.78, 2)
    assert len(shipped.groups) >= 5
    assert shipped.aliases.run_at(["btc"], 0) == (1, "bitcoin")
    assert shipped.aliases.run_at(["united", "states", "of", "america"], 0) == (4, "united states")


def test_a_file_is_read_as_written() -> None:
    read = dictionary(
        "threshold: 0.9\nmin_size: 3\nwords:\n  - [No, Nope]\ngroups:\n"
        "  - name: A\n    method: keyword\n    keywords: [on, Fed Rate]\n"
        "  - name: B\n    explicit: [0123, 5, '7']\n"
    )

    assert (read.threshold, read.min_size) == (0.9, 3)
    assert read.groups[0].keywords == (("on",), ("fed", "rate"))
    assert read.groups[1].explicit == ("0123", "5", "7")  # ids are text, never numbers
    assert read.aliases.run_at(["nope"], 0) == (1, "no")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("a: &x [1]\nb: *x", "f:1:4: anchors are not allowed"),
        ("threshold: !!float 1", "f:1:12: tags are not allowed"),
        ("threshold: 0.5\nthreshold: 0.6", "f:2:1: threshold is set twice"),
        ("threshold: 1e-1", "f:1:12: threshold is not a number as it is written here"),
        ("threshold: .nan", "f:1:12: threshold is not a number"),
        ("threshold: 1.5", "threshold must be above 0 and at most 1"),
        ("threshold: [1]", "f:1:12: threshold is not a number"),
        ("min_size: 1", "f:1:11: min_size must be at least 2"),
        ("thresold: 1", "f:1:1: unknown key 'thresold'; known are threshold"),
        ("- a", "f:1:1: write keys here"),
        ("groups: 3", "f:1:9: groups must be a list"),
        ("groups:\n  - keywords: [a]", "a group needs a name"),
        ("groups:\n  - name: A", "f:2:5: a group needs keywords, or explicit market ids"),
        ("groups:\n  - {name: A, method: magic, keywords: [a]}", "method is keyword or explicit"),
        ("groups:\n  - {name: A, method: keyword, explicit: [1]}", "method keyword needs keywords"),
        ("groups:\n  - {name: A, keywords: ['?!']}", "has no word in it"),
        ("groups:\n  - {name: A, keywords: [[a]]}", "keywords must be texts"),
        ("groups:\n  - {name: A, explicit: ['a b']}", "is not the id of a market"),
        (
            "groups:\n  - {name: A, keywords: [a]}\n  - {name: A, keywords: [b]}",
            "f:3:5: a group named 'A' stands above",
        ),
        ("words:\n  - [one]", "f:2:5: a name needs at least two spellings"),
        ("words:\n  - [a, b]\n  - [c, b]", "f:3:9: 'b' is a spelling of another name already"),
        ("groups: [", "f:2:1: did not find expected"),
        (b"\xff\xfe\x00", "f:1:1"),
        (f"# {'x' * 300_000}", "longer than 262,144 bytes"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str | bytes, told: str) -> None:
    assert any(told in problem for problem in problems(text)), problems(text)


def test_every_problem_is_told_at_once() -> None:
    assert len(problems("threshold: 2\nmin_size: x\nfoo: 1\ngroups:\n  - name: A")) == 4


# --- loading -------------------------------------------------------------------------------

POLITICS = "groups:\n  - {name: P, method: keyword, keywords: [politics]}\n"


def list_questions(*questions: str, first: int = 1) -> None:
    cast.list_markets(
        *(cast.market(first + number, question) for number, question in enumerate(questions))
    )


def members(name: str, *states: str) -> set[str]:
    rows = SynonymGroupMember.objects.filter(group__name=name)
    chosen = rows.filter(state__in=states) if states else rows
    return set(chosen.values_list("market_id", flat=True))


def loaded(text: str) -> dict[str, GroupChange]:
    return {change.name: change for change in load(dictionary(text), by="test", at=START)}


@pytest.mark.django_db
def test_keywords_are_whole_words() -> None:
    list_questions(
        "Will politics be said?", "Will Geopolitics be said?", "US POLITICS?", "Political?"
    )

    assert loaded(POLITICS)["P"].change == "new"
    assert members("P") == {"101", "103"}


@pytest.mark.django_db
def test_loading_again_changes_nothing(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    list_questions("Will politics be said?", "Politics?")
    loaded(POLITICS)
    entries = AuditEntry.objects.count()

    with django_assert_max_num_queries(8):
        change = loaded(POLITICS)["P"]

    assert (change.change, change.members, change.added) == ("same", 2, ())
    assert AuditEntry.objects.count() == entries == 1


@pytest.mark.django_db
def test_changes_of_the_file_and_of_the_markets_are_shown() -> None:
    list_questions("Politics today?", "Politics tomorrow?", "Elections?")
    loaded(POLITICS)
    list_questions("Politics again?", first=9)

    grown = loaded(POLITICS)["P"]
    moved = loaded(POLITICS.replace("[politics]", "[elections, politics tomorrow]"))["P"]

    assert (grown.change, grown.added) == ("changed", ("109",))
    assert (moved.change, moved.added, moved.removed) == ("changed", ("103",), ("101", "109"))


@pytest.mark.django_db
def test_a_group_that_left_the_file_is_put_away_and_comes_back() -> None:
    list_questions("Politics today?", "Politics tomorrow?")
    loaded(POLITICS)

    assert loaded("threshold: 0.8")["P"].change == "gone"
    assert SynonymGroup.objects.get().state == "REJECTED"
    assert loaded("threshold: 0.8") == {}
    assert loaded(POLITICS)["P"].change == "changed"
    assert SynonymGroup.objects.get().state == "APPROVED"


@pytest.mark.django_db
def test_a_group_is_stored_from_its_least_size_on() -> None:
    list_questions("Politics today?", "Politics tomorrow?")

    assert loaded(f"min_size: 3\n{POLITICS}")["P"].change == "too small"
    assert not SynonymGroup.objects.exists()
    loaded(POLITICS)
    assert loaded(f"min_size: 3\n{POLITICS}")["P"].change == "too small"
    assert SynonymGroup.objects.get().state == "REJECTED"


@pytest.mark.django_db
def test_explicit_ids_that_are_not_stored_are_told() -> None:
    list_questions("Rain?", "Snow?")

    change = loaded("groups:\n  - {name: W, explicit: [101, 102, 999]}")["W"]

    assert (change.members, change.unknown) == (2, ("999",))
    assert SynonymGroup.objects.get().method == "EXPLICIT"


@pytest.mark.django_db
def test_what_a_person_decided_about_a_member_stays() -> None:
    list_questions("Politics today?", "Politics tomorrow?", "Rain?")
    loaded(POLITICS)
    group, person = SynonymGroup.objects.get(), cast.operator()
    add_members(group.pk, ["103", "999"], by=person, at=START)
    approve_group(group.pk, members=["101", "103"], by=person, at=START)

    assert loaded(POLITICS)["P"].change == "same"
    assert members("P", "APPROVED") == {"101", "103"}
    assert members("P", "REJECTED") == {"102"}


@pytest.mark.django_db
def test_a_name_taken_by_hand_is_left_alone() -> None:
    list_questions("Politics today?", "Politics tomorrow?")
    make_group("P", ["101"], by=cast.operator(), at=START)

    assert loaded(POLITICS)["P"].change == "name is taken"
    assert members("P") == {"101"}


# --- matching ------------------------------------------------------------------------------


@pytest.fixture
def world(db: None) -> None:
    list_questions(
        "Will Bitcoin reach $150,000 by June 30, 2026?",
        "BTC to hit $150k by end of June 2026?",
        "Will Bitcoin not reach $150k by June 30, 2026?",
        "Will Bitcoin reach $200,000 by June 30, 2026?",
    )


def run(**changes: Any) -> Any:
    return propose_all(read_file(SHIPPED), by="test", at=LATER, **changes)


@pytest.mark.usefixtures("world")
def test_a_run_stores_groups_relations_and_ladders() -> None:
    found = run()

    assert found.matching.new == 3  # two ask the same, both of them the opposite of the third
    assert found.groups_new == 1
    assert found.ladders.new >= 1
    group = SynonymGroup.objects.get()
    assert (group.method, group.state) == ("MATCHING", "PROPOSED")
    assert members(group.name, "SUGGESTED") == {"101", "102", "103"}
    assert group.members.get(market="103").inverted is not group.members.get(market="101").inverted
    types = Relation.objects.filter(origin="MATCHING").values_list("type", flat=True)
    assert sorted(types) == ["COMPLEMENT", "COMPLEMENT", "EQUIVALENT"]
    assert journal.verify() == 3


@pytest.mark.usefixtures("world")
def test_a_second_run_adds_only_what_is_new() -> None:
    run()
    again = run()
    assert (again.matching.new, again.ladders.new, again.groups_new, again.groups_grown) == (
        (0,) * 4
    )
    list_questions("Bitcoin touches $150,000 by June 30, 2026?", first=9)

    grown = run()

    assert (grown.groups_new, grown.groups_grown) == (0, 1)
    assert grown.matching.new == 3
    assert SynonymGroup.objects.count() == 1


@pytest.mark.usefixtures("world")
def test_what_a_person_rejected_is_not_suggested_again() -> None:
    run()
    person, group = cast.operator(), SynonymGroup.objects.get()
    reject_group(group.pk, by=person, at=LATER, reason="another source")
    for relation in Relation.objects.all():
        reject(relation.pk, by=person, at=LATER, reason="another source")

    again = run()

    assert (again.matching.new, again.matching.rejected) == (0, 3)
    assert SynonymGroup.objects.get().state == "REJECTED"


@pytest.mark.usefixtures("world")
def test_ended_markets_are_not_matched_and_leave_the_inbox() -> None:
    run()
    Market.objects.filter(pk="102").update(state=Market.State.RESOLVED)

    again = run()

    assert again.retired == 2
    assert "102" not in again.found.wordings


# --- by hand -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("world")
def test_approving_a_group_proposes_what_its_words_say() -> None:
    run()
    Relation.objects.all().delete()
    person, group = cast.operator(), SynonymGroup.objects.get()

    tally = approve_group(group.pk, members=["101", "102"], by=person, at=LATER)

    relation = Relation.objects.get()
    assert tally.new == 1
    assert (relation.origin, relation.type, relation.state) == ("GROUP", "EQUIVALENT", "PROPOSED")
    assert members(group.name, "REJECTED") == {"103"}
    entry = AuditEntry.objects.get(kind="group.approved")
    assert entry.data["members"] == ["101", "102"]


@pytest.mark.usefixtures("world")
def test_a_group_by_hand_says_its_members_are_the_same_with_doubts() -> None:
    person = cast.operator()
    group = make_group("Peace", ["101", "104", "999"], by=person, at=START)

    approve_group(group.pk, members=["101", "104"], by=person, at=LATER)

    relation = Relation.objects.get()
    assert relation.type == "EQUIVALENT"
    assert relation.doubts == ["the words differ: bound"]


@pytest.mark.usefixtures("world")
def test_a_topic_gives_no_relations_by_itself() -> None:
    loaded("groups:\n  - {name: BTC, keywords: [bitcoin]}")
    group = SynonymGroup.objects.get()

    approve_group(group.pk, members=["101", "104"], by=cast.operator(), at=LATER)

    assert not Relation.objects.exists()


@pytest.mark.usefixtures("world")
def test_groups_are_decided_once_and_with_a_reason() -> None:
    run()
    person, group = cast.operator(), SynonymGroup.objects.get()
    with pytest.raises(ReasonMissing):
        reject_group(group.pk, by=person, at=LATER, reason=" ")
    reject_group(group.pk, by=person, at=LATER, reason="no")

    with pytest.raises(AlreadyDecided):
        approve_group(group.pk, members=["101"], by=person, at=LATER)


# --- similar markets --------------------------------------------------------------------------


def described(market_id: str) -> list[tuple[str, str, bool]]:
    market = Market.objects.get(pk=market_id)
    return [(each.market.pk, each.why, each.decided) for each in similar_markets(market)]


@pytest.mark.usefixtures("world")
def test_similar_markets_say_why(operator: User) -> None:
    run()
    same = Relation.objects.get(type="EQUIVALENT")
    approve(same.pk, by=operator, at=LATER, seen=same.fingerprint, checked=ASPECTS, reason="same")

    assert described("101") == [
        ("102", "is true exactly when this is", True),
        ("103", "is true exactly when this is not", False),
        ("104", "implies this", False),
    ]
    assert ("101", "follows from this", False) in described("104")


@pytest.mark.usefixtures("world")
def test_members_of_a_group_are_similar_nearest_words_first() -> None:
    loaded("groups:\n  - {name: BTC, keywords: [bitcoin, btc]}")

    found = described("101")

    assert {why for _, why, _ in found} == {"both in BTC"}
    assert [pk for pk, _, _ in found][-1] == "102"  # BTC is another word than Bitcoin here
    assert all(decided for _, _, decided in found)


@pytest.mark.usefixtures("world")
def test_a_market_without_company_has_no_similar_ones() -> None:
    assert described("101") == []


@pytest.mark.django_db
def test_similar_markets_take_few_queries_whatever_the_group(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    list_questions(*(f"Will politics number {n} happen?" for n in range(60)))
    loaded(POLITICS)
    market = Market.objects.get(pk="101")

    with django_assert_max_num_queries(3):
        found = similar_markets(market)
        [(each.market.event.title, each.why) for each in found if each.market.event]

    assert len(found) == 12


@pytest.fixture
def operator(db: None) -> User:
    return cast.operator()


# --- the command --------------------------------------------------------------------------------


def command(*args: str) -> str:
    out = StringIO()
    call_command("synonyms", *args, stdout=out, stderr=StringIO())
    return out.getvalue()


def refused(*args: str) -> CommandError:
    with pytest.raises(CommandError) as error:
        command(*args)
    return error.value


@pytest.mark.usefixtures("world")
def test_the_command_shows_without_storing_and_stores_what_it_shows() -> None:
    shown = json.loads(command("match", "--json"))
    assert not Relation.objects.exists()

    stored = json.loads(command("propose", "--json"))
    listed = json.loads(command("list", "--json"))

    assert shown["schema"] == 1 and shown["markets"] == stored["markets"] == 4
    assert shown["found"] == stored["found"]
    assert shown["proposals"][0]["questions"]
    assert stored["matching"]["new"] == 3
    assert {row["type"] for row in listed["relations"]} >= {"EQUIVALENT", "COMPLEMENT"}
    assert listed["groups"] == {"PROPOSED": 1}


@pytest.mark.usefixtures("world")
def test_the_command_speaks_to_people_too(tmp_path: Path) -> None:
    file = tmp_path / "s.yml"
    file.write_text("groups:\n  - {name: BTC, keywords: [bitcoin]}\n")

    assert "new           BTC: 3 markets +3" in command("load", "--file", str(file))
    assert "BTC to hit $150k" in command("match")
    assert "relations are new and wait for a person" in command("propose")
    assert "groups     APPROVED" in command("list")


@pytest.mark.django_db
def test_the_command_refuses_with_the_promised_codes(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text("threshold: 7")

    assert refused("load", "--file", str(bad)).returncode == 1
    assert f"{bad}:1:12" in str(refused("match", "--file", str(bad)))
    assert refused("load", "--file", str(tmp_path / "none.yml")).returncode == 2
    assert refused("match").returncode == 4
    assert refused("propose").returncode == 4


def test_line_breaks_of_a_venue_do_not_forge_lines() -> None:
    assert "\n" not in _member_line(Wording("1", "One\n  999  approved\r?"))
