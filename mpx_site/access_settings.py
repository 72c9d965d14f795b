"""How the door is set up: what is never allowed, and what a desk behind TLS takes on top."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from mpx_site import configuration as conf

# What examples and seeds ship with: known to everybody.
KNOWN_SECRETS: Final = ("change-me", "changeme", "mpx_pass")
HSTS_SECONDS: Final = 31_536_000  # a year
# Probes and the scraper come from the machine itself, without TLS.
PLAIN_PATHS: Final = [r"^livez$", r"^readyz$", r"^metrics$", r"^api/healthz$"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def refuse_known_secrets(*, debug: bool, source: str, given: dict[str, str]) -> None:
    """Stop the start with a secret that everybody knows, or while errors show the inside."""
    if debug and source == "real":
        raise ImproperlyConfigured("DEBUG must be false with DATA_SOURCE=real: it shows the inside")
    for key, value in given.items():
        if value.lower() in KNOWN_SECRETS and not debug:
            raise ImproperlyConfigured(f"{key} is still the one from an example; set your own")


def behind_tls() -> dict[str, Any]:
    """Return Django's settings for a desk that people reach by https; none without it.

    Cookies then go by https alone and to this host alone (`__Host-`), other requests are sent
    there, and browsers are told to remember it. The proxy must set X-Forwarded-Proto itself.
    """
    if not conf.flag("MPX_BEHIND_TLS", default=False):
        return {}
    return {
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "SECURE_SSL_REDIRECT": True,
        "SECURE_REDIRECT_EXEMPT": PLAIN_PATHS,
        "SECURE_HSTS_SECONDS": HSTS_SECONDS,
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SESSION_COOKIE_NAME": "__Host-mpx-session",
        "CSRF_COOKIE_NAME": "__Host-mpx-csrf",
        # Both would speak for other hosts of the domain; MPX speaks for its own.
        "SILENCED_SYSTEM_CHECKS": ["security.W005", "security.W021"],
    }


def trusted_proxies() -> tuple[Network, ...]:
    """Return the networks of MPX_TRUSTED_PROXIES: only they may say whom they ask for."""
    try:
        return tuple(ipaddress.ip_network(word) for word in conf.words("MPX_TRUSTED_PROXIES"))
    except ValueError as error:
        raise ImproperlyConfigured(f"MPX_TRUSTED_PROXIES must be addresses: {error}") from None
