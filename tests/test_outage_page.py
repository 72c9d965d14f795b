"""What a page says while the database is away, and that a mistake of ours is another thing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client

from mpx_site.portal import health_views


@pytest.fixture
def olga(db: None) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("olga"))
    return client


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(health_views, "page", fail)


def test_lost_database_is_named_and_asked_for_again(
    olga: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, OperationalError("connection refused: host=secret-host"))

    response = olga.get("/health/")

    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert b"The database does not answer" in response.content
    assert b"secret-host" not in response.content


def test_mistake_of_ours_is_500(olga: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyError("a mistake"))

    response = olga.get("/health/")

    assert response.status_code == 500
    assert b"Something broke" in response.content
