"""Load the dictionary of synonyms, match markets, propose relations and groups, list them."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError
from django.utils import timezone

from markets.proposing import Findings, Run, find, propose_all
from markets.questions import Wording, full_question
from markets.related import Proposal
from markets.relation_models import Relation, SynonymGroup
from markets.synonyms import GroupChange, load
from markets.synonyms_file import SHIPPED, BadDictionary, Dictionary, read_file

NEGATIVE, USAGE, UNREACHABLE, DATA_MISSING = 1, 2, 3, 4
EXAMPLES = """examples:
  manage.py synonyms load
  manage.py synonyms match --limit 20
  manage.py synonyms propose --json
  manage.py synonyms list

`match` stores nothing; `propose` stores what `match` shows, for a person to decide.

exit codes: 0 ok; 1 the file is broken; 2 wrong call; 3 no database; 4 no markets are stored"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        loading = acts.add_parser("load", help="make the groups of the file so")
        matching = acts.add_parser("match", help="show what asks the same, and ladders")
        matching.add_argument("--limit", type=int, default=50, metavar="N", help="shown of a kind")
        proposing = acts.add_parser("propose", help="store what is found, for a person to decide")
        listing = acts.add_parser("list", help="count groups and relations by state")
        for act in (loading, matching, proposing):
            act.add_argument("--file", type=Path, default=SHIPPED, metavar="FILE")
        for act in (loading, matching, proposing, listing):
            act.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        acts = {
            "load": self.load,
            "match": self.match,
            "propose": self.propose,
            "list": self.list,
        }
        try:
            acts[act](options)
        except (OperationalError, ProgrammingError) as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error

    def load(self, options: dict[str, Any]) -> None:
        changes = load(_dictionary(options["file"]), by="synonyms load", at=timezone.now())
        if options["json"]:
            self._print_json({"groups": [asdict(change) for change in changes]})
        else:
            self._print_lines(map(_change_line, changes))

    def match(self, options: dict[str, Any]) -> None:
        found = find(_dictionary(options["file"]))
        _refuse_nothing(found)
        if options["json"]:
            self._print_json({**_summary(found), "proposals": _rows(found, options["limit"])})
        else:
            self._print_lines(_found_lines(found, options["limit"]))

    def propose(self, options: dict[str, Any]) -> None:
        dictionary = _dictionary(options["file"])
        run = propose_all(dictionary, by="synonyms propose", at=timezone.now())
        _refuse_nothing(run.found)
        if options["json"]:
            self._print_json({**_summary(run.found), **_stored(run)})
        else:
            self._print_lines(_run_lines(run))

    def list(self, options: dict[str, Any]) -> None:
        groups = Counter(SynonymGroup.objects.values_list("state", flat=True))
        relations = Counter(Relation.objects.values_list("type", "state"))
        if options["json"]:
            rows = [{"type": t, "state": s, "count": n} for (t, s), n in sorted(relations.items())]
            self._print_json({"groups": dict(sorted(groups.items())), "relations": rows})
            return
        self._print_lines(f"groups     {state:<12} {n:>6}" for state, n in sorted(groups.items()))
        self._print_lines(f"{t:<10} {s:<12} {n:>6}" for (t, s), n in sorted(relations.items()))
        if not groups and not relations:
            self.stderr.write("nothing is stored yet; `manage.py synonyms propose` looks for some")

    def _print_json(self, answer: dict[str, Any]) -> None:
        self.stdout.write(json.dumps({"schema": 1, **answer}, ensure_ascii=False))

    def _print_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)


def _dictionary(path: Path) -> Dictionary:
    try:
        return read_file(path)
    except BadDictionary as error:
        raise CommandError(str(error), returncode=NEGATIVE) from error
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", returncode=USAGE) from error


def _refuse_nothing(found: Findings) -> None:
    if not found.wordings:
        message = "no tradable market is stored; sync the catalogue or seed it first"
        raise CommandError(message, returncode=DATA_MISSING)


def _summary(found: Findings) -> dict[str, Any]:
    return {
        "markets": len(found.wordings),
        "found": found.counts(),
        "suppressed": found.suppressed(),
    }


def _stored(run: Run) -> dict[str, Any]:
    return {
        "matching": asdict(run.matching),
        "ladders": asdict(run.ladders),
        "groups": {"new": run.groups_new, "grown": run.groups_grown},
        "retired": run.retired,
    }


def _rows(found: Findings, limit: int) -> list[dict[str, Any]]:
    return [
        {
            **asdict(each),
            "questions": [full_question(found.wordings[member]) for member in each.members],
        }
        for each in _shown(found, limit)
    ]


def _shown(found: Findings, limit: int) -> list[Proposal]:
    """Return the first proposals of each kind."""
    shown: dict[str, list[Proposal]] = {}
    for each in [*found.matches, *found.ladders.proposed]:
        shown.setdefault(f"{each.method} {each.type}", []).append(each)
    return [each for kind in shown.values() for each in kind[: max(limit, 0)]]


def _found_lines(found: Findings, limit: int) -> list[str]:
    lines = [f"{len(found.wordings)} markets", *_count_lines(found)]
    for each in _shown(found, limit):
        lines.append(f"{each.type} ({each.method}, {each.score:.2f}) {'; '.join(each.doubts)}")
        lines += [f"  {_member_line(found.wordings[member])}" for member in each.members]
    return lines


def _member_line(wording: Wording) -> str:
    ends = f"{wording.end_at:%Y-%m-%d %H:%M}" if wording.end_at else "no end"
    question = " ".join(full_question(wording).split())  # a venue's text keeps to one line
    return f"{wording.market_id:>10}  {ends:<16}  {question}"


def _count_lines(found: Findings) -> list[str]:
    counts = [f"{n:>6} {kind}" for kind, n in found.counts().items()]
    return counts + [f"{n:>6} suppressed, {why}" for why, n in found.suppressed().items()]


def _run_lines(run: Run) -> list[str]:
    return [
        f"{len(run.found.wordings)} markets",
        *_count_lines(run.found),
        f"{run.matching.new + run.ladders.new:>6} relations are new and wait for a person, "
        f"{run.matching.renewed + run.ladders.renewed} wait again, {run.retired} have ended",
        f"{run.groups_new:>6} groups are new, {run.groups_grown} grew",
    ]


def _change_line(change: GroupChange) -> str:
    parts = [f"{change.change:<13} {change.name}: {change.members} markets"]
    parts += [f"+{len(change.added)}"] if change.added else []
    parts += [f"-{len(change.removed)}"] if change.removed else []
    parts += [f"not in the catalogue: {', '.join(change.unknown)}"] if change.unknown else []
    return " ".join(parts)
