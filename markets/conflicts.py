"""What contradicts itself in the venue's own data about a market (pure).

Only clear contradictions count: the flag is there to make a person look, and
a flag on every tenth market would make nobody look.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from markets.groups import gaps_in
from markets.listing import OVER, EventTerms, MarketTerms

# The venue's `endDate` lies on the question's day or the next one in nine of ten questions with
# a date; a week allows for time zones and "week ending on".
TOLERATED_DAYS = 7

_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_DATE = re.compile(
    rf"\b(?:by|before|on|until|through)\s+(?P<month>{_MONTHS})\s+"
    r"(?P<day>\d{1,2})(?:st|nd|rd|th)?\b(?:,?\s+(?P<year>20\d\d)\b)?",
    re.IGNORECASE,
)


def conflicts_of(event: EventTerms) -> Mapping[str, str]:
    """Return what is wrong with each market that is not finished, by market id; "" is nothing."""
    shared = _of_event(event)
    return {
        market.market_id: "; ".join((*shared, *_of_market(event, market)))
        for market in event.markets
        if market.untradable not in OVER
    }


def _of_event(event: EventTerms) -> tuple[str, ...]:
    found = []
    groups = {market.neg_risk_id for market in event.markets} - {None}
    if len(groups) > 1:
        found.append("the event's markets name different neg-risk groups")
    gaps = gaps_in(market.leg_number for market in event.markets) if event.complete else ()
    if event.neg_risk and gaps:
        found.append(f"outcomes numbered {_listed(gaps)} are not listed in the event")
    return tuple(found)


def _of_market(event: EventTerms, market: MarketTerms) -> tuple[str, ...]:
    found = []
    if event.neg_risk and market.neg_risk_id is None:
        found.append("the event is neg-risk, the market is not")
    if not event.neg_risk and market.neg_risk_id is not None:
        found.append("the market is neg-risk, the event is not")
    if late := _date_conflict(market):
        found.append(late)
    return tuple(found)


def _date_conflict(market: MarketTerms) -> str:
    if market.end_at is None:
        return ""
    end = market.end_at.date()
    asked = date_in(market.question, near=end)
    if asked is None or abs((end - asked).days) <= TOLERATED_DAYS:
        return ""
    return f"the question speaks of {asked}, the venue ends it on {end}"


def date_in(question: str, *, near: date) -> date | None:
    """Return the day a question speaks of ("by June 30", "on July 4, 2026").

    Without a year it is the one closest to `near`. None where there is no such
    day, more than one, or one that does not exist.
    """
    found = list(_DATE.finditer(question))
    if len(found) != 1:
        return None
    month = _MONTHS.split("|").index(found[0]["month"].lower()) + 1
    day, year = int(found[0]["day"]), found[0]["year"]
    years = (int(year),) if year else (near.year - 1, near.year, near.year + 1)
    days = [each for each in (_day(y, month, day) for y in years) if each]
    return min(days, key=lambda each: abs((each - near).days), default=None)


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _listed(numbers: tuple[int, ...]) -> str:
    told = ", ".join(map(str, numbers[:10]))
    return told if len(numbers) <= 10 else f"{told} and {len(numbers) - 10} more"
