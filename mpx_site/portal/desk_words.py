"""What the states of orders, legs, limits and switches mean, in the words an operator reads."""

from __future__ import annotations

# Per state of an intent: how it looks, its sign, what it means.
INTENTS = {
    "SUGGESTED": ("late", "◇", "Waits for its approval until its deadline or its signal's end."),
    "APPROVED": ("late", "◐", "Approved; its legs are at the paper venue."),
    "FILLED": ("ok", "●", "All that came together is held, or was turned into cash at once."),
    "REJECTED": ("off", "✕", "Turned down: by a check, or by a person with a reason."),
    "EXPIRED": ("off", "○", "Nobody decided in time, or its signal closed first."),
    "CANCELLED": ("off", "○", "Taken back before anything was bought."),
    "FAILED": ("stale", "■", "Nothing to keep came together; what was bought was sold."),
}

LEGS = {
    "WAITING": ("late", "◇", "At the venue, not answered yet."),
    "FILLED": ("ok", "●", "All shares bought."),
    "PARTIAL": ("late", "◐", "Some of the shares bought."),
    "FAILED": ("stale", "■", "Nothing bought."),
    "UNKNOWN": ("stale", "?", "The venue's answer was lost; it is asked for again."),
}

BREAKERS = {
    "CLOSED": ("ok", "●", "Orders pass."),
    "OPEN": ("stale", "■", "Orders are refused."),
    "HALF_OPEN": ("late", "◐", "One order is on trial; others are refused."),
}

STEPS = {
    "SUGGESTED": "suggested",
    "REVISED": "revised: a new plan",
    "APPROVED": "approved",
    "REJECTED": "rejected",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
    "STOPPED": "stopped while it was being filled",
    "APPROVAL_REFUSED": "approval refused",
    "REJECTION_REFUSED": "rejection refused",
    "REVISION_REFUSED": "new plan refused",
    "CANCEL_REFUSED": "cancelling refused",
    "LEG_FILLED": "leg filled",
    "LEG_PARTIAL": "leg filled in part",
    "LEG_FAILED": "leg failed",
    "LEG_REFUSED": "leg refused by a check",
    "LEG_UNKNOWN": "the answer for a leg was lost",
    "LEG_KNOWN": "the lost answer arrived",
    "LEG_UNWOUND": "leg sold again",
    "UNWIND_FAILED": "leg could not be sold again",
    "INCOMPLETE": "incomplete: selling what belongs to no basket",
    "GIVEN_UP": "given up: no broker answered",
    "FILLED": "filled",
    "FAILED": "failed",
}

# What was asked for, by the kind of the audit entry that refused it.
REFUSED = {
    "intent.suggestion_refused": "The suggestion was refused",
    "intent.revision_refused": "The new plan was refused",
    "intent.approval_refused": "The approval was refused",
    "intent.rejection_refused": "The rejection was refused",
    "intent.cancel_refused": "Cancelling was refused",
    "killswitch.trip_refused": "Tripping the kill switch was refused",
    "killswitch.rearm_refused": "Re-arming was refused",
    "breaker.reset_refused": "Resetting the breaker was refused",
    "policy.confirm_refused": "Confirming the limits was refused",
    "policy.refuse_refused": "Dropping the limits was refused",
}

# The figures of a plan, by their names in a difference.
FIGURES = {
    "notional": "Costs at most",
    "min_payoff": "Pays at worst",
    "worst_loss": "Lost if legs stay open",
}
