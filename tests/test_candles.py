"""Candles are what a loop over the ticks says, on every database that we have."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from markets.candles import MOST, WIDTHS, Candle, candles
from markets.models import Tick
from mpx_site.portal import history
from tests.api_cast import a_market

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
START = datetime(2026, 11, 20, 10, 30, 17, tzinfo=UTC)


def drawn(number: int, *, seed: int, apart: float) -> list[Tick]:
    """Make ticks at random times, some with a side or both missing."""
    draw = random.Random(seed)
    at, made = START, []
    for _ in range(number):
        at += timedelta(seconds=round(draw.expovariate(1 / apart), 6) + 1e-6)
        bid = None if draw.random() < 0.1 else Decimal(draw.randrange(1, 5_000)) / 10_000
        ask = None if draw.random() < 0.1 else Decimal(draw.randrange(5_001, 9_999)) / 10_000
        made.append(Tick(market_id="m", at=at, bid=bid, ask=ask))
    return made


def oracle(ticks: list[Tick], width: timedelta) -> list[Candle]:
    found: dict[datetime, list[Tick]] = {}
    for tick in ticks:
        seconds = int(tick.at.timestamp()) // int(width.total_seconds())
        start = datetime.fromtimestamp(seconds * width.total_seconds(), UTC)
        found.setdefault(start, []).append(tick)
    return [candle_of(start, of) for start, of in sorted(found.items())]


def candle_of(start: datetime, ticks: list[Tick]) -> Candle:
    middles = [(t.bid + t.ask) / 2 for t in ticks if t.bid is not None and t.ask is not None]
    bids = [tick.bid for tick in ticks if tick.bid is not None]
    asks = [tick.ask for tick in ticks if tick.ask is not None]
    return Candle(
        start=start,
        open=middles[0] if middles else None,
        high=max(middles, default=None),
        low=min(middles, default=None),
        close=middles[-1] if middles else None,
        bid=ticks[-1].bid,
        ask=ticks[-1].ask,
        high_bid=max(bids, default=None),
        low_ask=min(asks, default=None),
        ticks=len(ticks),
    )


@pytest.mark.parametrize(("width", "apart"), [("1m", 13.0), ("1m", 200.0), ("1h", 300.0)])
def test_candles_are_what_the_ticks_say(width, apart):
    ticks = drawn(300, seed=int(apart), apart=apart)
    Tick.objects.bulk_create([*ticks, Tick(market_id="other", at=START, bid=None, ask=None)])

    told = candles("m", since=START, until=ticks[-1].at + timedelta(hours=1), width=width)

    assert told == oracle(ticks, WIDTHS[width])


def test_candles_at_the_edges_of_a_window_are_whole():
    ticks = drawn(300, seed=5, apart=10.0)
    Tick.objects.bulk_create(ticks)
    since, until = ticks[100].at, ticks[200].at
    minute = WIDTHS["1m"]

    told = candles("m", since=since, until=until, width="1m")

    wanted = [c for c in oracle(ticks, minute) if c.start + minute > since and c.start < until]
    assert told == wanted


def test_a_window_too_long_gives_its_newest_candles():
    first, last = START, START + timedelta(minutes=MOST + 50)
    Tick.objects.bulk_create(
        [Tick(market_id="m", at=at, bid=Decimal("0.4"), ask=Decimal("0.5")) for at in (first, last)]
    )

    told = candles("m", since=START, until=last + timedelta(seconds=1), width="1m")

    assert [candle.start for candle in told] == [last.replace(second=0)]


def test_a_market_without_ticks_has_no_candles():
    assert candles("none", since=START, until=START + timedelta(hours=1), width="1h") == []


def test_api_tells_candles_of_a_window(client, django_user_model):
    a_market("m")
    Tick.objects.bulk_create(drawn(120, seed=2, apart=30.0))
    client.force_login(django_user_model.objects.create_user("vic"))
    window = {"width": "1m", "since": START.isoformat(), "until": "2026-11-20T11:00:00Z"}

    told = client.get("/api/v1/markets/m/candles", window).json()

    wanted = candles("m", since=START, until=datetime(2026, 11, 20, 11, tzinfo=UTC), width="1m")
    assert told["width"] == "1m"
    assert [row["start"] for row in told["results"]] == [
        candle.start.isoformat().replace("+00:00", "Z") for candle in wanted
    ]
    assert [row["close"] and Decimal(row["close"]) for row in told["results"]] == [
        candle.close for candle in wanted
    ]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"width": "5m"}, 400),
        ({"until": "0001-01-01T00:00:00Z"}, 400),
        ({"since": "2026-11-20T11:00:00Z", "until": "2026-11-20T11:00:00Z"}, 400),
        ({"more": "1"}, 400),
        ({}, 200),
    ],
)
def test_api_refuses_what_is_no_window(client, django_user_model, asked, status):
    a_market("m")
    client.force_login(django_user_model.objects.create_user("vic"))

    assert client.get("/api/v1/markets/m/candles", asked).status_code == status
    assert client.get("/api/v1/markets/none/candles", asked).status_code in (400, 404)


def test_a_day_is_drawn_whole_however_many_ticks_it_had():
    ticks = drawn(history.MOST_TICKS + 500, seed=3, apart=20.0)
    Tick.objects.bulk_create(ticks)
    until = ticks[-1].at + timedelta(seconds=1)
    since = until - timedelta(days=1)

    newest = history.ticks_of("m")
    drawn_past = history.past_of("m", newest, since=since, until=until)

    assert newest[0].at > ticks[0].at
    assert drawn_past[0].at <= ticks[0].at + timedelta(minutes=1)
    assert (drawn_past[-1].bid, drawn_past[-1].ask) == (ticks[-1].bid, ticks[-1].ask)
    assert history.past_of("m", newest[-50:], since=since, until=until) == newest[-50:]
