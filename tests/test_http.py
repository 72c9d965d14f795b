"""The venue's HTTP over real sockets: what arrives is whole, or a named refusal in time."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from markets.polymarket import http
from markets.polymarket.http import Patience, VenueHttp
from tests.tiny_venue import FakeTime, client, reply, says, tiny_venue

HASTY = Patience(tries=1)
PAGE = b'{"events":[]}'
GOOD = reply(PAGE)
SECRET = "7132104567925298"  # stands for a token id that must not show up in a message


async def failure(url, path="/book", clock=None, **options) -> http.VenueError:
    async with client(url, clock, **options) as venue:
        with pytest.raises(http.VenueError) as caught:
            await venue.get("clob", path, (("token_id", SECRET),))
    assert SECRET not in str(caught.value)
    return caught.value


# --- good answers ---------------------------------------------------------


async def test_a_good_answer_is_handed_over_as_a_frame_with_path_and_query():
    frames, clock = [], FakeTime()
    async with (
        tiny_venue(says(GOOD)) as server,
        client(server.url, clock, on_answer=frames.append) as venue,
    ):
        body = await venue.get("gamma", "/events/keyset", (("id", "1"), ("id", "2")))

    assert body == PAGE
    assert [(f.t, f.ch, f.body, f.conn, f.req) for f in frames] == [
        (clock.wall(), "gamma", PAGE, None, "/events/keyset?id=1&id=2")
    ]
    assert venue.counts == {"gamma.requests": 1, "gamma.answers": 1}


async def test_plain_text_is_asked_for_on_a_connection_that_is_used_again():
    async with tiny_venue(says(GOOD)) as server, client(server.url) as venue:
        for _ in range(5):
            await venue.get("clob", "/book")

    assert {heard.headers["accept-encoding"] for heard in server.heard} == {"identity"}
    assert server.connections == 1


async def test_an_address_may_have_a_path_of_its_own():
    async with tiny_venue(says(GOOD)) as server, client(server.url + "/proxied/") as venue:
        await venue.get("clob", "/book")

    assert server.heard[0].target == "/proxied/book"


async def test_proxies_named_in_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with tiny_venue(says(GOOD)) as server, client(server.url) as venue:
        assert await venue.get("clob", "/book") == PAGE


@pytest.mark.parametrize(
    "url", ["ftp://host", "clob.example", "http://", "http://a:b@host", "http://host?x=1"]
)
def test_an_address_that_is_no_plain_http_address_is_refused(url):
    with pytest.raises(ValueError, match="must be http"):
        VenueHttp(gamma_url=url, clob_url="http://127.0.0.1")


async def test_only_batch_reads_can_be_posted():
    async with tiny_venue(says(GOOD)) as server, client(server.url) as venue:
        with pytest.raises(ValueError, match="/order"):
            await venue.post("clob", "/order", b"{}")

    assert server.heard == []


# --- time -----------------------------------------------------------------


async def drip(_heard, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_a_drip_is_cut_at_the_deadline_while_other_requests_go_on():
    async def answer(heard, writer):
        return await drip(heard, writer) if heard.path == "/book" else GOOD

    patience = Patience(request=0.6, tries=1)
    async with tiny_venue(answer) as server, client(server.url, patience=patience) as venue:
        began = time.monotonic()
        dripping = asyncio.create_task(venue.get("clob", "/book"))
        others = 0
        while not dripping.done():
            assert await venue.get("clob", "/clob-markets/0x1") == PAGE
            others += 1
            await asyncio.sleep(0.02)
        took = time.monotonic() - began
        with pytest.raises(http.TooSlow, match=r"within 0\.6 s"):
            await dripping

    assert 0.5 < took < 2.0
    assert others > 5


async def test_drips_that_take_all_slots_of_one_route_do_not_block_another():
    async def answer(heard, writer):
        return await drip(heard, writer) if heard.path == "/book" else GOOD

    patience = Patience(request=0.5, tries=1)
    async with tiny_venue(answer) as server, client(server.url, patience=patience) as venue:
        drips = [asyncio.create_task(venue.get("clob", "/book")) for _ in range(http.SLOTS + 2)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await venue.post("clob", "/books", b"[]")
        took = time.monotonic() - began
        results = await asyncio.gather(*drips, return_exceptions=True)

    assert took < 0.4
    assert {type(result) for result in results} == {http.TooSlow}


async def test_silence_before_the_first_byte_ends_at_the_deadline_too():
    async def silence(_heard, _writer):
        await asyncio.sleep(60)

    async with tiny_venue(silence) as server:
        error = await failure(server.url, patience=Patience(request=0.2, tries=1))

    assert isinstance(error, http.TooSlow)
    assert not error.permanent


async def test_cancelling_a_request_is_not_taken_for_slowness():
    async with tiny_venue(drip) as server, client(server.url) as venue:
        asking = asyncio.create_task(venue.get("clob", "/book"))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    assert venue.counts == {"clob.requests": 1}


# --- size -----------------------------------------------------------------


@pytest.fixture
def peak_mb():
    """Tell by how many MB our memory has been above what it was, at most."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("the peak of our memory can only be read on Linux")

    def mb(name):
        status = Path("/proc/self/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1000

    reset.write_text("5")
    before = mb("VmRSS")
    return lambda: mb("VmHWM") - before


async def test_an_endless_body_is_cut_at_the_cap(peak_mb):
    sent = 0

    async def endless(_heard, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        while True:
            writer.write(chunk)
            await writer.drain()
            sent += 0x10000

    async with tiny_venue(endless) as server:
        error = await failure(server.url)

    assert isinstance(error, http.TooLarge)
    assert error.permanent
    assert "32,000,000 bytes" in str(error)
    assert http.BODY_CAP - 1e6 < sent < http.BODY_CAP + 20e6
    assert len(server.heard) == 1, "not tried again"
    assert peak_mb() < 2 * http.BODY_CAP / 1e6


async def test_a_body_announced_as_too_large_is_not_read(peak_mb):
    async def huge(_heard, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n")
        await asyncio.sleep(60)

    async with tiny_venue(huge) as server:
        error = await failure(server.url)

    assert isinstance(error, http.TooLarge)
    assert peak_mb() < 5


async def test_a_body_of_exactly_the_cap_is_taken():
    body = b'"' + b"x" * 98 + b'"'
    async with tiny_venue(says(reply(body))) as server:
        async with client(server.url, body_cap=100) as venue:
            assert await venue.get("clob", "/book") == body
        error = await failure(server.url, body_cap=99)

    assert isinstance(error, http.TooLarge)


async def test_a_gzip_bomb_is_refused_unread(peak_mb):
    bomb = gzip.compress(bytes(20_000_000), 9) * 10  # 200 kB that unpack to 200 MB
    async with tiny_venue(says(reply(bomb, headers=["Content-Encoding: gzip"]))) as server:
        error = await failure(server.url)

    assert isinstance(error, http.Compressed)
    assert error.permanent
    assert peak_mb() < 45  # 20 MB of it are ours, to make the bomb


async def test_a_huge_refusal_is_not_kept(peak_mb):
    sent = 0

    async def rambling(_heard, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 500 Failed\r\nContent-Length: 500000000\r\n\r\n")
        while True:
            writer.write(b" " * 0x10000)
            await writer.drain()
            sent += 0x10000

    async with tiny_venue(rambling) as server:
        error = await failure(server.url, patience=HASTY)

    assert isinstance(error, http.ServerFault)
    assert sent < 20e6
    assert peak_mb() < 10


# --- refusals -------------------------------------------------------------


def refusal(status, text="", *headers):
    return reply(text.encode(), status=status, headers=headers)


CANCEL_ONLY = '{"error":"Trading is currently cancel-only. New orders are not accepted"}'
POST_ONLY = '{"error":"post-only mode","code":"post_only_mode","retry_after_seconds":79}'
HTML = "<!doctype html><title>Attention Required!</title>"


@pytest.mark.parametrize(
    ("answer", "kind", "permanent", "mode", "retry_after"),
    [
        (refusal(400, '{"error":"Invalid token id"}'), http.BadRequest, True, None, None),
        (refusal(404, '{"error":"No orderbook exists"}'), http.NotFound, True, None, None),
        (refusal(422, "{}"), http.BadRequest, True, None, None),
        (refusal(418), http.BadRequest, True, None, None),
        (refusal(425), http.Restarting, False, "restarting", None),
        (refusal(429, "", "Retry-After: 12"), http.RateLimited, False, None, 12.0),
        (refusal(429, '{"retry_after_seconds":2.5}'), http.RateLimited, False, None, 2.5),
        (refusal(429, HTML), http.RateLimited, False, None, None),
        (refusal(503, CANCEL_ONLY), http.Restricted, False, "cancel_only", None),
        (refusal(503, POST_ONLY), http.Restricted, False, "post_only", 79.0),
        (refusal(503, POST_ONLY, "Retry-After: 80"), http.Restricted, False, "post_only", 80.0),
        (refusal(503, HTML), http.ServerFault, False, None, None),
        (refusal(503, '{"error":7}'), http.ServerFault, False, None, None),
        (refusal(500), http.ServerFault, False, None, None),
        (refusal(502, POST_ONLY), http.ServerFault, False, None, 79.0),
        (reply(b'{"x":' + b"[" * 9_000, status=503), http.ServerFault, False, None, None),
    ],
)
async def test_a_refusal_says_what_can_be_done(answer, kind, permanent, mode, retry_after):
    async with tiny_venue(says(answer)) as server:
        error = await failure(server.url, patience=HASTY)

    assert type(error) is kind
    assert (error.permanent, error.mode, error.retry_after) == (permanent, mode, retry_after)
    assert (error.service, error.path) == ("clob", "/book")
    assert error.status == int(answer.split()[1])
    assert str(error).startswith("CLOB /book: ")


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        (["Server: cloudflare", "Content-Type: text/html"], "by Cloudflare"),
        (["CF-Mitigated: challenge"], "by Cloudflare"),
        (["Content-Type: text/html"], "by an HTML page"),
        (["Content-Type: application/json"], r"denied \(403\)\."),
    ],
)
async def test_a_block_is_told_by_its_headers_and_its_page_is_never_waited_for(headers, named):
    async def answer(_heard, writer):
        head = ["HTTP/1.1 403 Forbidden", "Content-Length: 100000", *headers]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + HTML.encode())
        await asyncio.sleep(60)

    async with tiny_venue(answer) as server:
        error = await failure(server.url)

    assert type(error) is http.Blocked
    assert re.search(named, str(error))
    assert (error.status, error.permanent, error.retry_after) == (403, False, 300.0)
    assert len(server.heard) == 1, "not hammered"


async def test_a_redirect_is_not_followed():
    async with tiny_venue(says(GOOD)) as elsewhere:
        away = reply(b"", status=302, headers=[f"Location: {elsewhere.url}/latest/meta-data"])
        async with tiny_venue(says(away)) as server:
            error = await failure(server.url)

    assert type(error) is http.Redirected
    assert error.permanent
    assert elsewhere.heard == []


@pytest.mark.parametrize("body", [b"", b"OK", HTML.encode(), b'{"bids":[', b"[" * 200_000, b"{}{}"])
async def test_what_is_no_json_is_refused_and_recorded_nowhere(body):
    frames = []
    async with tiny_venue(says(reply(body))) as server:
        error = await failure(server.url, patience=HASTY, on_answer=frames.append)

    assert type(error) is http.NotJson
    assert frames == []


async def test_text_may_be_anything_and_is_no_frame():
    frames = []
    async with (
        tiny_venue(says(reply(b"OK\n"))) as server,
        client(server.url, on_answer=frames.append) as venue,
    ):
        assert await venue.get_text("clob", "/ok") == "OK"

    assert frames == []


def test_errors_survive_a_pickle():
    error = http.Restricted("clob", "/book", "odd", status=503, retry_after=7.0, mode="post_only")

    again = pickle.loads(pickle.dumps(error))

    assert (str(again), vars(again)) == (str(error), vars(error))


# --- broken connections ---------------------------------------------------


async def test_a_truncated_body_is_an_error_and_recorded_nowhere():
    async def half(_heard, writer):
        writer.write(GOOD[:-5])
        await writer.drain()

    frames = []
    async with tiny_venue(half) as server:
        error = await failure(server.url, patience=HASTY, on_answer=frames.append)

    assert type(error) is http.CutShort
    assert not error.permanent
    assert frames == []


async def test_a_reset_in_the_middle_of_a_body():
    async def reset(_heard, writer):
        writer.write(GOOD[:-5])
        await writer.drain()
        await asyncio.sleep(0.05)
        _reset(writer)

    async with tiny_venue(reset) as server:
        error = await failure(server.url, patience=HASTY)

    assert type(error) is http.CutShort


async def test_a_reset_before_an_answer():
    async def reset(_heard, writer):
        _reset(writer)

    async with tiny_venue(reset) as server:
        error = await failure(server.url, patience=HASTY)

    assert type(error) is http.Unreachable
    assert "cut before an answer" in str(error)


def _reset(writer):
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 s: close with RST
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def test_an_answer_that_is_no_http():
    async def noise(_heard, writer):
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await writer.drain()

    async with tiny_venue(noise) as server:
        error = await failure(server.url, patience=HASTY)

    assert type(error) is http.Unreachable


async def test_a_refused_connection_is_named_and_tried_a_bounded_number_of_times():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        clock = FakeTime()
        async with client(f"http://{where}", clock) as venue:
            with pytest.raises(http.Unreachable) as caught:
                await venue.get("gamma", "/markets/keyset")

    assert f"Gamma /markets/keyset: {where}: the connection was refused. Check" in str(caught.value)
    assert clock.slept == [0.5, 1.0, 2.0]
    assert venue.counts == {
        "gamma.requests": 4,
        "gamma.retries": 3,
        "gamma.errors.unreachable": 4,
    }


async def test_a_name_that_does_not_exist_is_named(monkeypatch):
    async def no_such_name(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_such_name)
    error = await failure("http://venue.invalid", patience=HASTY)

    assert type(error) is http.Unreachable
    assert "venue.invalid: its name is not found (DNS)" in str(error)


async def test_a_server_without_tls_is_named():
    async def plain(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await failure(f"https://{where}", patience=HASTY)

    assert type(error) is http.Unreachable
    assert f"{where}: no trusted connection (TLS: " in str(error)


async def test_a_server_that_accepts_and_then_says_nothing_to_tls():
    async with tiny_venue(says(GOOD)) as server:
        hasty = Patience(connect=0.2, tries=1)
        error = await failure(server.url.replace("http:", "https:"), patience=hasty)

    assert type(error) is http.Unreachable
    assert "no connection within the time allowed" in str(error)


# --- trying again ---------------------------------------------------------


async def test_a_read_is_tried_again_until_it_succeeds():
    clock = FakeTime()
    bad = (refusal(500), reply(b"<html>"), refusal(425))
    async with tiny_venue(says(*bad, GOOD)) as server, client(server.url, clock) as venue:
        assert await venue.get("clob", "/book") == PAGE

    assert clock.slept == [0.5, 1.0, 2.0]  # half of 1, 2, 4: `draw` gives 0.5
    assert venue.counts["clob.retries"] == 3
    assert venue.counts["clob.errors.restarting"] == 1


async def test_a_batch_read_is_tried_again_with_the_same_body():
    async with tiny_venue(says(refusal(502), GOOD)) as server, client(server.url) as venue:
        await venue.post("clob", "/books", b'[{"token_id":"1"}]')

    assert [heard.body for heard in server.heard] == [b'[{"token_id":"1"}]'] * 2


@pytest.mark.parametrize("permanent", [refusal(404), refusal(400), refusal(302)])
async def test_a_permanent_refusal_is_not_tried_again(permanent):
    async with tiny_venue(says(permanent)) as server:
        await failure(server.url)

    assert len(server.heard) == 1


async def test_retry_after_in_seconds_is_waited_out_and_holds_back_the_whole_route():
    clock = FakeTime()
    paused = refusal(429, "", "Retry-After: 9")
    async with tiny_venue(says(paused, GOOD)) as server, client(server.url, clock) as venue:
        began = clock.now
        await asyncio.gather(*(venue.get("clob", "/books") for _ in range(2)))

    assert clock.now - began >= 9.0
    assert clock.slept[0] == 9.0
    assert venue.counts["clob.errors.rate_limited"] == 1


async def test_others_do_not_ask_while_the_venue_wants_a_pause():
    clock = FakeTime()
    paused = refusal(429, "", "Retry-After: 20")
    async with (
        tiny_venue(says(paused, GOOD)) as server,
        client(server.url, clock, patience=HASTY) as venue,
    ):
        with pytest.raises(http.RateLimited):
            await venue.get("clob", "/books")
        await venue.get("clob", "/clob-markets/0x1")
        assert clock.slept == [], "another route is free"
        await venue.get("clob", "/books")

    assert sum(clock.slept) == pytest.approx(20.0)


async def test_retry_after_as_a_date_is_counted_from_our_clock():
    clock = FakeTime()
    date = datetime.fromtimestamp(clock.now, UTC) + timedelta(seconds=11)
    paused = refusal(429, "", f"Retry-After: {format_datetime(date, usegmt=True)}")
    async with tiny_venue(says(paused, GOOD)) as server, client(server.url, clock) as venue:
        await venue.get("clob", "/book")

    assert sum(clock.slept) == pytest.approx(11.0)


async def test_retry_after_zero_is_not_taken_as_leave_to_hammer():
    clock = FakeTime()
    paused = refusal(429, "", "Retry-After: 0")
    async with tiny_venue(says(paused)) as server:
        await failure(server.url, clock=clock)

    assert len(server.heard) == 4
    assert clock.slept[:3] == [0.5, 1.0, 2.0]


async def test_a_pause_longer_than_our_patience_is_for_the_caller_to_decide():
    clock = FakeTime()
    paused = refusal(429, "", "Retry-After: 1000000")
    async with tiny_venue(says(paused)) as server, client(server.url, clock) as venue:
        for _ in range(2):
            with pytest.raises(http.RateLimited) as caught:
                await venue.get("clob", "/books")
            assert caught.value.retry_after == pytest.approx(300.0)

    assert clock.slept == []
    assert len(server.heard) == 1, "the second was refused by ourselves"


async def test_tries_end_when_the_total_time_is_over():
    clock = FakeTime()
    patience = Patience(tries=1_000, total=60.0, backoff=8.0, backoff_cap=16.0)
    async with tiny_venue(says(refusal(500))) as server:
        await failure(server.url, clock=clock, patience=patience)

    assert sum(clock.slept) <= 60.0
    assert clock.slept == [4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]


# --- our pace -------------------------------------------------------------


async def test_requests_of_a_route_keep_to_a_third_of_its_documented_limit():
    clock, asked = FakeTime(), []

    async def answer(heard, _writer):
        asked.append(clock.now)
        return reply(b'"OK"')

    async with tiny_venue(answer) as server, client(server.url, clock) as venue:
        for _ in range(100):
            await venue.get("clob", "/ok")

    third = 33  # of 100 in 10 s
    for first, start in enumerate(asked):
        assert sum(at < start + 10 - 1e-6 for at in asked[first:]) <= third
    assert asked[-1] - asked[0] < 10 * 100 / third + 5, "and are not slower than that"


async def test_a_burst_within_the_limits_is_not_delayed():
    clock = FakeTime()
    async with tiny_venue(says(GOOD)) as server, client(server.url, clock) as venue:
        for _ in range(10):
            await venue.get("gamma", "/markets/keyset")

    assert clock.slept == []


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/events/keyset", ("gamma", "events")),
        ("/events/12", ("gamma", "events")),
        ("/markets/12", ("gamma", "markets")),
        ("/tags", ("gamma", "")),
    ],
)
def test_a_path_counts_towards_the_limit_of_its_route(path, route):
    assert http._Ask("gamma", "GET", path, "").route == route
