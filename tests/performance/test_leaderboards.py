"""The cost of building a leaderboard, in counts that no machine changes: files opened, calls per record.

A leaderboard of 10,000 records is built in seconds because every record is read once and nothing is computed for
pairs of records; both show on a leaderboard of hundreds.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from fixtures.leaderboards import many_cells, write_many_records

from lmrl_bench.leaderboards.build import build, check
from lmrl_bench.stats import bootstrap

FILES = ("record.json", "curves.jsonl", "samples.parquet")


@pytest.fixture
def opened(monkeypatch):
    """Counts how often each file of a run is opened for reading."""
    counts = Counter()

    def hook(event, arguments):
        if active and event == "open" and Path(str(arguments[0])).name in FILES:
            counts[str(arguments[0])] += 1

    active = [True]
    sys.addaudithook(hook)
    yield counts
    active.clear()


def test_every_record_is_read_once(tmp_path, opened):
    spec, expected = many_cells(seeds=6)
    write_many_records(tmp_path / "results", 2, 6, 6)
    opened.clear()
    build(spec, tmp_path / "results", tmp_path / "out", expected)
    by_name = Counter()
    for path, times in opened.items():
        name = Path(path).name
        by_name[name] += 1
        # The files next to the record are read for their digest, and once more for what they hold.
        assert times <= (1 if name == "record.json" else 2), path
    assert by_name["record.json"] == 6 * 2 * 6
    opened.clear()
    check(spec, tmp_path / "results", tmp_path / "out", expected)
    assert max(times for path, times in opened.items() if path.endswith("record.json")) == 1


def test_the_work_grows_with_the_records_and_no_faster(tmp_path, monkeypatch):
    """Four times the seeds: at most four times the calls."""
    monkeypatch.setattr(bootstrap, "REPLICATES", 2_000)
    calls = []
    for seeds in (5, 20):
        folder = tmp_path / str(seeds)
        spec, expected = many_cells(seeds=seeds)
        write_many_records(folder / "results", 2, 6, seeds)
        build(spec, folder / "results", folder / "warm", expected)
        calls.append(
            count_calls(lambda f=folder, s=spec, e=expected: build(s, f / "results", f / "out", e))
        )
    assert calls[1] < 4 * calls[0]
    assert calls[1] / (6 * 2 * 20) < 2_000  # Python calls per record


def count_calls(work):
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
