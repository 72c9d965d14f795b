"""`/_control`: how a test makes the venue misbehave, and sees what is true meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from markets.simulator.faults import UnknownFault, table
from markets.simulator.faults_base import BadTarget
from markets.simulator.server_http import Reply, Request, error

if TYPE_CHECKING:
    from markets.simulator.server import Venue

PATH = "/_control"


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done; more than one thing at once is fine.

    `seconds` None: until told. `books`: True for all of the world's, or a list of tokens.
    `churn`: percent of the shelf to change, True for the percentage the venue was started with.
    `hold`: stop or resume the world's clock, so that books can be compared at rest. `skip`: let
    so many seconds happen at once; venue time is ahead of true time from then on.
    """

    fault: str | None = None
    on: bool = True
    seconds: float | None = None
    target: str | int | None = None
    clear: bool = False
    hold: bool | None = None
    skip: float = 0.0
    churn: bool | float = False
    truth: bool = False
    books: bool | list[str] = False
    stats: bool = False
    faults: bool = False


async def control(venue: Venue, request: Request) -> Reply:
    """Carry out an order and answer with what was asked for."""
    if request.method != "POST":
        return error(405, "POST an order as JSON")
    try:
        order = msgspec.json.decode(request.body, type=Order)
        return Reply(200, await _obey(venue, order))
    except msgspec.MsgspecError as problem:
        return error(400, str(problem))
    except UnknownFault as problem:
        return error(404, f"no fault is called {problem}")
    except BadTarget as problem:
        return error(409, str(problem))


async def _obey(venue: Venue, order: Order) -> bytes:
    answer: dict[str, object] = {"ok": True}
    if order.clear:
        await venue.switchboard.clear()
    if order.fault is not None:
        await _switch(venue, order.fault, order)
    if order.hold is not None:
        venue.hold(order.hold)
    venue.skip(order.skip)
    if order.churn is not False:
        percent = venue.settings.churn if order.churn is True else order.churn
        answer["churn"] = venue.shelf.churn(percent)
    return msgspec.json.encode(answer | _shown(venue, order))


async def _switch(venue: Venue, name: str, order: Order) -> None:
    if not order.on:
        await venue.switchboard.off(name)
        return
    target = None if order.target is None else str(order.target)
    await venue.switchboard.on(name, seconds=order.seconds, target=target)


def _shown(venue: Venue, order: Order) -> dict[str, object]:
    answer: dict[str, object] = {}
    if order.truth:
        answer["truth"] = msgspec.to_builtins(venue.world.truth)
    if order.books is not False:
        tokens = venue.world.token_ids() if order.books is True else order.books
        answer["books"] = [msgspec.Raw(text.encode()) for text in venue.clob.book_answers(tokens)]
    if order.stats:
        answer["stats"] = venue.stats()
    if order.faults:
        answer["faults"] = table()
    return answer
