"""`bench backtest` in small: both ways find the same, whatever they take for it."""

from __future__ import annotations

from mpx_site.benchmarks import backtest
from mpx_site.benchmarks.rowwise import Rowwise


def test_ours_and_the_row_by_row_yardsticks_find_the_same(monkeypatch):
    monkeypatch.setattr(backtest, "BOOKS", 120)
    monkeypatch.setattr(backtest, "FRAME_NS", 20_000_000)  # 400 ticks in 8 s: tilts have to stand
    definitions = backtest.shipped()
    events, snapshots, feed = backtest.made(400)
    rows = list(backtest.rows_of(events, (*snapshots, *feed)))

    designs, told = backtest._designs(definitions, events, snapshots, rows)
    backtest._in_turns(designs, feed, rows)
    designs.ours.finish()

    assert designs.rows.hits == designs.ready.hits == told
    assert {code for code, _, _ in told} >= {"DUTCH_BOOK_DETECT", "ORDER_BOOK_IMBALANCE"}


def test_the_seeds_way_asks_the_database_for_each_tick(monkeypatch):
    monkeypatch.setattr(backtest, "BOOKS", 30)
    monkeypatch.setattr(backtest, "SEED_TICKS", 10)
    events, snapshots, feed = backtest.made(60)
    rows = list(backtest.rows_of(events, (*snapshots, *feed)))

    assert backtest._seed_seconds(backtest.shipped(), events, rows) > 0


def test_a_row_of_a_book_that_cannot_be_trusted_counts_as_such(monkeypatch):
    monkeypatch.setattr(backtest, "BOOKS", 30)
    events, snapshots, _ = backtest.made(1)
    rows = list(backtest.rows_of(events, snapshots))
    yardstick = Rowwise(backtest.shipped(), events)

    for row in rows:
        yardstick.take({**row, "problem": "stale"})

    assert not yardstick.hits
