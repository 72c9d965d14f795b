"""Every rule over the real data of `../shared/data`: `python -m tests.real_rules` prints a table.

What the data lack is not made up, with two exceptions that are said where they count:
the listing and the US quotes have prices without sizes, so each price is taken as good
for `NOMINAL` shares (then size stops nothing), and a series of prices without bid and
ask is shown to SPIKE and TREND as a narrow quote around it (they look at its middle alone).
A price without bid and ask is never shown to a rule that buys.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from markets.book import NO_ASK, NO_BID
from markets.fills import PRICE_ONE, SIZE_ONE, Ladder
from markets.ladders import Ladders, find_ladders
from markets.listing import BadListing, EventTerms, MarketTerms, read_page
from markets.matching import match
from markets.past.imports.documents import document, price_history, top_dump
from markets.past.imports.reading import Loaded, table
from markets.past.imports.tables import bare_quotes, price_rows, side_quotes
from markets.past.tops import Top
from markets.questions import Wording, read
from markets.related import BASES, Proposal
from rules.kernel.baskets import detect_event, detect_market, yes_outcome
from rules.kernel.cross import detect_related, near_miss, related_sets
from rules.kernel.endgame import EndgameParams, History, detect_endgame
from rules.kernel.finding import EventView, Finding, Limits, MarketView
from rules.kernel.imbalance import ImbalanceParams, ImbalanceWatch
from rules.kernel.relations import Relation
from rules.kernel.spike import SpikeParams, SpikeWatch
from rules.kernel.temporal import date_ladders, detect_temporal
from rules.kernel.trend import TrendParams, TrendWatch
from tests.resolved import games, resolved_events, shared
from tests.worlds import market_terms

NOMINAL = 1_000 * SIZE_ONE
LIMITS = Limits()
FEBRUARY = datetime(2026, 2, 15, tzinfo=UTC)  # about when the listing was kept
NS = 1_000_000_000
CENT, TENTH = 100, 10  # ticks in 1e-4 USD


@dataclass
class Told:
    """What came of a rule on a set of data: how often it looked, and what it found."""

    looks: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    near: int = 0

    def take(self, finding: Finding | None) -> None:
        self.looks += 1
        if finding is not None:
            self.verdicts[finding.verdict] += 1

    def __str__(self) -> str:
        found = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.verdicts.items()))
        near = f", {self.near} near misses" if self.near else ""
        return f"{self.looks} looks: {found or 'nothing'}{near}"


def rows_of(path: str) -> Iterator[dict[str, str]]:
    return (row for _, row in table(shared(path)))


def units(price: str | float) -> int:
    return round(float(price) * PRICE_ONE)


# --- the listing of February 2026 --------------------------------------------------------


def listed_objects() -> list[dict[str, Any]]:
    with gzip.open(shared("gamma/markets_2026-02.jsonl.gz"), "rt") as file:
        return [json.loads(line) for line in file]


def listed_events(objects: Sequence[dict[str, Any]]) -> tuple[EventTerms, ...]:
    """Return the events as far as the page shows them: none of them is complete."""
    rejected: list[BadListing] = []
    return read_page(list(objects), rejected=rejected)


def listed_views(
    objects: Sequence[dict[str, Any]], events: Iterable[EventTerms]
) -> list[EventView]:
    """Give each listed market its best bid and ask, as if good for `NOMINAL` shares."""
    quotes = {each["id"]: (each.get("bestBid") or 0, each.get("bestAsk") or 1) for each in objects}
    return [
        EventView(
            event, tuple(quoted(market, *quotes[market.market_id]) for market in event.markets)
        )
        for event in events
    ]


def quoted(terms: MarketTerms, bid: float, ask: float) -> MarketView:
    return MarketView(terms, (_offer(units(ask)), _offer(PRICE_ONE - units(bid))))


def _offer(price: int) -> Ladder:
    return ((price, NOMINAL),) if 0 < price < PRICE_ONE else ()


def listed_wordings(
    objects: Sequence[dict[str, Any]], events: Iterable[EventTerms]
) -> list[Wording]:
    told = {each["id"]: each for each in objects}
    return [
        Wording(
            market_id=market.market_id,
            question=market.question,
            outcomes=market.outcomes,
            label=market.label,
            event_id=event.event_id,
            event_title=event.title,
            end_at=market.end_at,
            rules=told[market.market_id].get("description") or "",
            source=told[market.market_id].get("resolutionSource") or "",
            neg_risk=event.neg_risk,
            payout=market.payout,
            opened_at=_time(told[market.market_id].get("startDate")),
        )
        for event in events
        for market in event.markets
    ]


def flat_wordings(path: str) -> list[Wording]:
    """Read a flat listing: questions, ends and listing days, no rules and no events."""
    return [
        Wording(
            market_id=row.get("id") or row["market_id"],
            question=row["question"],
            end_at=_time(row["end_date"]),
            opened_at=_time(row["created_date"]),
        )
        for row in rows_of(path)
    ]


def us_wordings() -> list[Wording]:
    """Read the US markets; which event one is of is in its address, before the last word."""
    return [
        Wording(row["slug"], row["question"], label=row["slug"], event_id=us_event(row["slug"]))
        for row in rows_of("us_quotes/markets.csv.gz")
    ]


def us_event(slug: str) -> str:
    return slug.rpartition("-")[0]


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# --- ladders ------------------------------------------------------------------------------


def ladders_in(wordings: Iterable[Wording]) -> Ladders:
    return find_ladders([(each, read(each)) for each in wordings])


def proposals_in(wordings: Iterable[Wording]) -> tuple[Proposal, ...]:
    readings = [(each, read(each)) for each in wordings]
    return (*match(readings, threshold=0.78), *find_ladders(readings).proposed)


def by_method(found: Iterable[Any]) -> dict[str, int]:
    return dict(sorted(Counter(each.method for each in found).items()))


def reasons(ladders: Ladders, method: str) -> Counter[str]:
    return Counter(each.reason for each in ladders.suppressed if each.method == method)


# --- rules that buy -----------------------------------------------------------------------


def baskets_over(views: Iterable[EventView], *, at: datetime) -> tuple[Told, int]:
    """Return what DUTCH_BOOK says, and in how many events shown YES cost less than 1 together."""
    told, naive = Told(), 0
    for view in views:
        found, near = detect_event(view, at=at, limits=LIMITS)
        told.looks += 1
        told.near += len(near)
        told.verdicts.update(finding.verdict for finding in found)
        naive += view.terms.neg_risk and yes_sum(view) < PRICE_ONE
    return told, naive


def yes_sum(view: EventView) -> int:
    """Add up the best YES asks; a leg without one counts as 1 USD."""
    open_legs = [leg for leg in view.markets if leg.terms.payout is None]
    if len(open_legs) < 2:
        return PRICE_ONE
    asks = [leg.asks[yes_outcome(leg.terms)] for leg in open_legs]
    return sum(ask[0][0] if ask else PRICE_ONE for ask in asks)


def relations_over(
    views: Iterable[EventView], proposals: Iterable[Proposal], *, at: datetime, approved: bool
) -> tuple[Told, Told]:
    """Return what CROSS_MARKET and TEMPORAL say of proposals, approved or as they are."""
    markets = {leg.terms.market_id: leg for view in views for leg in view.markets}
    terms = {pk: leg.terms for pk, leg in markets.items()}
    relations = [
        Relation(each.type, each.members, approved, (), BASES.get(each.method, ""))
        for each in proposals
    ]
    cross, temporal = Told(), Told()
    for related in related_sets(relations, terms, refused=[]):
        cross.take(detect_related(related, markets, at=at, limits=LIMITS))
        cross.near += near_miss(related, markets) is not None
    for related in related_sets(date_ladders(relations), terms, refused=[]):
        temporal.take(detect_temporal(related, markets, at=at, limits=LIMITS))
    return cross, temporal


def endgame_over(
    views: Iterable[EventView], history: History, *, at: datetime, params: EndgameParams
) -> Told:
    told = Told()
    for view in views:
        told.take(detect_endgame(view, at=at, params=params, history=history))
    return told


def known_endgames() -> History:
    return History.of([*resolved_events(), *games()])


# --- quotes in time ------------------------------------------------------------------------

Touch = tuple[int, int, int]  # unix ns, bid and ask in 1e-4 USD


def series(path: str) -> Iterator[tuple[str, list[Touch]]]:
    """Yield the touches of each market of a file of quotes, in their order."""
    return by_market(bare_quotes(shared(path)))


def by_market(loaded: Loaded) -> Iterator[tuple[str, list[Touch]]]:
    rows = sorted(loaded.rows, key=attrgetter("market_id", "t"))
    for name, group in groupby(rows, key=attrgetter("market_id")):
        yield name, [(row.t, row.bid, row.ask) for row in group]


def pairs_over(found: Iterable[tuple[str, list[Touch]]]) -> Told:
    """Show every touch to DUTCH_BOOK as a market of its own: nothing says which belong together."""
    told = Told()
    terms = market_terms(1, neg_risk_id=None, event_id=None)
    for _, touches in found:
        for at, bid, ask in touches:
            problems = ("crossed",) if bid >= ask else ()
            view = MarketView(terms, (_offer(ask), _offer(PRICE_ONE - bid)), problems)
            findings, near = detect_market(view, at=_moment(at), limits=LIMITS)
            told.looks += 1
            told.near += len(near)
            told.verdicts.update(finding.verdict for finding in findings)
    return told


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / NS, UTC)


def moves_over(
    found: Iterable[tuple[str, list[Touch]]], *, bar_secs: float, tick: int = CENT
) -> tuple[Told, Told]:
    """Return what SPIKE and TREND say, in bars of the data's own pace."""
    spikes, breakouts = Told(), Told()
    terms = market_terms(1, tick=tick)
    for _, touches in found:
        spike, trend = SpikeWatch(terms, SpikeParams()), TrendWatch(TrendParams(bar_secs=bar_secs))
        for at, bid, ask in touches:
            spikes.looks += 1
            breakouts.looks += 1
            jumped = spike.update(at, bid, ask, NOMINAL, NOMINAL)
            spikes.verdicts["OBSERVED"] += jumped is not None
            breakouts.verdicts["OBSERVED"] += trend.update(at, bid, ask) is not None
    return spikes, breakouts


def tilts_over(found: Iterable[tuple[str, list[tuple[int, Ladder, Ladder]]]]) -> Told:
    """Return what IMBALANCE says of books with real sizes at the touch."""
    told = Told()
    for _, books in found:
        watch = ImbalanceWatch(ImbalanceParams())
        for at, bids, asks in books:
            told.looks += 1
            told.verdicts["OBSERVED"] += watch.update(at, bids, asks) is not None
    return told


# --- tops of book -----------------------------------------------------------------------------


def dumped_books() -> dict[str, list[tuple[int, Ladder, Ladder]]]:
    """Return the touches of each token in the four dumps of a top-of-book cache, with sizes."""
    found: dict[str, list[tuple[int, Ladder, Ladder]]] = {}
    for path in sorted(shared("tob").glob("polybot_*.json.gz")):
        for top in top_dump(path).rows:
            assert isinstance(top, Top)
            bids = () if top.bid == NO_BID else ((top.bid, top.bid_size),)
            asks = () if top.ask == NO_ASK else ((top.ask, top.ask_size),)
            found.setdefault(top.market_id, []).append((top.t, bids, asks))
    for books in found.values():
        books.sort(key=itemgetter(0))
    return found


def dumped_pairs(found: dict[str, list[tuple[int, Ladder, Ladder]]]) -> Told:
    told = Told()
    terms = market_terms(1, neg_risk_id=None, event_id=None)
    for books in found.values():
        for at, bids, asks in books:
            no_asks = tuple((PRICE_ONE - price, size) for price, size in bids)
            crossed = bool(bids and asks and bids[0][0] >= asks[0][0])
            view = MarketView(terms, (asks, no_asks), ("crossed",) if crossed else ())
            findings, near = detect_market(view, at=_moment(at), limits=LIMITS)
            told.looks += 1
            told.near += len(near)
            told.verdicts.update(finding.verdict for finding in findings)
    return told


@dataclass(frozen=True)
class BothSides:
    """A market whose two sides were recorded apart: told as they are, and believed both."""

    told: Told
    believed: int  # that would be executable if two quotes of different moments were one book
    yes: list[tuple[str, list[Touch]]]


def both_sides() -> BothSides:
    """Run DUTCH_BOOK over both recorded sides of 5-minute markets, newest quote of each."""
    told, believed, yes = Told(), 0, []
    terms = market_terms(1, neg_risk_id=None, event_id=None)
    path = shared("tob/btc_updown_5m_2026-02-18_both_sides.csv.gz")
    rows = side_quotes(path, Loaded(path, "both-sides", "prices"))
    for name, group in groupby(rows, key=attrgetter("market_id")):
        side: dict[bool, tuple[int, int]] = {}  # by whether it is the second
        touches: list[Touch] = []
        for row in group:
            at = row.t
            side[row.second] = (row.bid, row.ask)
            if not row.second:
                touches.append((at, row.bid, row.ask))
            if len(side) < 2:
                continue
            (bid, ask), (no_bid, no_ask) = side[False], side[True]
            agree = (bid, ask) == (PRICE_ONE - no_ask, PRICE_ONE - no_bid)
            problems = () if agree else ("incoherent_pair",)
            view = MarketView(terms, (_offer(ask), _offer(no_ask)), problems)
            findings, _ = detect_market(view, at=_moment(at), limits=LIMITS)
            told.looks += 1
            told.verdicts.update(finding.verdict for finding in findings)
            believing, _ = detect_market(replace(view, problems=()), at=_moment(at), limits=LIMITS)
            believed += any(finding.verdict == "EXECUTABLE" for finding in believing)
        yes.append((name, touches))
    return BothSides(told, believed, yes)


# --- prices without bid and ask ------------------------------------------------------------------


def kept_history() -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = document(shared("history/historical_events.json.gz"))["events"]
    return events


def history_views(events: Iterable[dict[str, Any]]) -> list[EventView]:
    """Return the events as a rule sees them that have prices and no quotes: without any offer."""
    views = []
    for number, event in enumerate(events):
        group = f"0x{number:064x}" if event["neg_risk"] else None
        markets = tuple(
            MarketView(
                market_terms(place, event_id=event["id"], neg_risk_id=group, leg_number=place),
                ((), ()),
                ("awaiting",),
            )
            for place in range(len(event["outcomes"]))
        )
        terms = EventTerms(
            event_id=event["id"],
            title=event["title"],
            neg_risk=event["neg_risk"],
            augmented=False,
            markets=tuple(view.terms for view in markets),
        )
        views.append(EventView(terms, markets))
    return views


def price_sums(events: Iterable[dict[str, Any]]) -> list[float]:
    """Add the last known prices up at every moment at which one of an exclusive event changed."""
    sums = []
    for event in events:
        if not event["neg_risk"]:
            continue
        points = sorted(
            (point["t"], number, point["p"])
            for number, outcome in enumerate(event["outcomes"])
            for point in outcome["history"]
        )
        last: dict[int, float] = {}
        for _, number, price in points:
            last[number] = price
            if len(last) == len(event["outcomes"]):
                sums.append(sum(last.values()))
    return sums


def history_moves() -> Iterator[tuple[str, list[Touch]]]:
    return by_market(price_history(shared("history/historical_events.json.gz")))


def flu_moves() -> Iterator[tuple[str, list[Touch]]]:
    return by_market(price_rows(shared("tob/spanishflu_prices_2026-02-04.csv.gz")))


# --- the table ------------------------------------------------------------------------------------


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def report() -> None:
    objects = listed_objects()
    events = listed_events(objects)
    views = listed_views(objects, events)
    wordings = {
        "gamma 2026-02": listed_wordings(objects, events),
        "manja 2026-04-13": flat_wordings("gamma/manja_markets_1a6467.csv.gz"),
        "manja 2026-04-17": flat_wordings("gamma/manja_markets_d174a6.csv.gz"),
        "us markets": us_wordings(),
    }
    for name, listed in wordings.items():
        found = ladders_in(listed)
        say(f"{name}: {len(listed)} markets; ladders proposed {by_method(found.proposed)}, "
            f"steps suppressed {by_method(found.suppressed)}")  # fmt: skip
        for method in by_method(found.suppressed):
            for reason, count in reasons(found, method).most_common(6):
                say(f"    {method}: {count} {reason}")
    told, naive = baskets_over(views, at=FEBRUARY)
    say(f"gamma dutch: {told}; exclusive events shown under 1 USD: {naive}")
    proposals = proposals_in(wordings["gamma 2026-02"])
    for approved in (False, True):
        cross, temporal = relations_over(views, proposals, at=FEBRUARY, approved=approved)
        say(f"gamma {len(proposals)} relations, approved {approved}: cross {cross}; "
            f"temporal {temporal}")  # fmt: skip
    params = EndgameParams(minutes_to_end=60 * 24 * 30)
    say(f"gamma endgame, 30 days: "
        f"{endgame_over(views, known_endgames(), at=FEBRUARY, params=params)}")  # fmt: skip
    for path in ("quotes_2026-08-13_1200-1800_nonsports", "quotes_2026-07-12_resolved_games"):
        found = list(series(f"us_quotes/{path}.csv.gz"))
        spikes, breakouts = moves_over(found, bar_secs=120)
        say(f"{path}: dutch {pairs_over(found)}; spike {spikes}; trend {breakouts}")
    apart = both_sides()
    spikes, breakouts = moves_over(apart.yes, bar_secs=5)
    say(f"btc both sides: dutch {apart.told}, {apart.believed} if both were believed; "
        f"spike {spikes}; trend {breakouts}")  # fmt: skip
    dumps = dumped_books()
    say(f"dumps: dutch {dumped_pairs(dumps)}; imbalance {tilts_over(dumps.items())}")
    kept = kept_history()
    told, _ = baskets_over(history_views(kept), at=FEBRUARY)
    sums = price_sums(kept)
    low = sum(each < 0.98 for each in sums)
    high = sum(each > 1.02 for each in sums)
    spikes, breakouts = moves_over(history_moves(), bar_secs=1_800)
    say(f"history: dutch {told}; of {len(sums)} sums of prices {low} are under 0.98 and "
        f"{high} over 1.02; spike {spikes}; trend {breakouts}")  # fmt: skip
    spikes, breakouts = moves_over(flu_moves(), bar_secs=300, tick=TENTH)
    say(f"flu prices: spike {spikes}; trend {breakouts}")


if __name__ == "__main__":
    report()
