"""Lists as files: what was filtered, whole, and harmless in a spreadsheet."""

from __future__ import annotations

import asyncio
import csv
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import timezone as zone
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponseBase
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from execution import intents
from execution.models import OrderIntent
from markets.models import Event
from mpx_site.access import pace
from mpx_site.portal import exports
from mpx_site.portal.exports import Column
from rules.models import Rule
from tests import portal_cast as cast
from tests.desk_cast import NOW, basket, person, prepare, show, suggested, trader

HOSTILE = (
    "=cmd()",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "\uff1d1",
    "<script>",
)
FORMULA = set("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True)
class Row:
    text: str
    amount: object = None
    parent: Row | None = None


COLUMNS = (Column("text", "text"), Column("amount", "amount"), Column("of", "parent.text"))
LISTS = ("/intents/", "/rules/")


def exported(
    rows: Any, asked: str = "csv", columns: Sequence[Column] = COLUMNS, **options: Any
) -> HttpResponseBase:
    return exports.file_of(rows, columns, asked=asked, name="rows", **options)


def body(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def lines(answer: HttpResponseBase) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body(answer).decode(), newline=""), strict=True))


def test_a_list_is_a_page_unless_a_file_is_asked_for() -> None:
    assert exports.answer(RequestFactory().get("/list/"), [], COLUMNS, name="rows") is None


def test_an_unknown_format_is_refused_and_says_which_there_are() -> None:
    asked = RequestFactory().get("/list/", {"format": "xml"})
    answer: Any = exports.answer(asked, [], COLUMNS, name="rows")
    assert answer.status_code == 400
    assert b"format=csv or format=json" in answer.content


def test_a_csv_is_rfc_4180_and_a_file_with_a_plain_name() -> None:
    answer = exported([Row('a "b", c', Decimal("-1.50"), Row("up")), Row("two\nlines")])

    assert answer["Content-Type"] == "text/csv; charset=utf-8; header=present"
    name = answer["Content-Disposition"]
    assert name.startswith('attachment; filename="mpx-rows-20') and name.endswith('Z.csv"')
    assert body(answer) == (b'text,amount,of\r\n"a ""b"", c",-1.50,up\r\n"two\nlines",,\r\n')


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-5, "-5"),
        (Decimal("-0.000001"), "-0.000001"),
        (Decimal("1E+3"), "1000"),
        (-1.5, "-1.5"),
        (float("nan"), ""),
        (Decimal("Infinity"), ""),
        (True, "true"),
        (None, ""),
        (timedelta(minutes=-2), "-120.0"),
        (datetime(2026, 5, 1, 14, tzinfo=zone(timedelta(hours=2))), "2026-05-01T12:00:00Z"),
        ({"a": "=1"}, '{"a": "=1"}'),
        ("plain", "plain"),
        ("-5", "'-5"),
    ],
)
def test_numbers_stay_numbers_and_text_is_never_a_formula(value: object, cell: str) -> None:
    assert exports.csv_cell(value) == cell


@given(st.lists(st.tuples(st.text(), st.integers() | st.none()), max_size=8))
@example([(text, -1) for text in HOSTILE])
def test_a_csv_reads_back_and_no_text_begins_like_a_formula(
    values: list[tuple[str, int | None]],
) -> None:
    answer = exported([Row(text, amount) for text, amount in values])

    _, *read = lines(answer)

    assert not [text for text, _, _ in read if text[:1] in FORMULA]
    texts = [text[1:] if text[:1] == "'" and text[1:2] in FORMULA else text for text, _, _ in read]
    sent = [text.encode("utf-8", "replace").decode() for text, _ in values]
    ours = [text[1:] if text[:1] == "'" and text[1:2] in FORMULA else text for text in sent]
    assert texts == ours
    assert [amount for _, amount, _ in read] == [
        "" if amount is None else str(amount) for _, amount in values
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
@example(list(HOSTILE))
def test_a_json_reads_back_as_it_is(texts: list[str]) -> None:
    answer = exported([Row(text, Decimal("0.10")) for text in texts], "json")

    read = json.loads(body(answer))

    assert read == {
        "schema": 1,
        "rows": [{"text": text, "amount": "0.10", "of": None} for text in texts],
        "notice": None,
    }


@pytest.mark.parametrize("asked", ["csv", "json"])
def test_what_is_cut_is_said_in_a_header_and_at_the_end(asked: str) -> None:
    answer = exported([Row(str(number)) for number in range(4)], asked, cap=3)

    notice = "Cut: only the first 3 rows are here; narrow the filter."
    assert answer["X-Export-Notice"] == notice
    if asked == "csv":
        assert lines(answer)[1:] == [["0", "", ""], ["1", "", ""], ["2", "", ""], [notice, "", ""]]
    else:
        read = json.loads(body(answer))
        assert (len(read["rows"]), read["notice"]) == (3, notice)


def test_what_fits_the_cap_carries_no_notice() -> None:
    assert "X-Export-Notice" not in exported([Row("one")], cap=1)


def test_a_server_of_either_kind_streams_it_in_parts() -> None:
    rows = [Row(str(number)) for number in range(2 * exports.BATCH)]

    async def read() -> list[bytes]:
        return [part async for part in exported(rows)]  # type: ignore[attr-defined]

    parts = asyncio.run(read())

    assert len(parts) == 3
    assert b"".join(parts) == body(exported(rows))


def test_a_path_goes_through_json_where_a_key_may_be_missing() -> None:
    row = Row("", {"checks": {"ok": True}})

    assert Column("ok", "amount.checks.ok").value(row) is True
    assert Column("gone", "amount.other.ok").value(row) is None


@pytest.mark.django_db
def test_a_query_is_read_in_batches_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "BATCH", 2)
    for number in range(5):
        User.objects.create(username=f"user-{number}")
    columns = (Column("name", "username"),)

    with CaptureQueriesContext(connection) as asked:
        read = lines(exported(User.objects.order_by("-username"), columns=columns, cap=4))

    assert [name for (name,) in read[1:-1]] == ["user-4", "user-3", "user-2", "user-1"]
    assert read[-1] == ["Cut: only the first 4 rows are here; narrow the filter."]
    assert len(asked) == 3  # the keys, and two batches


# --- the lists of the desk -----------------------------------------------------------


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[OrderIntent]:
    """Two orders, of which one was taken back, on an event whose title is a formula."""
    prepare()
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    view, signal = basket()
    show(view)
    Event.objects.update(title="=HYPERLINK(1)")
    dana = trader("dana")
    first = suggested(signal, dana)
    intents.cancel(first.pk, by=dana, at=NOW, reason="-no", idempotency_key="k1")
    return [first, suggested(signal, dana)]


@pytest.mark.django_db
def test_orders_are_exported_as_they_are_filtered(client: Any, orders: list[OrderIntent]) -> None:
    client.force_login(person("val", "viewer"))

    every = lines(client.get("/intents/?format=csv&size=10&page=7"))
    taken_back = json.loads(body(client.get("/intents/?format=json&status=CANCELLED")))

    titles = dict(zip(every[0], every[1], strict=True))
    assert [row[0] for row in every[1:]] == [str(orders[1].pk), str(orders[0].pk)]
    assert titles["event"] == "'=HYPERLINK(1)"
    assert [row["order"] for row in taken_back["rows"]] == [orders[0].pk]
    assert taken_back["rows"][0]["reason"] == "cancelled by dana: -no"
    assert Decimal(taken_back["rows"][0]["at_most_usd"]) == orders[0].notional


@pytest.mark.django_db
def test_positions_and_rules_come_as_files(client: Any, orders: list[OrderIntent]) -> None:
    client.force_login(cast.operator())

    rules = json.loads(body(client.get("/rules/?format=json")))["rows"]
    assert [(row["code"], row["runs"], row["version"]) for row in rules] == [
        (rule.code, True, 1) for rule in Rule.objects.order_by("code")
    ]
    assert lines(client.get("/positions/?format=csv"))[0][:3] == ["event_id", "event", "market_id"]


@pytest.mark.django_db
@pytest.mark.parametrize("page", LISTS)
def test_a_list_links_its_files_and_keeps_its_filter(
    client: Any, orders: list[OrderIntent], page: str
) -> None:
    client.force_login(cast.operator())
    told = html.unescape(client.get(f"{page}?status=open&page=1").content.decode())

    assert 'href="?status=open&format=csv"' in told
    assert 'href="?status=open&format=json"' in told


@pytest.mark.django_db
def test_files_take_the_same_role_as_their_page(client: Any, orders: list[OrderIntent]) -> None:
    client.force_login(person("nobody"))
    assert client.get("/intents/?format=csv").status_code == 403
    assert client.get("/positions/?format=json").status_code == 403


@pytest.mark.django_db
def test_exports_of_a_person_are_bounded_and_come_back(
    client: Any, orders: list[OrderIntent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "EXPORTS", pace.Pace(3, timedelta(hours=1)))
    client.force_login(cast.operator())
    answers = [client.get(f"/intents/?format={asked}") for asked in ("csv", "json", "csv", "json")]
    ticked = {"action": "export_csv", "_selected_action": [orders[0].pk]}
    admin = client.post("/admin/execution/orderintent/", ticked)

    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert answers[3]["Retry-After"] == "1200"
    assert "3 lists an hour. The next one is free in 20 minutes" in answers[3].content.decode()
    assert admin.status_code == 429
    assert client.get("/intents/").status_code == 200
    other = Client()
    other.force_login(person("val", "viewer"))
    assert other.get("/intents/?format=csv").status_code == 200
    monkeypatch.setattr(timezone, "now", lambda: NOW + timedelta(minutes=21))
    again = [client.get("/intents/?format=csv").status_code for _ in range(2)]
    assert again == [200, 429]
