"""The orders desk whose people may use the admin too."""

from __future__ import annotations

from django.contrib.auth.models import User

from tests.browser import orders_desk


class Desk(orders_desk.Desk):
    def __init__(self) -> None:
        super().__init__()
        User.objects.update(is_staff=True)


def serve(port: int) -> None:
    orders_desk.Desk = Desk  # type: ignore[misc]
    orders_desk.serve(port)
