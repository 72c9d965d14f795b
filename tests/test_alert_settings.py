"""What the voices may be set to: what is unsafe or unknown stops the start and names its key."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from alerts.webhook import signature
from mpx_site import voice_settings

SECRET = "a-secret-that-is-long-enough-for-all"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for key in ("MPX_WEBHOOK_URL", "MPX_WEBHOOK_SECRET", "EMAIL_URL", "MPX_EMAIL_TO",
                "MPX_EMAIL_FROM"):  # fmt: skip
        monkeypatch.delenv(key, raising=False)


def refusal(read) -> str:
    with pytest.raises(ImproperlyConfigured) as refused:
        read()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def read_email():
    return voice_settings.recipients(voice_settings.mail_server())


def test_desk_without_these_settings_has_these_voices_not():
    assert voice_settings.webhook() == ("", "")
    assert (read_email(), voice_settings.sender()) == ((), "mpx@localhost")


@pytest.mark.parametrize(
    "address", ["https://hooks.example.org/a?b=c", "http://127.0.0.1:9000/x", "http://relay/x"]
)
def test_address_of_a_webhook_is_https_or_near(monkeypatch, address):
    monkeypatch.setenv("MPX_WEBHOOK_URL", address)
    monkeypatch.setenv("MPX_WEBHOOK_SECRET", SECRET)

    assert voice_settings.webhook() == (address, SECRET)


@pytest.mark.parametrize(
    "address",
    [
        "http://hooks.example.org/a", "http://8.8.8.8/", "ftp://relay/x", "hooks.example.org",
        "https://user:hunter2@hooks.example.org/", "https://host:99999/", "https:///path",
    ],
)  # fmt: skip
def test_unsafe_address_of_a_webhook_stops_the_start(monkeypatch, address):
    monkeypatch.setenv("MPX_WEBHOOK_URL", address)
    monkeypatch.setenv("MPX_WEBHOOK_SECRET", SECRET)

    told = refusal(voice_settings.webhook)

    assert told.startswith("MPX_WEBHOOK_URL ")
    assert "hunter2" not in told


@pytest.mark.parametrize("secret", ["", "short"])
def test_webhook_without_a_secret_stops_the_start(monkeypatch, secret):
    monkeypatch.setenv("MPX_WEBHOOK_URL", "https://hooks.example.org/")
    monkeypatch.setenv("MPX_WEBHOOK_SECRET", secret)

    assert refusal(voice_settings.webhook).startswith("MPX_WEBHOOK_SECRET must have at least 32")


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("smtp://127.0.0.1:2525", ("127.0.0.1", 2525, "", "", False, False)),
        ("smtp+tls://u%40x:p%2Fw@mail.example", ("mail.example", 587, "u@x", "p/w", True, False)),
        ("smtp+ssl://u:p@mail.example", ("mail.example", 465, "u", "p", False, True)),
        ("smtp://u:p@relay", ("relay", 25, "u", "p", False, False)),
    ],
)
def test_mail_server_is_read(monkeypatch, address, server):
    monkeypatch.setenv("EMAIL_URL", address)

    assert voice_settings.mail_server() == voice_settings.MailServer(*server)


@pytest.mark.parametrize(
    "address",
    ["smtp://u:hunter2@mail.example", "imap://u:hunter2@mail.example", "hunter2", "smtp://:25",
     "smtp://h:port"],
)  # fmt: skip
def test_unsafe_mail_server_stops_the_start_unshown(monkeypatch, address):
    monkeypatch.setenv("EMAIL_URL", address)

    told = refusal(voice_settings.mail_server)

    assert told.startswith("EMAIL_URL ")
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MPX_EMAIL_TO", "olga"),
        ("MPX_EMAIL_TO", "olga@desk.example, dana@"),
        ("MPX_EMAIL_TO", ",".join(f"p{number}@desk.example" for number in range(21))),
        ("MPX_EMAIL_FROM", "a@desk.example,b@desk.example"),
    ],
)
def test_what_is_no_address_stops_the_start(monkeypatch, key, value):
    monkeypatch.setenv("EMAIL_URL", "smtp://127.0.0.1")
    monkeypatch.setenv(key, value)

    assert refusal(lambda: (read_email(), voice_settings.sender())).startswith(key)


def test_addresses_without_a_server_stop_the_start(monkeypatch):
    monkeypatch.setenv("MPX_EMAIL_TO", "olga@desk.example,dana@desk.example")

    assert refusal(read_email).startswith("EMAIL_URL ")
    monkeypatch.setenv("EMAIL_URL", "smtp://127.0.0.1")
    assert read_email() == ("olga@desk.example", "dana@desk.example")


def test_receivers_sample_in_the_docs_knows_what_is_genuine():
    """The block is run as it stands there, against what the webhook really sends."""
    text = (Path(__file__).parent.parent / "docs" / "alerts.md").read_text()
    (sample,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    room: dict[str, Any] = {}
    exec(sample, room)  # our own text
    genuine, now, body = room["is_genuine"], int(time.time()), b'{"schema": 1}'
    header = signature(SECRET, body, at=now)

    assert genuine(header, body, SECRET)
    assert not genuine(header, body + b" ", SECRET)
    assert not genuine(header, body, SECRET + "x")
    assert not genuine(signature(SECRET, body, at=now - 400), body, SECRET)
    assert not genuine(header.replace(f"t={now}", f"t={now + 1}"), body, SECRET)
    for nonsense in ("", "t=1", "v1=é", "t=²,v1=x", "t=,v1=", "garbage", f"t={now},v1=é"):
        assert not genuine(nonsense, body, SECRET)
