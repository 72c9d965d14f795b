"""What the stream does for the rest of the desk: the alarm clock outside, looks at the broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
from django.utils import timezone

from alerts import broker
from alerts.models import Heartbeat
from mpx_site.desk_watch import Deadman
from tests.servers import CannotStart, Redis

NOW = 1_780_000_000.0


@contextmanager
def alarm_clock() -> Iterator[tuple[str, list[str]]]:
    """Run a server that notes each call; give its address and the calls."""
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/ping/secret", calls
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_alarm_clock_is_called_once_a_minute_while_rules_are_evaluated() -> None:
    with alarm_clock() as (url, calls):
        deadman = Deadman(url)
        for second in range(0, 180, 2):
            deadman.call(evaluated_at=NOW + second, now=NOW + second)
        assert calls == ["/ping/secret"] * 3

        for second in range(180, 600, 2):  # no frame any more
            deadman.call(evaluated_at=NOW + 178, now=NOW + second)
        assert len(calls) == 4


def test_alarm_clock_that_is_away_stops_nothing_and_its_address_is_not_told(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    Deadman("http://127.0.0.1:1/ping/secret").call(evaluated_at=NOW, now=NOW)

    out, err = capfd.readouterr()
    assert "secret" not in caplog.text + out + err


def test_without_an_address_nobody_is_called() -> None:
    Deadman("").call(evaluated_at=NOW, now=NOW)


@pytest.fixture
def own_redis(settings: Any) -> Iterator[Redis]:
    try:
        server = Redis().start()
    except CannotStart as missing:
        pytest.skip(str(missing))
    settings.REDIS_URL = server.url
    yield server
    server.stop()


def seen() -> Heartbeat | None:
    return Heartbeat.objects.filter(pk="broker").first()


@pytest.mark.django_db
def test_broker_shows_life_while_it_takes_what_is_written(own_redis: Redis) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.rpush("house", "a", "b")
        at = timezone.now()
        assert broker.look(at=at)
        beat = seen()
        assert beat is not None and beat.at == at
        assert beat.detail["queues"] == {"house": 2, "catalogue": 0} | beat.detail["queues"]

        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        assert client.ping()
        assert not broker.look(at=timezone.now())  # it answers, and takes nothing
        client.config_set("maxmemory", 0)
        assert broker.look(at=timezone.now())

    own_redis.stop()
    assert not broker.look(at=timezone.now())
    own_redis.start()
    assert broker.look(at=timezone.now())


@pytest.mark.django_db
def test_in_one_process_there_is_no_broker_to_look_at(settings: Any) -> None:
    settings.REDIS_URL = ""

    assert broker.look(at=timezone.now())
    assert seen() is None
