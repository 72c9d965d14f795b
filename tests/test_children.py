"""A child is known while it runs, and ends with its parent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from markets import children
from tests.servers import accepts, free_port, wait_for


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    children.end_all()


def test_a_child_is_known_while_it_runs_and_ends_with_its_parent() -> None:
    port = free_port()

    children.start("mock_venue", "--port", str(port))

    assert children.alive() == {"mock_venue"}
    wait_for(lambda: accepts(port), seconds=60, what="the child to listen")
    children.end_all()
    assert children.alive() == set()
    assert not accepts(port)


def test_a_child_that_has_ended_is_forgotten() -> None:
    children.start("check", "--help")

    wait_for(lambda: not children.alive(), seconds=60, what="the child to end")
