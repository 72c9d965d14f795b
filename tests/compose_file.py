"""`compose.yaml` read as the engine would read it, and its services as plain processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.servers import ROOT, settings_for

OURS = "marketpulse-x:local"
DEFAULT = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
FOLDERS = ("MPX_HOME", "MPX_KEEP_DIR", "MPX_RECORDINGS", "PROMETHEUS_MULTIPROC_DIR")
HOME = "/var/lib/mpx"


def _plain(value: Any) -> Any:
    """Put in defaults, as where nothing is set."""
    if isinstance(value, str):
        return DEFAULT.sub(lambda found: found[2] or "", value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def read() -> dict[str, Any]:
    read: dict[str, Any] = _plain(yaml.safe_load((ROOT / "compose.yaml").read_text()))
    return read


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Return the services that run our image."""
    return {name: each for name, each in services().items() if each["image"] == OURS}


@dataclass(frozen=True)
class Place:
    """Where the services of this machine stand in for those of the compose file."""

    home: Path
    database_port: int
    redis_url: str
    web_port: int
    secrets: Path

    def env(self, name: str, **more: str) -> dict[str, str]:
        """Return a service's environment as it is in the file, with the places of this machine."""
        given = {key: str(value) for key, value in ours()[name]["environment"].items()}
        folders = {key: given[key].replace(HOME, str(self.home)) for key in FOLDERS}
        files = {
            key: value.replace("/run/secrets", str(self.secrets))
            for key, value in given.items()
            if key.endswith("_FILE")
        }
        here = {
            "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(self.database_port),
            "POSTGRES_DB": "postgres", "REDIS_URL": self.redis_url, "STATIC_ROOT": "",
            "DJANGO_SETTINGS_MODULE": "mpx_site.settings",
        }  # fmt: skip
        return settings_for(self.home, **(given | folders | files | here | more))

    def words(self, words: list[str], name: str) -> list[str]:
        """Return a command with the programs of this environment and the port of this machine."""
        scripts = Path(sys.executable).parent
        program = sys.executable if words[0] == "python" else str(scripts / words[0])
        host = ours()[name]["hostname"]
        here = {f"@{host}": f"@{os.uname().nodename}", "0.0.0.0": "127.0.0.1"}
        changed = words[1:]
        for there, place in here.items():
            changed = [word.replace(there, place) for word in changed]
        port = str(self.web_port)
        return [program, *(port if word == "8080" else word.replace(":8080", f":{port}")
                           for word in changed)]  # fmt: skip

    def start(self, name: str, **more: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self.words(ours()[name]["command"], name),
                env=self.env(name, **more), cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip

    def run(self, name: str, words: list[str], *, timeout: float = 120, **more: str) -> Any:
        return subprocess.run(
            self.words(words, name), env=self.env(name, **more), cwd=ROOT,
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def healthy(self, name: str) -> bool:
        """Ask the health check that the file has for a service."""
        return self.run(name, ours()[name]["healthcheck"]["test"][1:]).returncode == 0

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()[-4_000:]
