"""What the voices of the desk are set to: a webhook is signed, a password goes out encrypted."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from mpx_site import configuration as conf

SHORTEST_SECRET: Final = 32
MOST_ADDRESSES: Final = 20
MAIL_PORTS: Final = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Django's EMAIL_* settings. An empty host is none."""

    host: str = ""
    port: int = 25
    user: str = ""
    password: str = ""
    tls: bool = False
    ssl: bool = False


def webhook() -> tuple[str, str]:
    """Return MPX_WEBHOOK_URL and its MPX_WEBHOOK_SECRET, or two times nothing."""
    address, secret = conf.text("MPX_WEBHOOK_URL"), conf.secret("MPX_WEBHOOK_SECRET")
    if not address:
        return "", ""
    parts = _parts(address)
    if parts is None or parts[0] not in ("http", "https") or parts[2]:
        raise ImproperlyConfigured(
            "MPX_WEBHOOK_URL must be like https://host/path, without a user in it"
        )
    if parts[0] == "http" and not _near(parts[1]):
        raise ImproperlyConfigured("MPX_WEBHOOK_URL must be https:// outside a private network")
    if len(secret) < SHORTEST_SECRET:
        raise ImproperlyConfigured(
            f"MPX_WEBHOOK_SECRET must have at least {SHORTEST_SECRET} characters: "
            "it signs what goes to MPX_WEBHOOK_URL"
        )
    return address, secret


def addresses(key: str) -> tuple[str, ...]:
    """Return the e-mail addresses of a key, at most `MOST_ADDRESSES`."""
    found = tuple(dict.fromkeys(conf.words(key)))
    if len(found) > MOST_ADDRESSES:
        raise ImproperlyConfigured(f"{key} must be at most {MOST_ADDRESSES} addresses")
    for address in found:
        try:
            validate_email(address)
        except ValidationError:
            raise ImproperlyConfigured(
                f"{key}={address!r} must be addresses with commas between them"
            ) from None
    return found


def recipients(server: MailServer) -> tuple[str, ...]:
    """Return who gets alerts by e-mail; refuse them where there is no server to send by."""
    found = addresses("MPX_EMAIL_TO")
    if found and not server.host:
        raise ImproperlyConfigured("EMAIL_URL must name the mail server that MPX_EMAIL_TO takes")
    return found


def sender() -> str:
    found = addresses("MPX_EMAIL_FROM")
    if len(found) > 1:
        raise ImproperlyConfigured("MPX_EMAIL_FROM must be one address")
    return found[0] if found else "mpx@localhost"


def mail_server() -> MailServer:
    """Read EMAIL_URL. It is never shown, because a password is a part of it."""
    raw = conf.secret("EMAIL_URL")
    if not raw:
        return MailServer()
    refusal = ImproperlyConfigured(
        "EMAIL_URL must be like smtp+tls://user:password@host:587, smtp+ssl:// or smtp://"
    )
    parts = _parts(raw)
    if parts is None or parts[0] not in MAIL_PORTS:
        raise refusal
    scheme, host, login, port = parts
    user, _, password = login.partition(":")
    if password and scheme == "smtp" and not _near(host):
        raise ImproperlyConfigured(
            "EMAIL_URL would send a password in the open: use smtp+tls:// or smtp+ssl://"
        )
    return MailServer(
        host=host,
        port=port or MAIL_PORTS[scheme],
        user=unquote(user),
        password=unquote(password),
        tls=scheme == "smtp+tls",
        ssl=scheme == "smtp+ssl",
    )


def _parts(raw: str) -> tuple[str, str, str, int | None] | None:
    """Return scheme, host, login and port of an address; None if it is none."""
    try:
        parts = urlsplit(raw)
        port = parts.port
    except ValueError:  # a port that is no number, half a bracket
        return None
    if not parts.hostname or port == 0 or not raw.isprintable() or " " in raw:
        return None
    return parts.scheme, parts.hostname, parts.netloc.rpartition("@")[0], port


def _near(host: str) -> bool:
    """Say whether a host is here or in the private network; a bare name is known only there."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host
