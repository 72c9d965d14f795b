"""Who sits the exam, and the 30 families of traps in it (`detection.md` section 6)."""

from __future__ import annotations

from dataclasses import dataclass

# The rules that sit the exam, by their detectors.
CODES = {
    "dutch_book": "DUTCH_BOOK_DETECT",
    "cross_market": "CROSS_MARKET_MISPRICE",
    "temporal": "TEMPORAL_ARB",
    "spike": "SPIKE_DETECT",
    "endgame": "ENDGAME_SWEEP",
}


@dataclass(frozen=True, slots=True)
class Family:
    """`code` is its name in results; `about` says what it is and what counts as a mistake."""

    number: int
    code: str
    about: str


_ROWS = (
    ("gross_not_net", "Asks add up to less than 1 USD, to more with fees."),
    ("fee_free", "Free of fees and still a hair above 1 USD."),
    ("legacy_fee", "Another fee curve eats the gap, or nobody states the fee."),
    ("thin_top", "Pays, but less than 0.50 USD in all."),
    ("unequal_depth", "NO legs of very different depth that pay before fees only."),
    ("below_min_size", "One leg offers a lot less than the venue's minimum."),
    ("empty_leg", "Nobody sells one of the outcomes."),
    ("stale_leg", "A leg's connection is cut; its old price would pay, its new one does not."),
    ("late_mirror", "The NO side of a move is told up to 400 ms after the YES side."),
    ("crossed_book", "A book whose bid is above its ask."),
    ("not_exhaustive", "The listed outcomes are not all there are."),
    ("outcome_added", "An outcome joins; without it the rest would pay."),
    ("plain_group", "Markets of one event that do not exclude each other."),
    ("swapped_implication", "An implication whose reverse would pay."),
    ("cut_off_conflict", "A date ladder whose cut-offs or time zones do not fit."),
    ("short_buckets", "Thresholds and ranges that pay before fees only."),
    (
        "unlisted_candidate",
        "All listed candidates against their party, which may win without them.",
    ),
    ("paraphrase", "Two questions that sound alike, with other sources or not approved."),
    ("void_label", "A pair that a void would break. Counts: P1 that do not say so."),
    ("post_event", "Over and resolved, with books that still show a basket."),
    ("not_accepting", "A market, or all of an event, takes no orders."),
    ("muddled_frames", "Frames twice, out of order, or with a size that the hash denies."),
    ("flicker", "Gone within 250 ms, once or again and again."),
    ("many_snapshots", "One basket shown over and over. Counts: P1 beyond the first."),
    ("bankroll_limited", "Needs more money than the rule has. Counts: P1 that cost more."),
    ("bracket_in_order", "A bracket of 16 teams that pays before fees only."),
    ("shared_leg", "Two arbitrages need one leg. Counts: P1 that take more than is offered."),
    ("no_jump", "Bounces and single ticks of a flat price. Counts: spikes told."),
    ("endgame_unknown", "Near-certain, with 25 of its like on record. Counts: bets told."),
    ("leakage_bait", "Trades and fills from the future. Counts: any signal they change."),
)

FAMILIES = tuple(Family(number, *row) for number, row in enumerate(_ROWS, 1))
