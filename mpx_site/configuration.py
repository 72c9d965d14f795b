"""Reading the environment: every value is checked, every refusal names its key."""

from __future__ import annotations

import secrets
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()


def text(key: str, default: str = "") -> str:
    return str(env.str(key, default=default)).strip()


def flag(key: str, *, default: bool) -> bool:
    raw = text(key, str(default)).lower()
    if raw in ("1", "true", "yes", "on"):
        return True
    if raw in ("0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{key}={raw!r} must be true or false")


def number(key: str, *, default: int, low: int = 1, high: int = 10**9) -> int:
    raw = text(key, str(default))
    if not raw.isdigit() or not low <= int(raw) <= high:
        raise ImproperlyConfigured(f"{key}={raw!r} must be a whole number from {low} to {high}")
    return int(raw)


def money(key: str, *, default: str) -> Decimal:
    raw = text(key, default)
    try:
        value = Decimal(raw)
    except InvalidOperation:
        raise ImproperlyConfigured(f"{key}={raw!r} must be an amount in USD") from None
    if not value.is_finite() or value <= 0:
        raise ImproperlyConfigured(f"{key}={raw!r} must be above zero")
    return value


def choice(key: str, *, default: str, among: tuple[str, ...]) -> str:
    raw = text(key, default)
    if raw not in among:
        raise ImproperlyConfigured(f"{key}={raw!r} must be one of: {', '.join(among)}")
    return raw


def data_source(given: str | None = None) -> str:
    """Return `mock`, `real` or `replay:FILE`: the given one, else DATA_SOURCE."""
    raw = given or text("DATA_SOURCE", "mock")
    if raw in ("mock", "real"):
        return raw
    if raw.startswith("replay:") and Path(raw.removeprefix("replay:")).is_file():
        return raw
    raise ImproperlyConfigured(
        f"DATA_SOURCE={raw!r} must be mock, real or replay:FILE with a file that exists"
    )


def url(key: str, *, default: str, schemes: tuple[str, ...]) -> str:
    raw = text(key, default)
    if raw.split("://")[0] not in schemes:
        raise ImproperlyConfigured(f"{key}={raw!r} must start with {' or '.join(schemes)}://")
    return raw.rstrip("/")


def secret_key(home: Path) -> str:
    """Return SECRET_KEY, or one made on the first start and kept beside the database."""
    given = text("SECRET_KEY")
    if given:
        if len(given) < 40:
            raise ImproperlyConfigured("SECRET_KEY must have at least 40 characters")
        return given
    path = home / "secret_key"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(50))
    return path.read_text().strip()


def database(home: Path) -> dict[str, Any]:
    """Return Django's settings for DATABASE_URL, POSTGRES_* or the embedded SQLite file."""
    if text("DATABASE_URL"):
        return _tuned(dict(env.db_url("DATABASE_URL")))
    if text("POSTGRES_HOST"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": text("POSTGRES_HOST"),
            "PORT": text("POSTGRES_PORT", "5432"),
            "NAME": text("POSTGRES_DB", "mpx"),
            "USER": text("POSTGRES_USER", "mpx"),
            "PASSWORD": text("POSTGRES_PASSWORD"),
        }
    return _tuned({"ENGINE": "django.db.backends.sqlite3", "NAME": str(home / "mpx.sqlite3")})


def _tuned(settings: dict[str, Any]) -> dict[str, Any]:
    if settings["ENGINE"].endswith("sqlite3"):
        # One writer at a time that waits instead of failing; readers never wait.
        settings["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    return settings
