"""The simulated venue: seeded, deterministic, offline, indistinguishable on the wire."""

from markets.simulator.truth import DECOYS, Truth
from markets.simulator.world import World, frames

__all__ = ["DECOYS", "Truth", "World", "frames"]
