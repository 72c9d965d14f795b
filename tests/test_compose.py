"""`compose.yaml`, `Dockerfile` and what is beside them: shut doors, and commands that exist."""

from __future__ import annotations

import importlib.util
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands

from mpx_site import configuration
from tests.compose_file import ours, read, services
from tests.servers import ROOT

ALL = services()
RUNNING = {name: each for name, each in ALL.items() if name != "migrate"}
SECRET_WORDS = re.compile(r"PASSWORD|TOKEN|SECRET|_KEY$", re.IGNORECASE)


@pytest.mark.parametrize("name", ALL)
def test_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = ALL[name]

    user, _, group = service["user"].partition(":")
    assert user.isdecimal()
    assert int(user) > 0
    assert group.isdecimal()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "network_mode"} & service.keys()
    assert not [each for each in service.get("volumes", []) if "docker.sock" in each]


@pytest.mark.parametrize("name", ALL)
def test_service_is_bounded_and_its_log_too(name: str) -> None:
    limits = ALL[name]["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) <= 2
    assert re.fullmatch(r"\d+[mg]", limits["memory"])
    assert ALL[name]["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


@pytest.mark.parametrize("name", RUNNING)
def test_what_runs_is_asked_whether_it_is_well_and_has_time_to_end(name: str) -> None:
    service = RUNNING[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["restart"] == "unless-stopped"
    assert int(service["stop_grace_period"].removesuffix("s")) >= 15


@pytest.mark.parametrize("name", ALL)
def test_ports_are_open_on_loopback_alone(name: str) -> None:
    for port in ALL[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_database_and_redis_are_reached_from_inside_alone() -> None:
    inside = read()["networks"]["inside"]
    assert inside["internal"] is True
    for name in ("timescaledb", "redis"):
        assert ALL[name]["networks"] == ["inside"]
        assert "ports" not in ALL[name]


@pytest.mark.parametrize("name", ALL)
def test_secrets_come_from_files(name: str) -> None:
    given = ALL[name].get("environment", {})
    for key, value in given.items():
        if SECRET_WORDS.search(key) and not key.upper().endswith("_FILE"):
            assert value == "", f"{key} is written into compose.yaml"
    files = [value for key, value in given.items() if key.upper().endswith("_FILE") and value]
    assert {Path(file).name for file in files} <= set(ALL[name].get("secrets", []))


def test_files_named_for_secrets_are_read_by_our_settings() -> None:
    text = (ROOT / "mpx_site/settings.py").read_text() + Path(configuration.__file__).read_text()
    for name, service in ours().items():
        for key in service["environment"]:
            if key.endswith("_FILE"):
                assert f'secret("{key.removesuffix("_FILE")}")' in text, f"{name}: {key}"


def test_images_of_others_are_pinned() -> None:
    for name, service in ALL.items():
        tag = service["image"].partition(":")[2]
        assert name in ours() or re.search(r"\d+\.\d+", tag), service["image"]


@pytest.mark.parametrize("name", ours())
def test_command_is_one_that_exists(name: str) -> None:
    for words in (ours()[name]["command"], ours()[name]["healthcheck"].get("test", [])[1:]):
        if words[:2] == ["python", "manage.py"]:
            assert words[2] in get_commands()
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).is_file()
        elif words:
            assert (Path(sys.executable).parent / words[0]).is_file()


def test_every_queue_has_one_kind_of_worker() -> None:
    told = [word for each in ours().values() for word in each["command"]]
    queues = [
        queue
        for word in told
        if word.startswith("--queues=")
        for queue in word.removeprefix("--queues=").split(",")
    ]
    assert sorted(queues) == sorted(queue.name for queue in settings.CELERY_TASK_QUEUES)


def test_only_what_migrates_may_start_before_the_tables_are_there() -> None:
    for name, service in ours().items():
        waits = service["depends_on"]
        assert waits["timescaledb"] == {"condition": "service_healthy"}
        if name != "migrate":
            assert waits["migrate"] == {"condition": "service_completed_successfully"}


def test_everybody_shares_what_must_be_shared() -> None:
    folders = ("MPX_HOME", "MPX_KEEP_DIR", "MPX_RECORDINGS", "PROMETHEUS_MULTIPROC_DIR")
    for service in ours().values():
        assert "home:/var/lib/mpx" in service["volumes"]
        assert all(service["environment"][key].startswith("/var/lib/mpx") for key in folders)


def test_mounted_files_are_there() -> None:
    for service in ALL.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), volume


def test_image_runs_as_nobody_special_and_takes_no_secrets_along() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    user = re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE)
    assert user == [ours()["web"]["user"]]
    assert "--require-hashes" in dockerfile
    assert {".env", ".git", "var", "deploy/secrets", "deploy/backups", "*.sqlite3*"} <= set(ignored)
    assert "COPY . /app" in dockerfile


@pytest.mark.parametrize("target", ["up", "migrate", "seed", "smoke", "logs", "down", "backup"])
def test_make_knows_the_target(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "docker compose" in done.stdout


def test_secrets_are_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    maker = _script("make_secrets")
    folder = tmp_path / "secrets"

    made = maker.make(folder)
    first = {name: (folder / name).read_text() for name in made}

    assert maker.make(folder) == []
    assert {name: (folder / name).read_text() for name in made} == first
    assert set(made) == set(read()["secrets"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(first["secret_key"]) >= 40
    assert first["telegram_bot_token"] == ""


def test_prometheus_and_grafana_are_given_what_is_shipped() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    token = Path(job["authorization"]["credentials_file"]).name
    assert token in ALL["prometheus"]["secrets"]
    assert job["static_configs"] == [{"targets": ["web:8080"]}]
    assert "web" in str(ours()["web"]["environment"]["ALLOWED_HOSTS"]).split(",")
    source = yaml.safe_load((ROOT / "deploy/compose/grafana-datasource.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_engine_accepts_the_file() -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed, so `docker compose config` cannot be asked")
    version = subprocess.run(["docker", "compose", "version"], capture_output=True)
    if version.returncode:
        pytest.skip("this docker has no compose plugin, so its `config` cannot be asked")

    done = subprocess.run(
        ["docker", "compose", "--file", "compose.yaml", "config", "--quiet"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def _script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"deploy/compose/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
