"""Configuration: a value that is wrong or unsafe stops the start and is named in one line."""

from __future__ import annotations

import os
import runpy
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from mpx_site import configuration
from tests.servers import ROOT, manage, settings_for

SECRET = "hunter2"
KEYS = (
    "DATABASE_URL",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_PASSWORD",
    "REDIS_URL",
    "SECRET_KEY",
    "DATA_SOURCE",
    "SERVICE_ROLE",
    "EXEC_MODE",
    "API_PORT",
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path) -> None:
    """What is set to nothing is not set, here or by a `.env`."""
    for key in KEYS:
        monkeypatch.setenv(key, "")
    monkeypatch.setenv("MPX_HOME", str(tmp_path))


def settings_with(monkeypatch, **given: str) -> dict[str, Any]:
    """Read the settings module anew."""
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    return runpy.run_path(str(ROOT / "mpx_site" / "settings.py"))


BAD = [
    ("DATA_SOURCE", "moon"),
    ("DATA_SOURCE", "replay:"),
    ("DATA_SOURCE", "replay:/nowhere/r.jsonl"),
    ("DATA_SOURCE", "MOCK"),
    ("SERVICE_ROLE", "boss"),
    ("EXEC_MODE", "auto"),
    ("EXEC_MODE", "live"),
    ("EXEC_MAX_NOTIONAL_PER_ORDER", "0"),
    ("EXEC_MAX_NOTIONAL_PER_ORDER", "-200"),
    ("EXEC_MAX_NOTIONAL_PER_ORDER", "much"),
    ("EXEC_MAX_NOTIONAL_PER_ORDER", "inf"),
    ("EXEC_MAX_NOTIONAL_PER_ORDER", "1e999999"),
    ("EXEC_MAX_CONCURRENT_ORDERS", "0"),
    ("EXEC_MAX_CONCURRENT_ORDERS", "2.5"),
    ("EXEC_MAX_CONCURRENT_ORDERS", "-1"),
    ("EXEC_MAX_DAILY_NOTIONAL", "NaN"),
    ("EXEC_SLIPPAGE_BPS", "10001"),
    ("EXEC_SLIPPAGE_BPS", "80bps"),
    ("EXEC_SLIPPAGE_BPS", "²"),
    ("EXEC_MAX_EVENT_EXPOSURE", "0"),
    ("EXEC_MAX_DAYLY_NOTIONAL", "10"),
    ("EXEC_SLIPPAGE_PCT", "1"),
    ("MPX_SINGLE_OPERATOR", "me"),
    ("PAPER_LATENCY_MS", "-1"),
    ("PAPER_LATENCY_MS", "60001"),
    ("PAPER_LEG_GAP_MS", "20ms"),
    ("PAPER_FILLS", "always"),
    ("API_PORT", "0"),
    ("API_PORT", "65536"),
    ("API_PORT", "http"),
    ("API_PORT", "٨٠"),
    ("API_PORT", "9" * 5_000),
    ("TELEGRAM_ENABLED", "perhaps"),
    ("POLYMARKET_GAMMA_URL", "gamma-api.polymarket.com"),
    ("POLYMARKET_GAMMA_URL", "https"),
    ("POLYMARKET_GAMMA_URL", "https://"),
    ("POLYMARKET_CLOB_URL", "ftp://clob.polymarket.com"),
    ("POLYMARKET_CLOB_URL", "http://host:port"),
    ("POLYMARKET_WS_URL", "https://ws.polymarket.com/ws/market"),
    ("POLYMARKET_WS_URL", "ws://[::1/ws/market"),
    ("REDIS_URL", "127.0.0.1:6379"),
    ("REDIS_URL", "http://127.0.0.1:6379"),
    ("DATABASE_URL", "postgres"),
    ("DATABASE_URL", "postgres://"),
    ("DATABASE_URL", "mysql://user@host/db"),
    ("DATABASE_URL", "postgres://user@host:port/db"),
    ("SECRET_KEY", "short"),
    ("DEBUG", "2"),
    ("LOG_LEVEL", "LOUD"),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=lambda text: text[:30])
def test_bad_value_is_refused_in_one_line_that_names_its_key(monkeypatch, key, value):
    with pytest.raises(ImproperlyConfigured) as refusal:
        settings_with(monkeypatch, **{key: value})

    said = str(refusal.value)
    assert said.startswith((f"{key}=", f"{key} "))
    assert "\n" not in said


def test_port_of_the_database_is_checked(monkeypatch):
    with pytest.raises(ImproperlyConfigured, match=r"^POSTGRES_PORT='abc'"):
        settings_with(monkeypatch, POSTGRES_HOST="db", POSTGRES_PORT="abc")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATABASE_URL", f"postgres://user:{SECRET}@host:port/db"),
        ("DATABASE_URL", f"mysql://user:{SECRET}@host/db"),
        ("DATABASE_URL", SECRET),
        ("REDIS_URL", f"redis://:{SECRET}@host:port/0"),
        ("REDIS_URL", f"http://user:{SECRET}@host/0"),
        ("REDIS_URL", SECRET),
        ("POLYMARKET_CLOB_URL", f"ftp://user:{SECRET}@host"),
        ("SECRET_KEY", SECRET),
    ],
)
def test_refusal_tells_no_secret(monkeypatch, key, value):
    with pytest.raises(ImproperlyConfigured, match=key) as refusal:
        settings_with(monkeypatch, **{key: value})

    assert SECRET not in str(refusal.value)


# --- what is good --------------------------------------------------------------------


def test_nothing_set_is_a_desk_of_its_own(monkeypatch, tmp_path):
    values = settings_with(monkeypatch)

    database = values["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.sqlite3"
    assert database["NAME"] == str(tmp_path / "mpx.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert (values["DATA_SOURCE"], values["SERVICE_ROLE"], values["EXEC_MODE"]) == (
        "mock", "all", "semi_auto",
    )  # fmt: skip
    assert (values["API_PORT"], values["DEBUG"], values["REDIS_URL"]) == (8080, False, "")


def test_limits_are_exact_amounts(monkeypatch):
    values = settings_with(monkeypatch, EXEC_MAX_NOTIONAL_PER_ORDER="199.99", EXEC_SLIPPAGE_BPS="0")

    assert str(values["EXEC_MAX_NOTIONAL_PER_ORDER"]) == "199.99"
    assert values["EXEC_SLIPPAGE_BPS"] == 0


def test_database_url_is_read_whole(monkeypatch):
    url = "postgresql://user:p%40ss%2Fword@db.example:6543/desk?sslmode=require"

    database = settings_with(monkeypatch, DATABASE_URL=url)["DATABASES"]["default"]

    assert database["ENGINE"] == "mpx_site.db.postgresql"
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example", 6543, "desk")
    assert (database["USER"], database["PASSWORD"]) == ("user", "p@ss/word")
    assert database["OPTIONS"] == {"sslmode": "require", "connect_timeout": 5}


def test_parts_of_the_address_make_a_database(monkeypatch):
    """A dollar sign in a password is a dollar sign."""
    given = {"POSTGRES_HOST": "db", "POSTGRES_PASSWORD": "$ecret"}

    database = settings_with(monkeypatch, **given)["DATABASES"]["default"]

    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db", 5432, "mpx")
    assert database["PASSWORD"] == "$ecret"


def test_dollar_token_is_kept(monkeypatch):
    assert settings_with(monkeypatch, ADMIN_API_TOKEN="$HOME")["ADMIN_API_TOKEN"] == "$HOME"


def test_hosts_may_be_written_with_blanks(monkeypatch):
    values = settings_with(monkeypatch, ALLOWED_HOSTS="desk.example, 10.0.0.1,")

    assert values["ALLOWED_HOSTS"] == ["desk.example", "10.0.0.1"]


# --- the key and the home ------------------------------------------------------------


def test_key_is_made_once_and_kept_for_its_owner_alone(tmp_path):
    first = configuration.secret_key(tmp_path / "home")
    again = configuration.secret_key(tmp_path / "home")

    (kept,) = (tmp_path / "home").iterdir()
    assert first == again == kept.read_text()
    assert len(first) >= 50
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_first_starts_at_once_agree_on_one_key(tmp_path):
    read = (
        "import sys, pathlib; from mpx_site.configuration import secret_key;"
        "sys.stdin.readline(); print(secret_key(pathlib.Path(sys.argv[1])))"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", read, str(tmp_path)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(6)
    ]  # fmt: skip
    for start in starts:
        assert start.stdin
        start.stdin.write("go\n")
        start.stdin.flush()

    keys = {start.communicate(timeout=20)[0] for start in starts}
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_key_that_was_emptied_is_refused(monkeypatch, tmp_path):
    (tmp_path / "secret_key").write_text("")

    with pytest.raises(ImproperlyConfigured, match=r"^MPX_HOME: .*secret_key"):
        settings_with(monkeypatch)


def test_home_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ImproperlyConfigured, match=r"^MPX_HOME=.*file"):
        settings_with(monkeypatch, MPX_HOME=str(tmp_path / "file" / "home"))


def test_home_is_made_though_the_key_is_given(monkeypatch, tmp_path):
    home = tmp_path / "new"

    settings_with(monkeypatch, MPX_HOME=str(home), SECRET_KEY="k" * 50)

    assert home.is_dir()


# --- the commands --------------------------------------------------------------------


@pytest.mark.parametrize("words", [["check"], ["up", "--no-browser"], ["scan"]], ids=" ".join)
def test_command_ends_with_2_and_one_line(tmp_path, words):
    env = settings_for(tmp_path, DATABASE_URL=f"postgres://user:{SECRET}@host:port/db")

    ended = manage(*words, env=env)

    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("configuration: DATABASE_URL ")
    assert SECRET not in ended.stdout + ended.stderr


def test_good_configuration_passes_the_check(tmp_path):
    ended = manage("check", env=settings_for(tmp_path, SECRET_KEY=""))

    assert ended.returncode == 0, ended.stderr
    assert os.listdir(tmp_path) == ["secret_key"]
    assert Path(tmp_path, "secret_key").stat().st_size > 40


# --- secrets by file -----------------------------------------------------------------


@pytest.mark.parametrize("key", ["ADMIN_API_TOKEN", "TELEGRAM_BOT_TOKEN", "SECRET_KEY"])
def test_secret_is_read_from_the_file_that_is_named(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("x" * 50 + "\n")
    monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv(f"{key}_FILE", str(file))

    assert configuration.secret(key) == "x" * 50


def test_password_of_the_database_is_read_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("from a file")
    for key, value in (
        ("DATABASE_URL", ""), ("POSTGRES_HOST", "db"), ("POSTGRES_PASSWORD", ""),
        ("POSTGRES_PASSWORD_FILE", str(tmp_path / "password")),
    ):  # fmt: skip
        monkeypatch.setenv(key, value)

    assert configuration.database(tmp_path)["PASSWORD"] == "from a file"


@pytest.mark.parametrize(
    ("content", "given", "words"),
    [
        (None, "", "cannot be read"),
        ("", "", "must hold one line"),
        ("one\ntwo", "", "must hold one line"),
        ("one", "two", "are both set"),
    ],
)
def test_file_that_holds_no_secret_stops_the_start(
    content: str | None, given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("ADMIN_API_TOKEN", given)
    monkeypatch.setenv("ADMIN_API_TOKEN_FILE", str(file))

    with pytest.raises(ImproperlyConfigured, match=words) as refused:
        configuration.secret("ADMIN_API_TOKEN")
    assert "two" not in str(refused.value)
