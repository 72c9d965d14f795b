"""The mock venue over real sockets: what it lists, what its books say, what its feed leads to."""

from __future__ import annotations

import httpx

from tests.venue import VenueClient, venue

__all__ = ["venue"]


def test_it_is_up(venue: VenueClient):
    answer = httpx.get(f"{venue.url}/ok", trust_env=False)

    assert answer.json() == "OK"
