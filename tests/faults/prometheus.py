"""A real Prometheus that scrapes a desk of a test, asked over its HTTP API."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.servers import ROOT, free_port, wait_for

DEPLOY = ROOT / "deploy"
PROGRAM = shutil.which("prometheus")
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: mpx
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Answers queries at this moment."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}/api/v1"

    def is_ready(self) -> bool:
        try:
            with urlopen(f"{self.base.removesuffix('/api/v1')}/-/ready", timeout=5):
                return True
        except OSError:  # refused, or 503 while it begins
            return False

    def ask(self, path: str, **query: str) -> Any:
        with urlopen(f"{self.base}/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """Return the values of what a query finds."""
        return [float(each["value"][1]) for each in self.ask("query", query=expression)["result"]]


@contextmanager
def scraping(port: int, home: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with the shipped rules on a desk's web process."""
    assert PROGRAM
    config, own = home / "prometheus.yml", free_port()
    config.write_text(CONFIG.format(rules=DEPLOY / "prometheus" / "rules.yml", port=port))
    command = [
        PROGRAM, f"--config.file={config}", f"--storage.tsdb.path={home / 'series'}",
        f"--web.listen-address=127.0.0.1:{own}", "--log.level=error",
    ]  # fmt: skip
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home)
    try:
        found = Prometheus(own)
        wait_for(found.is_ready, seconds=40, what="Prometheus")
        wait_for(lambda: found.values("up") == [1.0], seconds=30, what="the first scrape")
        yield found
    finally:
        process.terminate()
        process.wait(20)
