"""An exam for detectors: thousands of small cases in the venue's own words, seeded."""

from markets.simulator.exam.cases import Case, Charge, Check, Detector, Quoted, Stake, States
from markets.simulator.exam.paper import START, paper
from markets.simulator.exam.watched import HISTORY

__all__ = [
    "HISTORY",
    "START",
    "Case",
    "Charge",
    "Check",
    "Detector",
    "Quoted",
    "Stake",
    "States",
    "paper",
]
