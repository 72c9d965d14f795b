"""What an alert says: harmless whatever the venue calls its events, and short enough."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as some

from alerts.pace import CHAT, GROUP, Pace
from alerts.words import LINE, MOST_CHARACTERS, as_html, as_text, clean, digest, words_of

PORTAL = "http://localhost:8080"
HOSTILE = ("<script>alert(1)</script>", "=cmd()", "a\u202eb\u2066c", "x" * 10_000, "_*[`", "&lt;b>")


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def signal(title: str, **changed: str) -> dict[str, str]:
    told = {"key": "ab12", "rule": "R", "kind": "yes_basket", "level": "P1", "event_id": "7"}
    return {**told, "event_title": title, "edge_bps": "12", "profit": "1", "cost": "9", **changed}


@pytest.mark.parametrize("title", HOSTILE)
def test_hostile_title_is_only_text(title):
    html = as_html(words_of("signal.p1", signal(title)), portal=PORTAL)

    seen = read(html)
    assert seen.tags == ["b", "a"]
    assert "\u202e" not in html and "\u2066" not in html
    assert len(seen.text) <= MOST_CHARACTERS


@given(title=some.text(max_size=400), kind=some.sampled_from(["signal.p1", "intent.filled", "x.y"]))
def test_any_text_comes_back_as_it_was_meant(title, kind):
    words = words_of(kind, signal(title, reason=title, text=title))

    seen = read(as_html(words, portal=PORTAL))

    assert set(seen.tags) <= {"b", "a"}
    for line in words.lines:
        assert line in seen.text.splitlines() or line in seen.text
    assert len(seen.text) <= MOST_CHARACTERS


@given(titles=some.lists(some.text(max_size=500), min_size=1, max_size=700))
def test_digest_of_any_size_is_one_message(titles):
    words = digest([words_of("signal.p1", signal(title)) for title in titles], held_back="budget")

    seen = read(as_html(words, portal=PORTAL))

    assert len(seen.text) <= MOST_CHARACTERS
    assert len(as_text(words, portal=PORTAL)) <= MOST_CHARACTERS
    assert seen.text.startswith(f"{len(titles)} alerts")


@given(text=some.text())
def test_cleaned_text_is_one_visible_line(text):
    told = clean(text)

    assert len(told) <= LINE
    assert "\n" not in told and "\r" not in told


def test_numbers_that_are_none_stop_nothing():
    words = words_of("signal.p1", signal("t", profit="NaN", edge_bps="many"))

    assert words.headline == "P1 yes basket +0.0 bps"


@given(gaps=some.lists(some.floats(0, 90), max_size=120), group=some.booleans())
def test_pace_is_never_passed(gaps, group):
    """Whoever waits as told stays under every limit of the chat."""
    pace = Pace(GROUP if group else CHAT, budget=60)
    sent: list[float] = []
    at = 0.0
    for gap in gaps:
        at += gap
        at += pace.wait(sent, at=at)
        sent.append(at)

    for limit, span in ((20 if group else 40, 60.0), (60, 3600.0), (1, 1.0)):
        for first in sent:
            assert sum(first <= each < first + span - 1e-6 for each in sent) <= limit
