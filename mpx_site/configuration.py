"""Reading the environment: every value is checked, every refusal names its key."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()


MAX_USD = 10**12  # far above all money there is
DATABASES = ("postgres", "postgresql", "sqlite")
SHORTEST_KEY = 50  # what `check --deploy` asks for
POSTGRESQL = "mpx_site.db.postgresql"  # with TimescaleDB or without


def text(key: str, default: str = "") -> str:
    """Return a value as it was set: nothing is the default, `$` a character like any other."""
    return os.environ.get(key, "").strip() or default


def secret(key: str) -> str:
    """Return a secret: as it was set, or what is in the file that KEY_FILE names."""
    given, path = text(key), text(f"{key}_FILE")
    if not path:
        return given
    if given:
        raise ImproperlyConfigured(f"{key} and {key}_FILE are both set: which one counts?")
    try:
        found = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ImproperlyConfigured(f"{key}_FILE={path!r} cannot be read: {why}") from None
    if not found or "\n" in found:
        raise ImproperlyConfigured(f"{key}_FILE={path!r} must hold one line, the secret")
    return found


def words(key: str, default: str = "") -> list[str]:
    """Return what stands between the commas."""
    return [word for part in text(key, default).split(",") if (word := part.strip())]


def flag(key: str, *, default: bool) -> bool:
    raw = text(key, str(default)).lower()
    if raw in ("1", "true", "yes", "on"):
        return True
    if raw in ("0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{key}={raw!r} must be true or false")


def number(key: str, *, default: int, low: int = 1, high: int = 10**9) -> int:
    raw = text(key, str(default))
    plain = raw.isascii() and raw.isdigit() and len(raw) <= len(str(high))
    if not plain or not low <= int(raw) <= high:
        raise ImproperlyConfigured(f"{key}={raw!r} must be a whole number from {low} to {high}")
    return int(raw)


def stream_shards(database: dict[str, Any]) -> int:
    """Return MPX_STREAM_SHARDS; more than one share a server, for a file has one writer."""
    shards = number("MPX_STREAM_SHARDS", default=1, high=64)
    if shards > 1 and database["ENGINE"].endswith("sqlite3"):
        raise ImproperlyConfigured("MPX_STREAM_SHARDS above 1 needs PostgreSQL; set DATABASE_URL")
    return shards


def money(key: str, *, default: str) -> Decimal:
    raw = text(key, default)
    try:
        value = Decimal(raw)
    except InvalidOperation:
        raise ImproperlyConfigured(f"{key}={raw!r} must be an amount in USD") from None
    if not value.is_finite() or not 0 < value < MAX_USD:
        raise ImproperlyConfigured(f"{key}={raw!r} must be above zero and below {MAX_USD}")
    return value


def choice(key: str, *, default: str, among: tuple[str, ...]) -> str:
    raw = text(key, default)
    if raw not in among:
        raise ImproperlyConfigured(f"{key}={raw!r} must be one of: {', '.join(among)}")
    return raw


def refuse_strangers(*prefixes: str, known: Iterable[str]) -> None:
    """Refuse keys that look like ours and are none: a misspelt limit would not be one."""
    ours = sorted(name for name in known if name.startswith(prefixes))
    for key in sorted(os.environ):
        if key.startswith(prefixes) and key.removesuffix("_FILE") not in ours:
            raise ImproperlyConfigured(f"{key} is not known here; known: {', '.join(ours)}")


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
    """Return an address, or "" where that is the default; what it says of a user is not told."""
    raw = secret(key) or default
    if raw and not _is_address(raw, schemes):
        shown = re.sub(r"//.*@", "//***@", raw) if "//" in raw else "***"
        wanted = " or ".join(f"{scheme}://host" for scheme in schemes)
        raise ImproperlyConfigured(f"{key}={shown!r} must be like {wanted}")
    return raw.rstrip("/")


def _is_address(raw: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(raw)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half a bracket
        return False


def secret_key(home: Path) -> str:
    """Return SECRET_KEY, or one made on the first start and kept beside the database."""
    key = secret("SECRET_KEY")
    if key and len(key) < SHORTEST_KEY:
        raise ImproperlyConfigured(f"SECRET_KEY must have at least {SHORTEST_KEY} characters")
    return key or _kept_key(_made(home) / "secret_key")


def _kept_key(path: Path) -> str:
    if not path.exists():
        draft = path.with_name(f"secret_key.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        with suppress(FileExistsError):  # of two first starts at once, one key counts
            os.link(draft, path)
        draft.unlink()
    key = path.read_text().strip()
    if len(key) < 40:
        raise ImproperlyConfigured(f"MPX_HOME: {path} is no key any more; delete it for a new one")
    return key


def _made(home: Path) -> Path:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"MPX_HOME={str(home)!r}: {error.strerror}") from None
    if not os.access(home, os.W_OK):
        raise ImproperlyConfigured(f"MPX_HOME={str(home)!r} cannot be written to")
    return home


def database(home: Path) -> dict[str, Any]:
    """Return Django's settings for DATABASE_URL, POSTGRES_* or the embedded SQLite file."""
    if raw := secret("DATABASE_URL"):
        return _tuned(_from_url(raw))
    if text("POSTGRES_HOST"):
        return _tuned(
            {
                "ENGINE": POSTGRESQL,
                "HOST": text("POSTGRES_HOST"),
                "PORT": number("POSTGRES_PORT", default=5432, high=65535),
                "NAME": text("POSTGRES_DB", "mpx"),
                "USER": text("POSTGRES_USER", "mpx"),
                "PASSWORD": secret("POSTGRES_PASSWORD"),
            }
        )
    file = _made(home) / "mpx.sqlite3"
    return _tuned({"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)})


def _from_url(raw: str) -> dict[str, Any]:
    """Read DATABASE_URL. It is never shown, because a password is a part of it."""
    refusal = ImproperlyConfigured(
        "DATABASE_URL must be like postgres://user:password@host:5432/name or sqlite:////path"
    )
    scheme, found, _ = raw.partition("://")
    if not found or scheme not in DATABASES:
        raise refusal
    try:
        read = dict(environ.Env.db_url_config(raw))
    except ValueError:
        raise refusal from None
    if not read["NAME"]:
        raise refusal
    if scheme != "sqlite":
        read["ENGINE"] = POSTGRESQL
    return read


def _tuned(settings: dict[str, Any]) -> dict[str, Any]:
    options = settings.setdefault("OPTIONS", {})
    if settings["ENGINE"].endswith("sqlite3"):
        # One writer at a time that waits instead of failing; readers never wait.
        options["transaction_mode"] = "IMMEDIATE"
        options["timeout"] = 20
        options["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    else:
        options.setdefault("connect_timeout", 5)  # seconds; who waits longer cannot be stopped
    return settings
