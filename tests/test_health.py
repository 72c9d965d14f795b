"""Probes and metrics: what they say of a well desk, a stale one and one without a database."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from alerts import journal
from alerts.meters import INGEST_LATENCY_MS
from alerts.models import Heartbeat
from execution import intents
from mpx_site import health
from tests import desk_cast
from tests.api_cast import NOON, a_market, a_quote, a_rule, a_signal
from tests.servers import ROOT

pytestmark = pytest.mark.django_db

SEED_METRICS = {
    "mpx_ingest_latency_ms": "histogram",
    "mpx_ingest_last_tick_timestamp": "gauge",
    "mpx_rule_eval_ms": "histogram",
    "mpx_signals": "counter",
    "mpx_order_intents": "counter",
    "mpx_telegram_failures": "counter",
    "mpx_requests": "counter",
    "mpx_health": "gauge",
}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    health.checkup.forget()
    health.unapplied.forget()
    yield
    health.checkup.forget()
    health.unapplied.forget()


def the_stream_beat(*, seconds_ago: float, **detail: object) -> None:
    at = timezone.now() - timedelta(seconds=seconds_ago)
    Heartbeat.objects.create(component="stream", at=at, progress=42, detail=detail)


def lose_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(health, "Desk", fail)


def test_a_well_desk_says_ok_to_anybody(client: Client) -> None:
    the_stream_beat(seconds_ago=1)

    response = client.get("/api/healthz")

    told = response.json()
    assert response.status_code == 200
    assert (told["status"], told["db"], told["rules_heartbeat"]) == ("ok", "ok", "ok")
    stream = told["components"]["stream"]
    assert (stream["state"], stream["progress"]) == ("ok", 42)
    assert 1 <= stream["age_seconds"] < 5
    assert told["time"].endswith("Z")


@pytest.mark.parametrize(
    ("seconds_ago", "heartbeat", "state", "status"),
    [
        (9, "ok", "ok", "ok"),
        (13, "ok", "late", "ok"),
        (16, "ok", "late", "degraded"),
        (31, "stale", "stale", "degraded"),
    ],
)
def test_heartbeat_is_judged_by_its_age(
    client: Client, seconds_ago: int, heartbeat: str, state: str, status: str
) -> None:
    the_stream_beat(seconds_ago=seconds_ago)

    told = client.get("/api/healthz").json()

    assert told["rules_heartbeat"] == heartbeat
    assert told["components"]["stream"]["state"] == state
    assert told["status"] == status


def test_a_desk_that_never_ran_has_no_data_and_is_not_ok(client: Client) -> None:
    response = client.get("/api/healthz")

    told = response.json()
    assert response.status_code == 200
    assert (told["status"], told["rules_heartbeat"]) == ("degraded", "no_data")
    assert told["components"]["stream"] == {
        "state": "no_data",
        "at": None,
        "age_seconds": None,
        "progress": 0,
        "lag_seconds": None,
    }


def test_part_that_is_missed_makes_the_desk_unwell_and_is_named(
    client: Client, settings: Any
) -> None:
    settings.REDIS_URL = "redis://localhost:1/0"
    the_stream_beat(seconds_ago=1)
    journal.beat("beat", at=timezone.now() - timedelta(seconds=40), progress=1)
    journal.beat("worker", at=timezone.now(), progress=1)

    told = client.get("/api/healthz").json()
    missed = values(scraped(client)["mpx_component_silent"])

    assert (told["status"], told["silent"]) == ("degraded", ["beat"])
    assert told["rules_heartbeat"] == "ok"
    assert {labels[1]: value for labels, value in missed.items()} == {
        "stream": 0, "worker": 0, "beat": 1,
    }  # fmt: skip


def test_one_process_has_no_beat_and_no_broker_to_miss(client: Client, settings: Any) -> None:
    settings.REDIS_URL = ""
    the_stream_beat(seconds_ago=1)
    for part in ("beat", "broker"):  # from when the desk was larger
        journal.beat(part, at=timezone.now() - timedelta(days=3), progress=1)

    told = client.get("/api/healthz").json()

    assert (told["status"], told["silent"]) == ("ok", [])


def test_pulse_is_shown_with_its_age_and_its_lag(client: Client) -> None:
    the_stream_beat(seconds_ago=1)
    at = timezone.now() - timedelta(seconds=12)
    journal.beat("pulse", at=at, progress=3, found=0.002, stored=0.03, heard=0.25)

    told = client.get("/api/healthz").json()["components"]["pulse"]
    families = scraped(client)

    assert (told["state"], told["lag_seconds"]) == ("ok", 0.25)
    assert values(families["mpx_pulse_lag_seconds"]) == {("mpx_pulse_lag_seconds",): 0.25}
    (sent,) = values(families["mpx_pulse_timestamp_seconds"]).values()
    assert sent == pytest.approx(at.timestamp(), abs=0.01)
    assert values(families["mpx_stage_lag_seconds"])["mpx_stage_lag_seconds", "found"] == 0.002


def test_jobs_that_wait_are_known_while_the_broker_is(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://localhost:1/0"
    journal.beat("broker", at=timezone.now(), progress=3, queues={"house": 3, "catalogue": 0})
    known = values(scraped(client)["mpx_queue_depth"])
    Heartbeat.objects.update(at=timezone.now() - timedelta(minutes=1))
    families = scraped(client)

    assert known == {("mpx_queue_depth", "house"): 3, ("mpx_queue_depth", "catalogue"): 0}
    assert "mpx_queue_depth" not in families


def test_build_is_named(client: Client) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    (sample,) = scraped(client)["mpx_build_info"].samples

    assert sample.labels["version"] == project["version"]
    assert sample.value == 1


def test_without_a_database_traffic_is_sent_elsewhere(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_database(monkeypatch)

    response = client.get("/api/healthz")

    assert response.status_code == 503
    assert response.json()["status"] == response.json()["db"] == "down"


def test_many_probes_ask_the_database_once(
    client: Client, django_assert_num_queries: Callable[[int], Any]
) -> None:
    client.get("/api/healthz")

    with django_assert_num_queries(0):
        for _ in range(20):
            client.get("/api/healthz")


def test_the_process_is_alive_without_asking_the_database(
    client: Client, django_assert_num_queries: Callable[[int], Any]
) -> None:
    with django_assert_num_queries(0):
        assert client.get("/livez").json() == {"status": "ok"}


def test_ready_when_every_migration_is_applied(client: Client) -> None:
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {"status": "ok", "db": "ok", "unapplied_migrations": 0}


@pytest.mark.parametrize(("missing", "db"), [(3, "ok"), (None, "down")])
def test_not_ready_without_tables_or_database(
    client: Client, monkeypatch: pytest.MonkeyPatch, missing: int | None, db: str
) -> None:
    monkeypatch.setattr(health, "unapplied", health.Remembered(lambda: missing))

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {
        "status": "not_ready",
        "db": db,
        "unapplied_migrations": missing,
    }


def scraped(client: Client) -> dict[str, Any]:
    text = client.get("/metrics").content.decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family: Any) -> dict[tuple[str, ...], float]:
    return {(s.name, *s.labels.values()): s.value for s in family.samples}


def test_metrics_have_the_seeds_names_and_types(client: Client) -> None:
    families = scraped(client)

    assert {name: families[name].type for name in SEED_METRICS} == SEED_METRICS


def test_state_comes_from_the_database(client: Client, settings: Any) -> None:
    settings.DATA_SOURCE = "mock"
    the_stream_beat(seconds_ago=1, frames=2_000, mean_us=150.0)
    version = a_rule()
    a_rule("SILENT")
    for minute in range(3):
        a_signal(version, minutes=minute)
    a_quote(a_market("m1"), bid="0.4", ask="0.5")

    families = scraped(client)

    assert values(families["mpx_health"]) == {("mpx_health",): 1}
    assert values(families["mpx_signals"]) == {
        ("mpx_signals_total", "DUTCH_BOOK_DETECT"): 3,
        ("mpx_signals_total", "SILENT"): 0,
    }
    assert values(families["mpx_ingest_last_tick_timestamp"]) == {
        ("mpx_ingest_last_tick_timestamp", "mock"): NOON.timestamp()
    }
    assert values(families["mpx_rule_eval_ms"]) == {
        ("mpx_rule_eval_ms_bucket", "+Inf"): 2_000,
        ("mpx_rule_eval_ms_count",): 2_000,
        ("mpx_rule_eval_ms_sum",): 300,
    }


def test_intents_are_counted_by_each_status_they_reached(client: Client) -> None:
    desk_cast.prepare()
    view, signal = desk_cast.basket()
    desk_cast.show(view)
    dana, avi = desk_cast.trader(), desk_cast.approver()
    intent = desk_cast.approved(signal, dana, avi)
    intents.cancel(intent.pk, by=dana, at=desk_cast.NOW)

    counted = values(scraped(client)["mpx_order_intents"])

    reached = {status for (_, status), count in counted.items() if count == 1}
    assert reached == {"suggested", "approved", "cancelled"}
    assert counted["mpx_order_intents_total", "filled"] == 0


@pytest.mark.django_db(transaction=True)
def test_steps_are_timed_and_failed_checks_counted(client: Client) -> None:
    before = scraped(client)
    desk_cast.prepare()
    view, signal = desk_cast.basket()
    desk_cast.show(view)
    dana = desk_cast.trader()
    intent = desk_cast.suggested(signal, dana)
    at = desk_cast.NOW + timedelta(seconds=4)

    refused = intents.approve(intent.pk, by=dana, at=at, plan_hash=intent.plan_hash)
    intents.cancel(intent.pk, by=dana, at=at)

    families = scraped(client)
    took = values(families["mpx_intent_transition_seconds"])
    name = "mpx_intent_transition_seconds_sum", "cancelled"
    earlier = values(before["mpx_intent_transition_seconds"]).get(name, 0)
    assert took[name] - earlier == 4
    assert not refused.applied
    counted, known = (values(each["mpx_check_failures"]) for each in (families, before))
    for check in refused.verdict.names:
        key = "mpx_check_failures_total", check
        assert counted[key] - known.get(key, 0) == 1


def test_a_file_name_is_no_label(client: Client, settings: Any) -> None:
    settings.DATA_SOURCE = "replay:/recordings/monday.jsonl.gz"
    a_quote(a_market("m1"), bid="0.4", ask="0.5")

    [key] = values(scraped(client)["mpx_ingest_last_tick_timestamp"])

    assert key[1] == "replay"


def test_no_data_is_no_sample(client: Client) -> None:
    families = scraped(client)

    assert families["mpx_ingest_last_tick_timestamp"].samples == []
    assert values(families["mpx_health"]) == {("mpx_health",): 0}


def test_metrics_say_unwell_without_a_database(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_database(monkeypatch)

    families = scraped(client)

    assert values(families["mpx_health"]) == {("mpx_health",): 0}
    assert values(families["mpx_database_up"]) == {("mpx_database_up",): 0}
    assert "mpx_signals" not in families
    assert "mpx_requests" in families


def test_each_request_is_counted_once(client: Client) -> None:
    before = values(scraped(client)["mpx_requests"])["mpx_requests_total",]

    for _ in range(3):
        client.get("/livez")

    after = values(scraped(client)["mpx_requests"])["mpx_requests_total",]
    assert after - before == 4  # the three, and the second scrape itself


def test_what_this_process_counts_is_scraped(client: Client) -> None:
    INGEST_LATENCY_MS.labels("mock").observe(7)

    latency = values(scraped(client)["mpx_ingest_latency_ms"])

    assert latency["mpx_ingest_latency_ms_count", "mock"] >= 1


LOCAL = {"REMOTE_ADDR": "127.0.0.1"}
REMOTE = {"REMOTE_ADDR": "203.0.113.9"}


@pytest.mark.parametrize(
    ("where", "headers", "token", "status"),
    [
        (LOCAL, {}, "", 200),
        ({"REMOTE_ADDR": "::1"}, {}, "", 200),
        ({"REMOTE_ADDR": "::ffff:127.0.0.1"}, {}, "", 200),
        (REMOTE, {}, "", 403),
        ({"REMOTE_ADDR": ""}, {}, "", 403),
        (LOCAL, {"X-Forwarded-For": "203.0.113.9"}, "", 403),
        (REMOTE, {"X-Forwarded-For": "127.0.0.1"}, "", 403),
        (REMOTE, {"Authorization": "Bearer right-token"}, "right-token", 200),
        (REMOTE, {"X-API-Key": "right-token"}, "right-token", 200),
        (REMOTE, {"Authorization": "Bearer wrong-token"}, "right-token", 403),
        (REMOTE, {"Authorization": "Bearer "}, "", 403),
        (REMOTE, {"X-API-Key": "change-me"}, "change-me", 403),
    ],
)
def test_metrics_are_for_this_machine_or_a_token(
    client: Client,
    settings: Any,
    where: dict[str, str],
    headers: dict[str, str],
    token: str,
    status: int,
) -> None:
    settings.ADMIN_API_TOKEN = token

    response = client.get("/metrics", headers=headers, **where)

    assert response.status_code == status
    if status == 403:
        assert response["Content-Type"] == "application/problem+json"
        assert b"mpx_" not in response.content
