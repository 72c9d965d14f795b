"""What a desk for others takes: nothing that everybody knows, and nothing in the clear."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from mpx_site import access_settings
from tests import canary
from tests.servers import ROOT, manage, settings_for


def settings_with(monkeypatch: pytest.MonkeyPatch, **given: str) -> dict[str, Any]:
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    return runpy.run_path(str(ROOT / "mpx_site" / "settings.py"))


def test_production_settings_pass_the_deployment_check(tmp_path):
    env = settings_for(
        tmp_path,
        MPX_BEHIND_TLS="true",
        ALLOWED_HOSTS="desk.example.org",
        DATA_SOURCE="real",
        DATABASE_URL=f"postgres://mpx:{canary.password()}@127.0.0.1:1/mpx",
    )

    checked = manage("check", "--deploy", "--fail-level", "WARNING", env=env)

    assert checked.returncode == 0, checked.stderr


def test_trial_settings_do_not_pass_it(tmp_path):
    checked = manage("check", "--deploy", "--fail-level", "WARNING", env=settings_for(tmp_path))

    assert checked.returncode == 1
    assert "security.W012" in checked.stderr  # the cookie of a desk without TLS


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("ADMIN_API_TOKEN", {"ADMIN_API_TOKEN": "change-me"}),
        ("ADMIN_API_TOKEN", {"ADMIN_API_TOKEN": "Change-Me"}),
        ("POSTGRES_PASSWORD", {"POSTGRES_HOST": "db", "POSTGRES_PASSWORD": "mpx_pass"}),
        ("POSTGRES_PASSWORD", {"DATABASE_URL": "postgres://mpx:mpx_pass@db/mpx"}),
        ("SECRET_KEY", {"SECRET_KEY": "k" * 49}),
        ("DEBUG", {"DEBUG": "true", "DATA_SOURCE": "real"}),
        ("MPX_TRUSTED_PROXIES", {"MPX_TRUSTED_PROXIES": "proxy.example.org"}),
        ("MPX_IDLE_MINUTES", {"MPX_IDLE_MINUTES": "721"}),
        ("MPX_REQUIRE_TOTP", {"MPX_REQUIRE_TOTP": "maybe"}),
    ],
)
def test_unsafe_value_stops_the_start(monkeypatch, key, given):
    with pytest.raises(ImproperlyConfigured, match=f"^{key}") as refusal:
        settings_with(monkeypatch, **given)

    assert "\n" not in str(refusal.value)
    assert "mpx_pass" not in str(refusal.value)


def test_examples_secrets_are_for_a_developer(monkeypatch):
    read = settings_with(monkeypatch, DEBUG="true", ADMIN_API_TOKEN="change-me")

    assert read["ADMIN_API_TOKEN"] == "change-me"


@pytest.mark.parametrize(
    ("key", "secret", "name"),
    [
        ("REDIS_URL", "redis://:from-a-file@broker:6379/0", "REDIS_URL"),
        ("ADMIN_API_TOKEN", "from-a-file-of-our-own", "ADMIN_API_TOKEN"),
        ("TELEGRAM_BOT_TOKEN", "123456:from-a-file", "TELEGRAM_BOT_TOKEN"),
        ("SECRET_KEY", "from-a-file-" * 5, "SECRET_KEY"),
    ],
)
def test_secret_comes_from_a_file(monkeypatch, tmp_path, key, secret, name):
    file = tmp_path / "secret"
    file.write_text(f"{secret}\n")
    monkeypatch.setenv(key, "")

    assert settings_with(monkeypatch, **{f"{key}_FILE": str(file)})[name] == secret


def test_secret_of_the_webhook_and_the_mail_server_come_from_files(monkeypatch, tmp_path):
    secret, mail = tmp_path / "secret", tmp_path / "mail"
    secret.write_text("w" * 40)
    mail.write_text("smtp+tls://desk:from-a-file@mail.example.org:587")
    for key in ("MPX_WEBHOOK_SECRET", "EMAIL_URL"):
        monkeypatch.setenv(key, "")

    read = settings_with(
        monkeypatch,
        MPX_WEBHOOK_URL="https://hooks.example.org/mpx",
        MPX_WEBHOOK_SECRET_FILE=str(secret),
        EMAIL_URL_FILE=str(mail),
    )

    assert read["MPX_WEBHOOK_SECRET"] == "w" * 40
    assert read["EMAIL_HOST_PASSWORD"] == "from-a-file"


@pytest.fixture
def behind_tls(monkeypatch, settings):
    """The desk as it is behind a proxy that speaks TLS."""
    monkeypatch.setenv("MPX_BEHIND_TLS", "true")
    for name, value in access_settings.behind_tls().items():
        setattr(settings, name, value)


@pytest.mark.django_db
def test_behind_tls_cookies_are_for_this_host_and_https_alone(behind_tls):
    secure = {"X-Forwarded-Proto": "https"}
    client = Client()

    page = client.get("/login/", headers=secure)
    client.get("/livez")

    cookie = page.cookies["__Host-mpx-csrf"]
    assert cookie["secure"] and cookie["path"] == "/" and not cookie["domain"]
    assert page["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.django_db
def test_behind_tls_others_are_sent_to_https_and_probes_are_not(behind_tls):
    sent = Client().get("/login/")

    assert sent.status_code == 301 and sent["Location"] == "https://testserver/login/"
    assert Client().get("/livez").status_code == 200


@pytest.mark.django_db
def test_every_page_carries_the_headers_of_a_closed_door():
    page = Client().get("/login/")

    policy = page["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page["X-Content-Type-Options"] == "nosniff"
    assert page["Referrer-Policy"] == "same-origin"
    assert page["Cross-Origin-Opener-Policy"] == "same-origin"
    assert page["X-Frame-Options"] == "DENY"
