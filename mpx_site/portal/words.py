"""What the desk's codes mean, in the words an operator reads."""

from __future__ import annotations

LEVELS = {
    "P1": "Executable as stated: real depth, fees paid, every gate open.",
    "P2": "Pays after fees, but less than the rule asks for or not for long enough yet; or it is a "
    "direction or a bet.",
    "P3": "Watch only: the reasons given stop it.",
}

VERDICTS = {
    "EXECUTABLE": "Every leg can be bought at the stated size and limit.",
    "THIN": "Positive after fees, but under the rule's least profit or edge.",
    "BLOCKED": "The prices would pay, but at least one gate is shut.",
    "OBSERVED": "A direction or a bet, no arbitrage: nothing is sure to be paid.",
}

KINDS = {
    "binary": (
        "Binary pair",
        "Both outcomes of one market. Exactly one pays 1 USD, and a pair merges back to "
        "cash at once.",
    ),
    "yes_basket": (
        "YES basket",
        "One YES of every outcome of an event whose outcomes are exhaustive: exactly one "
        "pays 1 USD per share when the event resolves.",
    ),
    "no_basket": (
        "NO basket",
        "NO of several outcomes of which at most one can be true: all but one of them pay "
        "1 USD per share. Converting the basket pays at once.",
    ),
    "implies": ("Implication", "If one outcome is true the other must be."),
    "exclusive": ("Exclusive set", "At most one of these outcomes can be true."),
    "exhaustive": ("Exhaustive set", "At least one of these outcomes must be true."),
    "equivalent": ("Equivalent pair", "These outcomes are true together or not at all."),
    "ladder": ("Ladder", "Thresholds or dates of which each implies the next."),
    "lp": ("Combination", "The best basket over all approved relations."),
    "spike": ("Spike", "A price that jumped by more than its usual noise and stayed there."),
    "endgame": ("Endgame", "An outcome that is nearly certain, shortly before its market ends."),
    "post_event": (
        "After the end",
        "An outcome that is nearly certain, of a market that is over and not yet resolved.",
    ),
    "imbalance": ("Imbalance", "A book with far more on one side than on the other, for a while."),
    "breakout": ("Breakout", "A price that left the channel it has traded in."),
}

# What a rule noted down of what it saw: name and unit.
FACTS = {
    "direction": "Direction",
    "before": "Middle of bid and ask before, USD",
    "after": "Middle of bid and ask after, USD",
    "mid": "Middle of bid and ask, USD",
    "move_logit": "Move, log-odds",
    "deviations": "Move, in standard deviations of one update",
    "score": "Score; 1 is the threshold",
    "updates": "Updates it took",
    "seconds": "Seconds it took",
    "imbalance": "Imbalance, from -1 to +1",
    "bid_shares": "Shares bid",
    "ask_shares": "Shares offered",
    "channel_low": "Channel from, USD",
    "channel_high": "Channel to, USD",
    "beyond_logit": "Beyond the channel, log-odds",
    "volume_ratio": "Traded, times the usual",
    "outcome": "Outcome",
    "price": "Best offer, USD",
    "cost": "Cost of a share with its fee, USD",
    "hours_left": "Hours until its end",
    "compared_with": "Compared with",
    "events": "Resolved events to compare with",
    "won": "Of these it came true in",
    "lower_bound": "It comes true with a probability of at least",
    "break_even": "Probability from which it pays",
    "events_needed": "Events needed to tell, if all came true",
    "ev_bps": "Expected at that probability, bps",
    "ev_usd": "Expected at that probability, USD",
    "payoff_if_one_void": "Pays at worst if the venue voids a market, USD",
}

BLOCKERS = {
    "min_size": "A leg is under the market's minimum size, or under 1 USD before fees.",
    "unconfirmed_terms": "The venue has not told the market's terms again since it began to pay.",
    "not_tradable": "A leg's market is paused, closed or not yet open.",
    "missing_leg": "An outcome of the event is not listed here or has no offer.",
    "one_sided": "An outcome has bids but no offer to buy.",
    "augmented": "The venue may add outcomes, so the listed ones are not exhaustive.",
    "unknown_fee": "Fees are on for a leg and their schedule is not known.",
    "crossed": "A leg's book is crossed, so its prices cannot be trusted.",
    "stale": "A leg's book may have missed changes.",
    "awaiting": "A leg's book has not been received yet.",
    "batch": "A leg's book was in the middle of a change.",
    "incoherent_pair": "The two sides of a leg's book contradict each other.",
    "metadata_conflict": "The venue's own data do not tie a leg to this event.",
    "unapproved_relation": "Nobody has approved the relation this rests on.",
    "insufficient_data": "Too few resolved events like it to tell whether it pays.",
}

NEEDS = {
    "unconfirmed_terms": "The venue's next word on the market, which is asked for at once.",
    "not_tradable": "The venue accepting orders again.",
    "missing_leg": "Every outcome listed, and somebody who offers it.",
    "one_sided": "Somebody who offers it.",
    "augmented": "Nothing opens this gate; a NO basket does not need it.",
    "unknown_fee": "The venue stating the market's fees.",
    "crossed": "The next snapshot that is not crossed.",
    "stale": "The next snapshot; the stream asks for it by itself.",
    "awaiting": "A first snapshot: only what is on the watch list has books.",
    "batch": "The rest of the change, within a second.",
    "incoherent_pair": "The next snapshot in which both sides agree.",
    "metadata_conflict": "The venue correcting its data.",
    "unapproved_relation": "A person who approves the relation.",
    "insufficient_data": "More resolved events like it.",
}

# The same code of a relation, whose markets need not be of one event.
RELATED = {
    "metadata_conflict": (
        "Its markets are not known to settle alike, and nobody has checked that.",
        "A person who checks what differs.",
    ),
}

CONDITIONS = {
    "riskless_given_no_void": "Riskless unless the venue voids the market (50/50).",
    "riskless_given_exhaustive": "Riskless only if the listed outcomes are all there are.",
}

CLOSE_REASONS = {
    "edge_gone": "Prices moved and the basket no longer pays after fees.",
    "market_closed": "A market of the basket closed or resolved.",
    "stopped": "The stream was stopped.",
    "process_lost": "The process that watched it died; closed at its last sign of life.",
    "book_stale": "A book lost its connection, so the edge can no longer be confirmed.",
    "book_awaiting": "A book was dropped and waits for its snapshot.",
    "book_crossed": "A book crossed, so its prices cannot be trusted.",
    "book_batch": "A book was in the middle of a change.",
    "venue_unreachable": "The venue did not answer, so the edge can no longer be confirmed.",
    "not_listed": "The venue lists the event no more.",
    "out_of_scope": "The rule does not look at this event any more.",
    "moved_back": "What was seen is no longer so, or long enough ago.",
    "rule_changed": "The rule was changed or switched off; its new version looks anew.",
    "relation_gone": "A relation it rests on was decided anew or taken out of use.",
}

MARKET_STATES = {
    "TRADABLE": "Orders are accepted.",
    "PAUSED": "The venue accepts no orders now.",
    "PLACEHOLDER": "Listed, but not yet named or opened.",
    "CLOSED": "Trading has ended; the result is not known yet.",
    "RESOLVED": "The result is known.",
    "UNLISTED": "The venue does not list it any more, or not readably.",
}

BOOK_STATES = {
    "fresh": "Followed without a gap since its snapshot.",
    "stale": "The connection was cut; not evaluated until the next snapshot.",
    "awaiting": "No snapshot yet.",
    "crossed": "Best bid at or above best ask; not evaluated.",
    "batch": "More frames of the same change are due.",
}


def kind_name(kind: str) -> str:
    return KINDS[kind][0] if kind in KINDS else kind.replace("_", " ")


def kind_meaning(kind: str) -> str:
    return KINDS[kind][1] if kind in KINDS else ""


def fact_name(code: str) -> str:
    return FACTS.get(code, code.replace("_", " "))


def blocker(code: str) -> str:
    """Say in words why a gate is shut; a code without words speaks for itself."""
    return BLOCKERS.get(code, code.replace("_", " "))


def condition(code: str) -> str:
    return CONDITIONS.get(code, code.replace("_", " "))


def close_reason(code: str) -> str:
    """Say why a signal ended: its own reasons, or the gate that shut."""
    return CLOSE_REASONS.get(code) or blocker(code) or "No reason was given."
