"""The scoreboard's command and page: what they print, keep, show and refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from markets.simulator.exam.paper import MAKERS
from mpx_site.scoreboard import exam, result
from mpx_site.scoreboard.families import FAMILIES
from mpx_site.scoreboard.judging import Judgement, Score
from mpx_site.scoreboard.result import Result, SpikeResult, load, store, stored_at
from mpx_site.scoreboard.shown import board, share
from mpx_site.scoreboard.summing import result_of
from tests import portal_cast as cast

AT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SPIKE = SpikeResult(300, 600_000, 0.87, 1.02, 0.53, 0.98, 30, 30)


@pytest.fixture(autouse=True)
def home(settings: object, tmp_path: Path) -> Path:
    settings.MPX_HOME = tmp_path  # type: ignore[attr-defined]
    return tmp_path


def a_result(*, seed: int = 11, wrong: int = 0, gained: float = 99.9996) -> Result:
    judgement = Judgement()
    for code in judgement.scores:
        judgement.scores[code] = Score(
            planted=200, found=200, told=200, right=200, gained=gained, could_gain=100.0,
            size_errors=[0.0, 0.0001], to_open=[0.4, 0.9], to_p1=[250.0, 310.0],
        )  # fmt: skip
    judgement.traps["flicker"] = wrong
    judgement.trap_cases.update({family.code: 40 for family in FAMILIES})
    return result_of(judgement, spike=SPIKE, seed=seed, events=4_000, seconds=120.4, at=AT)


# --- the result ----------------------------------------------------------------------


def test_shares_are_rounded_down_so_that_nearly_all_is_not_all() -> None:
    assert a_result(gained=99.99999).rules["DUTCH_BOOK_DETECT"].captured == 0.999999
    assert share(0.99996) == "0.9999"
    assert share(1.0) == "1.0000"
    assert share(None) == "\N{EN DASH}"


def test_a_decoy_taken_for_real_or_a_goal_missed_is_no_good_result() -> None:
    assert a_result().good
    assert not a_result(wrong=1).good
    assert not a_result(gained=99.8).good


def test_the_file_keeps_one_result_a_seed_the_newest_first(home: Path) -> None:
    path = home / "deep" / "scoreboard.json"
    for seed, wrong in ((11, 0), (12, 0), (11, 3)):
        store(a_result(seed=seed, wrong=wrong), path)

    kept = load(path)

    assert [(each.seed, each.decoys["flicker"]) for each in kept] == [(11, 3), (12, 0)]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_cannot_be_read_counts_as_none(home: Path) -> None:
    path = home / "scoreboard.json"
    path.write_text('[{"seed": "eleven"}]')

    assert load(path) == []
    assert board([]) is None


# --- the command ---------------------------------------------------------------------


def test_the_command_prints_what_outside_tools_rely_on_and_keeps_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exam, "JUMP_MARKETS", 8)

    try:
        call_command("scoreboard", "--seed", "3", "--events", str(len(MAKERS)), "--json")
    except SystemExit as refused:
        assert refused.code == 1
    out, err = capsys.readouterr()
    told = json.loads(out)

    assert set(told["rules"]) == set(result.GOALS)
    keys = {"recall", "precision", "captured", "planted", "time_to_detect_ms_p50"}
    assert all(keys <= set(rule) for rule in told["rules"].values())
    assert set(told["decoys"]) == {family.code for family in FAMILIES}
    assert all(cases > 0 for cases in told["decoy_cases"].values())
    assert told["rules"]["DUTCH_BOOK_DETECT"]["recall"] == 1
    assert f"{len(MAKERS)} of {len(MAKERS)} cases" in err
    assert load(stored_at()) == [msgspec.json.decode(out, type=Result)]


@pytest.mark.parametrize("arguments", [["--events", "0"], ["--seed", "-4"], ["--events", "many"]])
def test_the_command_says_what_to_write_instead(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="not a whole number from 1 to 1000000"):
        call_command("scoreboard", *arguments)


# --- the page ------------------------------------------------------------------------


def test_showing_a_result_needs_no_solver() -> None:
    """SciPy takes the web process a second to import, on every start."""
    code = "import sys, mpx_site.scoreboard.shown; sys.exit('scipy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.django_db
def test_the_page_says_how_to_run_an_exam_where_there_was_none(client: Client) -> None:
    client.force_login(cast.viewer())

    page = client.get(reverse("scoreboard")).content.decode()

    assert "No exam has been sat yet" in page
    assert "python manage.py scoreboard" in page


@pytest.mark.django_db
def test_the_page_shows_the_newest_exam_in_full_and_other_seeds_in_a_line(client: Client) -> None:
    store(a_result(seed=12), stored_at())
    store(a_result(seed=11, wrong=2), stored_at())
    client.force_login(cast.viewer())

    page = client.get(reverse("scoreboard")).content.decode()

    assert "seed 11" in page and "seed 12" in page
    for family in FAMILIES:
        assert family.code in page
    assert "0.99999" in page
    assert page.count("reached") == len(result.GOALS)
    assert "Gone within 250 ms" in page


@pytest.mark.django_db
def test_what_an_exam_says_is_shown_as_text(client: Client) -> None:
    hostile = "<script>alert(1)</script>"
    store(msgspec.structs.replace(a_result(), mistakes=[hostile]), stored_at())
    client.force_login(cast.viewer())

    page = client.get(reverse("scoreboard")).content.decode()

    assert hostile not in page
    assert "&lt;script&gt;" in page
