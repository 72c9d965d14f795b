"""Who may see the desk, on pages and over the API. What else a step takes is checked with it."""

from __future__ import annotations

SEE_DESK = "execution.view_orderintent"  # all roles have it, from viewer on
NEEDS_A_ROLE = "This takes a role of the desk: viewer, analyst, trader, approver or admin."
