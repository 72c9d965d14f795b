"""The servers that the suite starts for itself: they answer, and they leave nothing behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import psycopg
import pytest
import redis

from tests.servers import ROOT, Postgres, accepts, wait_for

START_AND_WAIT = """
from tests.servers import {server}
server = {server}()
server.start()
print(server.port, getattr(server, "home", ""), flush=True)
input()
"""


def test_private_redis_answers(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()


def test_postgresql_keeps_its_data_when_it_is_stopped_and_started(own_postgres: Postgres):
    with psycopg.connect(own_postgres.url, autocommit=True) as before:
        before.execute("CREATE TABLE kept AS SELECT 7 AS number")

    own_postgres.stop()
    assert not accepts(own_postgres.port)
    own_postgres.start()

    with psycopg.connect(own_postgres.url) as after:
        assert after.execute("SELECT number FROM kept").fetchone() == (7,)


@pytest.mark.parametrize("server", ["Redis", "Postgres"])
def test_server_ends_with_whoever_started_it(server, request):
    request.getfixturevalue("redis_url" if server == "Redis" else "postgres_url")  # or skip
    command = [sys.executable, "-c", START_AND_WAIT.format(server=server)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as starter:
        port, home = starter.stdout.readline().rstrip("\n").split(" ", 1)
        assert accepts(int(port))
        starter.send_signal(signal.SIGKILL)

    wait_for(lambda: not accepts(int(port)), seconds=20, what=f"{server} to end")
    shutil.rmtree(home, ignore_errors=True)
