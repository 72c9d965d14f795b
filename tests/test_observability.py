"""The shipped alert rules and dashboard: every metric they name is there, and the rules work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from alerts import journal
from alerts.meters import INGEST_LATENCY_MS, TRANSITION_SECONDS
from alerts.models import Heartbeat, Voice
from mpx_site import health, metrics
from mpx_site.portal.runbook import anchors
from risk import killswitch
from tests.servers import ROOT

DEPLOY = ROOT / "deploy"
RULES, DASHBOARD = DEPLOY / "prometheus" / "rules.yml", DEPLOY / "grafana" / "mpx.json"
OURS = re.compile(r"\bmpx_[a-z_]+")
promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    promtool is None and "CI" not in os.environ, reason="promtool is not installed"
)


@pytest.fixture
def samples(db, settings) -> set[str]:
    """Names of all samples of a desk whose stream has evaluated something."""
    settings.REDIS_URL = "redis://localhost:1/0"
    at = timezone.now()
    journal.beat("pulse", at=at, progress=1, found=0.1, stored=0.2, heard=0.3)
    journal.beat("broker", at=at, progress=1, queues={"house": 1})
    detail = {"frames": 10, "mean_us": 5.0}
    Heartbeat.objects.create(component="stream", at=timezone.now(), progress=1, detail=detail)
    return set(exposed())


def exposed() -> dict[str, list[tuple[dict[str, str], float]]]:
    health.checkup.forget()
    INGEST_LATENCY_MS.labels("mock").observe(3)
    TRANSITION_SECONDS.labels("approved").observe(3)
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        found.setdefault(family.name, [])
        found.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, [])
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def expressions(path: Path) -> Iterator[str]:
    if path.suffix == ".json":
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])
        return
    for group in yaml.safe_load(path.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_named_is_exposed(path, samples):
    named = {name for expr in expressions(path) for name in OURS.findall(expr)}

    assert named - samples == set()


@pytest.mark.django_db
def test_states_are_those_of_the_database():
    at = timezone.now()
    Heartbeat.objects.create(component="stream", at=at - timedelta(seconds=40), progress=1)
    Voice.objects.create(name="telegram", failures=7, broken="Forbidden: blocked")
    journal.alert(key="k", kind="test", payload={}, at=at)
    killswitch.trip(reason="drill", at=at, actor="test")

    told = exposed()

    assert told["mpx_telegram_failures_total"] == [({}, 7.0)]
    assert told["mpx_voice_broken"] == [({}, 1.0)]
    assert told["mpx_kill_switch"] == [({}, 1.0)]
    assert told["mpx_outbox_pending"] == [({}, 2.0)]  # the kill switch is told, too
    (age,) = [value for labels, value in told["mpx_heartbeat_age_seconds"]]
    assert 39 < age < 60
    limits = {labels["limit"] for labels, _ in told["mpx_limit_used_ratio"]}
    assert {"daily_notional", "concurrent_orders"} <= limits


ASKED = ("check config prometheus.yml", "check rules rules.yml", "test rules rules_test.yml")


@needs_promtool
@pytest.mark.parametrize("what", ASKED)
def test_promtool_is_content(what):
    done = subprocess.run(
        [str(promtool), *what.split()], cwd=DEPLOY / "prometheus", capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_exposition_is_what_prometheus_reads(samples):
    done = subprocess.run(
        [str(promtool), "check", "metrics"], input=metrics.exposition(), capture_output=True
    )

    told = done.stderr.decode() + done.stdout.decode()
    # The names of old have their unit in milliseconds.
    complaints = [line for line in told.splitlines() if "_ms " not in line and line.strip()]
    assert [line for line in complaints if line.startswith("mpx_")] == []


def test_every_alert_has_its_runbook_entry():
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]

    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "/runbook/" and anchor in set(anchors()), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "warn", "info", "none")
