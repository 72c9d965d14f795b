"""How money, prices, edges and times are written, and that their colours can be read."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings

from markets.models import Quote
from mpx_site.portal import words
from mpx_site.portal.desk import Pulse
from mpx_site.templatetags import desk as write
from mpx_site.templatetags.desk import MINUS
from rules.kernel import baskets, endgame, imbalance, lp, plans, spike, trend
from rules.kernel.observed import INSUFFICIENT


@pytest.mark.parametrize(
    ("price", "text"),
    [("0.4130", "41.3¢"), ("0.5", "50¢"), ("0.0001", "0.01¢"), ("1", "100¢"), ("0.1", "10¢")],
)
def test_price_is_written_in_cents(price: str, text: str) -> None:
    assert write.cents(Decimal(price)) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1.375", "+$1.38"),
        ("0", "$0.00"),
        ("0.004", "+<$0.01"),
        ("-0.004", f"{MINUS}<$0.01"),
        ("-3.2", f"{MINUS}$3.20"),
        ("1425.03", "+$1,425.03"),
    ],
)
def test_gain_carries_its_sign(amount: str, text: str) -> None:
    assert write.gain(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("86.863720", "86.86372"),
        ("30.84", "30.84"),
        ("100", "100.00"),
        ("0E-6", "0.00"),
        ("1E+3", "1,000.00"),
        ("0.300000", "0.30"),
    ],
)
def test_exact_money_keeps_every_digit_and_no_exponent(amount: str, text: str) -> None:
    assert write.exact(Decimal(amount)) == text


def test_what_is_not_there_is_a_dash() -> None:
    for writer in (write.cents, write.gap, write.missing, write.usd, write.gain, write.exact):
        assert writer(None) == writer("") == write.NOTHING
    assert (
        write.bps(None) == write.shares("") == write.whole("") == write.span(None) == write.NOTHING
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.054, "54 ms"),
        (4, "4 s"),
        (134, "2 min 14 s"),
        (3_660, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration_is_written_with_its_largest_units(seconds: float, text: str) -> None:
    assert write.span(timedelta(seconds=seconds)) == text


def test_spread_needs_both_sides() -> None:
    assert write.spread(Quote(bid=Decimal("0.4"), ask=Decimal("0.43"))) == Decimal("0.03")
    assert write.spread(Quote(bid=None, ask=Decimal("0.43"))) is None
    assert write.spread("") is None


@pytest.mark.parametrize(
    ("age", "state"),
    [(None, "none"), (0, "ok"), (9.9, "ok"), (10, "late"), (29.9, "late"), (30, "stale")],
)
def test_age_of_data_has_four_states(age: float | None, state: str) -> None:
    assert Pulse("stream", None, age).state == state


def test_every_gate_the_kernel_can_shut_has_words() -> None:
    source = inspect.getsource(baskets) + inspect.getsource(plans)
    gates = set(re.findall(r'(?:append|add)\("(\w+)"', source))
    gates |= set(re.findall(r'"(augmented|missing_leg|one_sided|metadata_conflict)"', source))
    assert {"min_size", "unknown_fee", "missing_leg"} <= gates

    assert gates <= set(words.BLOCKERS)
    assert baskets.GIVEN_EXHAUSTIVE in words.CONDITIONS


def test_every_fact_a_detector_notes_down_has_a_name() -> None:
    source = "".join(inspect.getsource(each) for each in (endgame, imbalance, lp, spike, trend))
    noted = set(re.findall(r'"(\w+)": (?:f"|str|mid_text|terms|"up")', source))
    noted |= set(re.findall(r'\(\("(\w+)", usd', source))
    assert {"direction", "before", "break_even", "channel_low", "payoff_if_one_void"} <= noted

    assert noted <= set(words.FACTS)
    kinds = {endgame.KIND, endgame.POST_EVENT, imbalance.KIND, spike.KIND, trend.KIND}
    assert kinds <= set(words.KINDS)
    assert INSUFFICIENT in words.BLOCKERS


def test_code_without_words_speaks_for_itself() -> None:
    assert words.blocker("new_gate") == "new gate"
    assert words.close_reason("") == "No reason was given."


# --- colours -------------------------------------------------------------------------

ON_PAGE = ("bg", "surface", "raised", "bar-bg", "hover")
PAIRS = [
    *((ink, ground) for ink in ("text", "muted", "blue", "green", "red") for ground in ON_PAGE),
    *((ink, "surface") for ink in ("orange", "amber")),
    *((ink, f"{ink}-soft") for ink in ("blue", "orange", "green", "amber", "red")),
    *(("on-colour", ground) for ground in ("blue", "orange", "red")),
]


def themes() -> dict[str, dict[str, str]]:
    css = (settings.BASE_DIR / "mpx_site/static/mpx/mpx.css").read_text()
    blocks = re.findall(r'html\[data-theme="(\w+)"\] \{(.*?)\}', css, re.DOTALL)
    return {name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body)) for name, body in blocks}


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(ink: str, ground: str) -> float:
    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS)
def test_text_can_be_read(theme: str, ink: str, ground: str) -> None:
    colours = themes()[theme]

    assert contrast(colours[ink], colours[ground]) >= 4.5


def test_automatic_dark_is_the_dark_that_can_be_chosen() -> None:
    assert themes()["auto"] == themes()["dark"]
