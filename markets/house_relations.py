"""What the desk knows between markets, as a body that the live process takes like any other frame.

`rules.house.relations_of` reads it back. The same relations always give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, cast

from markets.related import BASES, NotExpressible, RelationType, at_outcome_0
from markets.relation_changes import FINISHED
from markets.relation_models import Relation, RelationMember

CONFLICT: Final = "metadata_conflict"

_MEMBER = ("relation_id", "market_id", "outcome", "market__state")
_Row = dict[str, Any]


def relations_mark() -> str:
    """Return a mark of all that `relations_body` depends on; another mark is other relations.

    One query over the relations alone: 1,650 of them take 11 ms. A member that ends leaves
    the mark as it is, because a relation of ended markets does nothing.
    """
    rows = Relation.objects.live().order_by("id")
    told = rows.values_list("id", "state", "fingerprint", "decided_at")
    mark = hashlib.sha256()
    for pk, state, fingerprint, decided_at in told.iterator(2_000):
        mark.update(f"{pk} {state} {fingerprint} {decided_at}\n".encode())
    return mark.hexdigest()


def relations_body() -> bytes:
    """Return the approved and proposed relations between outcome 0 of markets, as JSON.

    Left out are relations all of whose markets have ended. Rows that say the same
    are told once: approved, if one of them is. Two queries; 1,650 of three take 90 ms.
    """
    live = Relation.objects.live()
    members = (
        RelationMember.objects.filter(relation__in=live)
        .order_by("relation_id", "position")
        .values_list(*_MEMBER)
    )
    listed = {pk: list(rows) for pk, rows in groupby(members, key=itemgetter(0))}
    said: dict[tuple[str, tuple[str, ...]], _Row] = {}
    for relation in live.only("type", "method", "state", "checks", "checked").order_by("id"):
        for row in _parts(relation, listed.get(relation.pk, [])):
            key = (row["type"], tuple(row["members"]))
            if key not in said or _gates(row) < _gates(said[key]):
                said[key] = row
    told = [said[key] for key in sorted(said)]
    return json.dumps({"relations": told}, separators=(",", ":"), sort_keys=True).encode()


def _gates(row: _Row) -> tuple[bool, int]:
    return not row["approved"], len(row["blocked_by"])


def _parts(relation: Relation, rows: Sequence[tuple[Any, ...]]) -> Iterable[_Row]:
    if all(market_state in FINISHED for *_, market_state in rows):
        return
    members = [(market_id, outcome) for _, market_id, outcome, _ in rows]
    approved = relation.state == Relation.State.APPROVED
    conflict = is_in_conflict(relation.checks, relation.checked, approved=approved)
    try:
        parts = at_outcome_0(cast(RelationType, relation.type.lower()), members)
    except NotExpressible:  # refused when it is stored: a row that was written around that
        return
    for kind, markets in parts:
        yield {
            "type": kind,
            "members": list(markets),
            "approved": approved,
            "blocked_by": [CONFLICT] if conflict else [],
            "basis": BASES.get(relation.method, ""),
        }


def is_in_conflict(
    checks: Sequence[Mapping[str, Any]], checked: Iterable[str], *, approved: bool
) -> bool:
    """Say whether the same-resolution test speaks against a relation and nobody looked at it.

    `approve` asks a person to check whatever is not known to be the same, so in an
    approved relation anything else is a conflict. In one that waits only what differs
    is: that something is unknown is what it waits for.
    """
    left = {each["verdict"] for each in checks if each["aspect"] not in set(checked)}
    return bool(left - {"same"}) if approved else "different" in left
