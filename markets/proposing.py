"""One run over all markets: read them, match them, find their ladders, propose what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from markets.ladders import Ladders, find_ladders
from markets.matching import match
from markets.questions import Wording, read
from markets.related import Proposal
from markets.relation_models import Relation
from markets.relations import Tally, propose, retire_ended
from markets.synonyms import store_groups
from markets.synonyms_file import Dictionary
from markets.wordings import all_wordings


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found among markets, before anything is stored."""

    wordings: Mapping[str, Wording]
    matches: tuple[Proposal, ...]
    ladders: Ladders

    def counts(self) -> dict[str, int]:
        """Return how many proposals there are, by how they were found and their type."""
        found = [*self.matches, *self.ladders.proposed]
        return dict(sorted(Counter(f"{each.method}: {each.type}" for each in found).items()))

    def suppressed(self) -> dict[str, int]:
        """Return how many steps the venue's data contradict, by method and reason."""
        held = Counter(f"{each.method}: {each.reason}" for each in self.ladders.suppressed)
        return dict(held.most_common())


@dataclass(frozen=True, slots=True)
class Run:
    """What one run stored. `retired` are proposals whose markets have ended."""

    found: Findings
    matching: Tally
    ladders: Tally
    groups_new: int
    groups_grown: int
    retired: int


def find(dictionary: Dictionary, wordings: Iterable[Wording] | None = None) -> Findings:
    """Look through markets, all of them unless some are given; stores nothing.

    35,000 markets with their rules take about 20 s of one core and 320 MB.
    """
    listed = all_wordings() if wordings is None else list(wordings)
    readings = [(wording, read(wording, aliases=dictionary.aliases)) for wording in listed]
    return Findings(
        wordings={wording.market_id: wording for wording in listed},
        matches=tuple(match(readings, threshold=dictionary.threshold)),
        ladders=find_ladders(readings),
    )


def propose_all(dictionary: Dictionary, *, by: str, at: datetime) -> Run:
    """Find and store; doing it again adds only what is new. Safe to repeat at any time."""
    retired = retire_ended(at=at)
    found = find(dictionary)
    new, grown = store_groups(
        found.matches, found.wordings, min_size=dictionary.min_size, by=by, at=at
    )
    return Run(
        found=found,
        matching=propose(found.matches, origin=Relation.Origin.MATCHING, by=by, at=at),
        ladders=propose(found.ladders.proposed, origin=Relation.Origin.LADDER, by=by, at=at),
        groups_new=new,
        groups_grown=grown,
        retired=retired,
    )
