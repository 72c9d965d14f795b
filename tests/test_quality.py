"""Data quality as a page, a file and over the API."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from alerts import journal
from markets.models import Gap, Market, Quarantine, Quote

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def viewer() -> Client:
    user = User.objects.create_user("vic")
    user.groups.add(Group.objects.get(name="viewer"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def half_known() -> None:
    """Two markets followed for ten hours; a connection was cut for five of them."""
    now = timezone.now()
    for pk in ("600", "601"):
        Market.objects.create(
            pk=pk, question=f"Will <b>{pk}</b> win?", state="TRADABLE", tick_size="0.01",
            min_size=5, seen_at=now,
        )  # fmt: skip
        Quote.objects.create(market_id=pk, state="fresh", at=now)
    Market.objects.update(created_at=now - 10 * HOUR)
    Gap.objects.create(
        kind="CONNECTION", subject="7", reason="no <i>pong</i>", books=2, ending="HEALED",
        opened_at=now - 8 * HOUR, healed_at=now - 3 * HOUR, healing_seconds=18_000,
    )  # fmt: skip
    Quarantine.objects.create(
        source="ws", reason="drift", subject="601", count=4, first_at=now, last_at=now
    )


def test_the_page_says_how_much_was_known_and_why_not_the_rest(viewer, half_known):
    page = viewer.get("/health/data/").content.decode()

    assert "50 % known" in page or "49.99 % known" in page
    assert "no &lt;i&gt;pong&lt;/i&gt;" in page and "Will &lt;b&gt;600&lt;/b&gt; win?" in page
    assert "5 h" in page and "drift" in page
    assert "not compared yet" in page


def test_a_desk_that_follows_nothing_says_so(viewer):
    page = viewer.get("/health/data/?hours=1").content.decode()

    assert "nothing followed" in page and "No market was followed." in page
    assert "No connection was cut." in page and "Every book agreed." in page


def test_a_replay_that_differs_is_seen(viewer):
    journal.beat(
        "replay", at=timezone.now(), progress=3, outcome="differs", line="differs: 2 of 3 spans"
    )

    page = viewer.get("/health/data/").content.decode()

    assert "DIFFERS" in page and "differs: 2 of 3 spans" in page


def test_the_file_has_every_market(viewer, half_known):
    file = b"".join(viewer.get("/health/data/?format=json").streaming_content)

    rows = json.loads(file)["rows"]
    assert [row["market_id"] for row in rows] == ["600", "601"]
    assert float(rows[0]["share"]) == pytest.approx(0.5, abs=0.001)


def test_the_api_tells_the_same(viewer, half_known):
    told = viewer.get("/api/v1/data-quality?markets=1").json()

    assert told["share"] == pytest.approx(0.5, abs=0.001)
    assert told["followed"] == 2 and len(told["markets"]) == 1
    assert told["missing"][0]["reason"] == "no <i>pong</i>"
    assert told["epochs"] == [
        {"connection": "7", "epochs": 2, "cut_seconds": pytest.approx(18_000),
         "last_at": told["epochs"][0]["last_at"]},
    ]  # fmt: skip
    assert told["drift"][0]["market_id"] == "601"


@pytest.mark.parametrize(
    "query",
    ["since=2026-03-02T00:00:00Z&until=2026-03-01T00:00:00Z", "since=2099-01-01T00:00:00Z",
     "since=1999-01-01T00:00:00Z", "since=2026-01-01T00:00:00Z&until=2026-06-01T00:00:00Z",
     "markets=-1", "wat=1"],
)  # fmt: skip
def test_a_window_that_cannot_be_is_refused(viewer, query):
    assert viewer.get(f"/api/v1/data-quality?{query}").status_code == 400


def test_the_page_asks_as_much_however_much_there_is(
    viewer, half_known, django_assert_max_num_queries
):
    now = timezone.now()
    for number in range(20):
        Gap.objects.create(
            kind="ASSET", subject="600", books=1, reason=f"r{number}", ending="PROCESS_ENDED",
            opened_at=now - HOUR + timedelta(seconds=number),
        )  # fmt: skip

    with django_assert_max_num_queries(20):
        viewer.get("/health/data/")
