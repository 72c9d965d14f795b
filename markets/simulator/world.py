"""The simulated venue: a seeded world of events that speaks the venue's own wire format."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from markets.frames import Frame
from markets.simulator import wire
from markets.simulator.catalogue import Catalogue
from markets.simulator.flow import FRAMES_PER_ACTION, Flow
from markets.simulator.gamma import event_object
from markets.simulator.news import News
from markets.simulator.openings import Openings
from markets.simulator.rounds import Rounds
from markets.simulator.scenes import Scenes
from markets.simulator.stage import Stage
from markets.simulator.state import LiveEvent, LiveMarket
from markets.simulator.truth import Truth
from markets.simulator.upsets import Upsets

EVENTS_PER_PAGE = 100
HASTE, HASTE_NS = 4.0, 15_000_000_000  # times its mean pace, and for how long
ECHOES = 5  # books whose last change is repeated right after the snapshot, as the venue does


class World:
    """A venue that needs no network and no clock.

    `start` is unix ns, `rate` the mean of WebSocket messages per second in ordinary business.
    `plant_every`, `decoy_every` and `jump_every` are mean seconds between two of a kind, 0 for
    none. `latency` False: what is sent is received at once, for a server whose network is real.
    The same arguments always give the same bytes.
    """

    def __init__(
        self, *, seed: int, events: int = 60, start: int, rate: float = 150.0,
        plant_every: float = 15.0, decoy_every: float = 8.0, jump_every: float = 12.0,
        latency: bool = True,
    ) -> None:  # fmt: skip
        self.stage = Stage(seed=seed, start=start, latency=latency)
        openings = Openings(
            Catalogue(random.Random(f"{seed}:names")), random.Random(f"{seed}:openings")
        )
        flow = Flow(self.stage, random.Random(f"{seed}:flow"))
        self._rounds = Rounds(self.stage, openings, flow, random.Random(f"{seed}:rounds"))
        slots = openings.slots(events)
        per_weight = rate / FRAMES_PER_ACTION / max(sum(slot.weight for slot in slots), 1e-9)
        for slot in slots:
            event = openings.first(slot, now=start, per_weight=per_weight)
            self._rounds.begin(slot, event)
        rng = random.Random(f"{seed}:scenes")
        self._scenes = Scenes(
            self.stage, flow, rng, plant_every=plant_every, decoy_every=decoy_every
        )
        self._scenes.start()
        self.upsets = Upsets(self.stage, random.Random(f"{seed}:upsets"))
        News(self.stage, random.Random(f"{seed}:news"), every=jump_every).start()

    @property
    def now(self) -> int:
        """Venue time, unix ns."""
        return self.stage.now

    @property
    def truth(self) -> list[Truth]:
        """Every window so far in which an event was, or only looked, mispriced."""
        return self.stage.truth

    def gamma_events(self) -> list[dict[str, object]]:
        """Give every open event as Gamma would, as of now."""
        return [event_object(event, now=self.now) for event in self.stage.events.values()]

    def token_ids(self) -> list[str]:
        """List the tokens that have a book now, both of a market together."""
        return list(self.stage.places)

    def books(self, token_ids: Sequence[str]) -> list[dict[str, object]]:
        """Answer `/books` as of now; tokens without a book are left out."""
        places = self.stage.places
        found = [places[token] for token in token_ids if token in places]
        return [wire.book_answer(leg.book, outcome) for leg, outcome in found]

    def open_frames(self) -> list[Frame]:
        """Give what a client gets that connects now: the catalogue, then all books."""
        events = list(self.stage.events.values())
        for first in range(0, len(events), EVENTS_PER_PAGE):
            self._page(events, first)
        self._rounds.show_books(events)
        for event in events[:: max(1, len(events) // ECHOES)]:
            self._echo(event, event.legs[0])
        return self.stage.collect()

    def show(self, event_ids: Sequence[str]) -> None:
        """Answer somebody who begins to follow these events: their listings, then all books."""
        known = self.stage.events
        events = [known[event_id] for event_id in event_ids if event_id in known]
        if events:
            self.stage.publish(events, req="/events/keyset?limit=100")
            self._rounds.show_books(events)

    def place_of(self, event_id: str) -> tuple[int, list[str]] | None:
        """Return the connection and the tokens of an open event."""
        event = self.stage.events.get(event_id)
        if event is None:
            return None
        return event.conn, [token for leg in event.legs for token in leg.spec.token_ids]

    def advance(self, until: int | None) -> list[Frame] | None:
        """Do the next thing and give its frames (maybe none); None: nothing left by `until`."""
        return self.stage.advance(until)

    def burst(self, plants: int) -> int:
        """Let the whole venue hurry for a while and plant arbitrages in it; return how many."""
        for event in self.stage.events.values():
            event.mood, event.mood_until = HASTE, self.now + HASTE_NS
        return self._scenes.burst(plants)

    def _page(self, events: list[LiveEvent], first: int) -> None:
        beyond = first + EVENTS_PER_PAGE
        after = f"&after_cursor=sim{first}" if first else ""
        self.stage.publish(
            events[first:beyond],
            req=f"/events/keyset?limit={EVENTS_PER_PAGE}&closed=false{after}",
            cursor=f"sim{beyond}" if beyond < len(events) else None,
        )

    def _echo(self, event: LiveEvent, leg: LiveMarket) -> None:
        price = leg.book.best_bid
        edit = (True, price, leg.book.bids.size(price))
        self.stage.push(event.conn, wire.price_change(leg.book, edit, wire.seal(leg.book)))


def frames(world: World, *, until: int | None = None) -> Iterator[Frame]:
    """Connect to a world and yield what it sends, in order of receive time.

    `until` (unix ns) bounds the venue's time; frames sent by then may be received a little
    later. None: for ever. Connecting again later starts with new snapshots.
    """
    yield from world.open_frames()
    while (sent := world.advance(until)) is not None:
        yield from sent
