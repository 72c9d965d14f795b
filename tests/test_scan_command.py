"""`manage.py scan`: arguments, exit codes and streams."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from rules.management.commands.scan import moment, usd
from tests.wire_files import book, event, market

ROOT = Path(__file__).parents[1]


@pytest.fixture
def snapshot(tmp_path):
    """Return the paths of an event of three and its books, which pay 5 USD on 95."""
    gamma, books = tmp_path / "gamma.json", tmp_path / "books.json.gz"
    gamma.write_text(json.dumps(event([market(n) for n in range(3)])))
    asks = (0.40, 0.30, 0.25)
    listed = [book(n, [(ask, 100)], [(ask - 0.02, 100)]) for n, ask in enumerate(asks)]
    books.write_bytes(gzip.compress(json.dumps(listed).encode()))
    return str(gamma), str(books)


def scan(*args: str) -> dict:
    out = io.StringIO()
    call_command("scan", *args, "--json", stdout=out)
    return json.loads(out.getvalue())


def run_apart(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as outside tools do."""
    return subprocess.run(
        [sys.executable, "manage.py", "scan", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(*args: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        call_command("scan", *args, "--json", stdout=io.StringIO())
    return caught.value


def test_prints_one_object_and_nothing_else(snapshot):
    gamma, books = snapshot

    done = run_apart("--gamma", gamma, "--books", books, "--json")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["opportunities"][0]["profit"] == "5.000000"


def test_without_json_prints_a_table(snapshot):
    out = io.StringIO()

    call_command("scan", "--gamma", snapshot[0], "--books", snapshot[1], stdout=out)

    assert "EXECUTABLE yes_basket" in out.getvalue()


def test_files_may_be_given_one_after_another_or_apart(snapshot, tmp_path):
    gamma, books = snapshot
    more = tmp_path / "more.json"
    more.write_text(json.dumps(market(9, neg_risk=False)))

    together = scan("--gamma", gamma, str(more), "--books", books)
    apart = scan("--gamma", gamma, "--gamma", str(more), "--books", books)

    assert together == apart
    assert [row["problem"] for row in together["data_quality"]] == ["no_book"]


def test_thresholds_and_capital_are_arguments(snapshot):
    gamma, books = snapshot

    def verdict(*args: str) -> str:
        return scan("--gamma", gamma, "--books", books, *args)["opportunities"][0]["verdict"]

    assert verdict("--min-profit", "5") == "EXECUTABLE"
    assert verdict("--min-profit", "5.01") == "THIN"
    assert verdict("--min-edge-bps", "527") == "THIN"
    assert verdict("--capital", "9.4", "--min-profit", "0.5") == "THIN"


def test_at_moves_the_annualised_return(snapshot):
    gamma, books = snapshot
    files = ("--gamma", gamma, "--books", books)

    default = scan(*files)["opportunities"][0]["annualised_pct"]
    half = scan(*files, "--at", "2026-06-16T00:00:00Z")["opportunities"][0]["annualised_pct"]
    naive = scan(*files, "--at", "2026-06-16")["opportunities"][0]["annualised_pct"]

    assert half == pytest.approx(2 * default, abs=1e-3)
    assert naive == half


def test_relations_are_read_from_a_file(snapshot, tmp_path):
    relations, more, quotes = (tmp_path / name for name in ("r.yaml", "m.json", "b.json"))
    relations.write_text("- {type: implies, a: '509', b: '500', approved: true}\n")
    more.write_text(json.dumps(market(9, neg_risk=False)))
    quotes.write_text(json.dumps(book(9, [(0.62, 100)], [(0.60, 100)], neg_risk=False)))
    gamma, books = snapshot

    result = scan(
        *("--gamma", gamma, str(more), "--books", books, str(quotes)),
        *("--relations", str(relations)),
    )

    assert [row["kind"] for row in result["opportunities"]] == ["implies"]


def test_broken_json_exits_2_and_names_file_line_and_column(snapshot, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('[{"asset_id": "1",\n  "bids": ]}]')

    error = refused("--gamma", snapshot[0], "--books", str(broken))

    assert error.returncode == 2
    assert f"{broken}:2:11: Expecting value" in str(error)


def test_a_file_that_is_not_there_exits_2(snapshot):
    error = refused("--gamma", snapshot[0], "--books", "nowhere.json")

    assert error.returncode == 2
    assert "nowhere.json: No such file" in str(error)


def test_bad_relations_exit_2(snapshot, tmp_path):
    relations = tmp_path / "relations.yaml"
    relations.write_text("- {type: perhaps, a: '1', b: '2'}\n")

    error = refused("--gamma", snapshot[0], "--books", snapshot[1], "--relations", str(relations))

    assert error.returncode == 2
    assert f"{relations}:1:3" in str(error)


def test_a_usage_error_exits_2(snapshot):
    done = run_apart("--gamma", snapshot[0], "--books", snapshot[1], "--capital", "much")

    assert done.returncode == 2
    assert "--capital: 'much' is not a number" in done.stderr


@pytest.mark.parametrize("text", ["much", "NaN", "Infinity", "-1"])
def test_amounts_are_numbers_of_zero_or_more(text):
    with pytest.raises(ArgumentTypeError, match=text):
        usd(text)


def test_times_are_iso():
    with pytest.raises(ArgumentTypeError, match="yesterday"):
        moment("yesterday")


@pytest.mark.parametrize("books", ["[]", '[{"asset_id": "1", "bids": [], "asks": []}]'])
def test_exits_4_where_no_book_could_be_used_and_still_prints_the_object(snapshot, tmp_path, books):
    empty = tmp_path / "empty.json"
    empty.write_text(books)
    out = io.StringIO()

    with pytest.raises(CommandError) as caught:
        call_command("scan", "--gamma", snapshot[0], "--books", str(empty), "--json", stdout=out)

    assert caught.value.returncode == 4
    assert json.loads(out.getvalue())["opportunities"] == []
