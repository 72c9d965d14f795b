"""A market's past: what held when the window began, and silence that is not called a price."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from markets.models import Tick
from mpx_site.portal.history import SILENCE, touch_chart
from tests.portal_cast import START

HOUR = timedelta(hours=1)


def tick(minutes: float, bid: str | None, ask: str | None) -> Tick:
    return Tick(
        market_id="m",
        at=START + timedelta(minutes=minutes),
        bid=bid and Decimal(bid),
        ask=ask and Decimal(ask),
    )


def paths(ticks: list[Tick], *, followed: bool = True) -> dict[str, str]:
    picture = touch_chart(ticks, since=START, until=START + HOUR, followed=followed)
    assert picture is not None
    return {line.name: line.path for line in picture.lines}


def test_price_from_before_the_window_holds_at_its_start() -> None:
    path = paths([tick(-10, "0.40", "0.42"), tick(-5, "0.40", "0.44"), tick(20, "0.40", "0.42")])

    assert path["ask"].startswith("M0.0 ")
    assert path["ask"].count("V") == 1


def test_side_that_empties_breaks_its_line_alone() -> None:
    path = paths([tick(0, "0.40", "0.42"), tick(10, None, "0.42"), tick(20, "0.40", "0.42")])

    assert path["bid"].count("M") == 2
    assert path["ask"].count("M") == 1


def test_silence_is_a_gap() -> None:
    silent = SILENCE / timedelta(minutes=1) + 20
    path = paths([tick(0, "0.40", "0.42"), tick(silent, "0.41", "0.43")])

    assert path["bid"].count("M") == 2


@pytest.mark.parametrize(("followed", "end"), [(True, "H600.0"), (False, "H100.0")])
def test_last_price_holds_until_now_only_while_it_is_followed(followed: bool, end: str) -> None:
    path = paths([tick(0, "0.40", "0.42"), tick(10, "0.41", "0.42")], followed=followed)

    assert path["ask"].endswith(end)


def test_market_without_ticks_has_no_picture() -> None:
    assert touch_chart([], since=START, until=START + HOUR, followed=True) is None
