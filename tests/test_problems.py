"""Bad input is counted by kind, with a sample, in a bounded space."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from markets.problems import MAX_KINDS, SAMPLE_BYTES, Problem, Problems


def test_the_first_of_a_kind_is_kept_and_the_rest_counted() -> None:
    problems = Problems()

    problems.note("ws", "bad_value", at=5, subject="7", detail="price=2", sample=b"first")
    problems.note("ws", "bad_value", at=9, subject="7", detail="price=3", sample=b"second")

    assert problems.drain() == [
        Problem("ws", "bad_value", "7", "price=2", "first", count=2, first_at=5, last_at=9)
    ]


def test_sources_reasons_and_subjects_are_kept_apart() -> None:
    problems = Problems()

    for source, reason, subject in (("ws", "a", "1"), ("gamma", "a", "1"), ("ws", "b", "1")):
        problems.note(source, reason, at=1, subject=subject)
    problems.note("ws", "a", at=1, subject="2")

    assert len(problems.drain()) == 4


def test_counts_are_by_reason_and_total_is_for_ever() -> None:
    problems = Problems()
    for reason in ("a", "a", "b"):
        problems.note("ws", reason, at=1)
    problems.note("gamma", "a", at=1)

    assert problems.counts() == {"a": 3, "b": 1}
    problems.drain()
    assert problems.counts() == {}
    assert problems.drain() == []
    assert problems.total == 4


def test_a_bad_feed_cannot_fill_the_memory() -> None:
    problems = Problems()
    for number in range(MAX_KINDS * 3):
        problems.note("ws", "bad_value", at=number, subject=str(number), sample=b"x" * 10_000)
        problems.note("ws", "unknown_event", at=number, subject=str(number))

    drained = problems.drain()

    assert len(drained) <= MAX_KINDS + 2  # one more row for each reason
    others = {each.reason: each.count for each in drained if each.subject == "(others)"}
    assert others == {"bad_value": 2_500, "unknown_event": 2_500}
    assert sum(each.count for each in drained) == problems.total == MAX_KINDS * 6
    assert all(len(each.sample) <= SAMPLE_BYTES for each in drained)


def test_what_is_kept_is_cut_to_what_can_be_stored() -> None:
    problems = Problems()

    problems.note("ws", "a", at=1, subject="s" * 999, detail="d" * 9_999, sample="x" * 9_999)

    (problem,) = problems.drain()
    assert (len(problem.subject), len(problem.detail)) == (120, 500)
    assert len(problem.sample) == SAMPLE_BYTES


@given(sample=st.binary(max_size=50) | st.text(max_size=50))
def test_any_sample_is_kept_readable(sample: bytes | str) -> None:
    problems = Problems()

    problems.note("ws", "a", at=1, sample=sample)

    (problem,) = problems.drain()
    expected = sample if isinstance(sample, str) else sample.decode(errors="replace")
    assert problem.sample == expected


@given(notes=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.text(max_size=1))))
def test_nothing_noted_is_lost(notes: list[tuple[str, str, str]]) -> None:
    problems = Problems()
    for at, (source, reason, subject) in enumerate(notes):
        problems.note(source, reason, at=at, subject=subject)

    drained = problems.drain()

    assert Counter({(p.source, p.reason, p.subject): p.count for p in drained}) == Counter(notes)
    for problem in drained:
        key = (problem.source, problem.reason, problem.subject)
        ats = [at for at, note in enumerate(notes) if note == key]
        assert (problem.first_at, problem.last_at) == (ats[0], ats[-1])
