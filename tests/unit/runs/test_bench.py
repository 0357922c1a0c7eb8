"""A grid goes on past bad cells, runs only what is missing, and never destroys another run's record."""

from __future__ import annotations

import json

import pytest
import yaml
from fixtures.runs import SETTINGS, call

from lmrl_bench.leaderboards.spec import load_board
from lmrl_bench.records.store import read_record
from lmrl_bench.runs import bench
from lmrl_bench.runs.bench import plan, run_grid
from lmrl_bench.runs.pool import JobResult

GREEDY = {"sampling": {"greedy": True}}  # refused when the algorithm is made, in the worker


@pytest.fixture
def board(world):
    """A board of one task, a row that works and one that fails, and two seeds."""
    settings = {key: SETTINGS[key] for key in ("policy", "budget", "evaluation")}
    ppo = {key: value for key, value in SETTINGS["algorithm"].items() if key != "name"}
    content = {
        "name": "tiny",
        "title": "Tiny",
        "tasks": [{"task": "toy"}],
        "entries": [
            {"label": "bad", "algorithm": "ppo", "set": {"algorithm": ppo, **GREEDY}},
            {"label": "good", "algorithm": "ppo", "set": {"algorithm": ppo}},
        ],
        "seeds": [0, 1],
        "config": settings,
        "reference": {"zero_shot": None, "supervised": None},
    }
    path = world.root / "tiny" / "leaderboard.yaml"
    path.parent.mkdir()

    def write(**changes):
        path.write_text(yaml.safe_dump({**content, **changes}))
        return path

    write()
    return write


@pytest.fixture
def in_process(monkeypatch):
    """Runs jobs here instead of in workers.

    Returns what was begun, and a list of what is to be lost with its process: `"<function> <cell>"`.
    """
    begun = []

    def run_jobs(work, jobs, *, workers, on_event, stop=None):
        for index, job in enumerate(jobs):
            if stop is not None and stop.requested:
                return
            begun.append(f"{work.__name__} {job.name}")
            if begun[-1] in dying:
                yield JobResult(index, error="the worker process died with exit code 9", died=True)
                continue
            try:
                yield JobResult(index, value=work(job, on_event))
            except Exception as error:
                yield JobResult(index, error=f"{type(error).__name__}: {error}")

    dying = []
    monkeypatch.setattr(bench, "run_jobs", run_jobs)
    return begun, dying


def cell(world, row, seed):
    return world.root / "results" / "tiny" / "toy" / row / str(seed)


def test_the_grid_goes_on_and_a_second_call_runs_what_is_missing(world, board, in_process, capsys):
    path = board()
    first = call(capsys, "bench", path, "--results", "results")
    assert first.code == 1
    assert "failed: toy/bad/0" in first.err
    assert "call the same command again" in first.err
    assert "Traceback" not in first.err
    for seed in (0, 1):
        bad, good = read_record(cell(world, "bad", seed)), read_record(cell(world, "good", seed))
        assert (bad.status, good.status) == ("failed", "completed")
        assert bad.error.type == "AlgorithmError"
        assert "sampling.greedy" in bad.error.message
        assert "open_session" in bad.error.traceback
    table = json.loads((world.root / "leaderboards" / "tiny" / "board.json").read_text())
    assert "failed" in json.dumps(table)

    times = {
        seed: (cell(world, "good", seed) / "record.json").stat().st_mtime_ns for seed in (0, 1)
    }
    second = call(capsys, "bench", path, "--results", "results")
    assert second.code == 1
    assert second.err.count("already completed") == 2
    for seed, time in times.items():
        assert (cell(world, "good", seed) / "record.json").stat().st_mtime_ns == time

    listed = call(capsys, "bench", path, "--results", "results", "--dry-run")
    assert [line.split()[0] for line in listed.out.splitlines()] == [
        f"toy/{row}/{seed}" for row in ("bad", "good") for seed in (0, 1)
    ]


def test_records_of_another_configuration_are_left_alone(world, board, in_process, capsys):
    entries = [{"label": "good", "algorithm": "none"}]
    path = board(entries=entries)
    assert call(capsys, "bench", path).code == 0
    before = (cell(world, "good", 0) / "record.json").read_bytes()
    board(entries=[{**entries[0], "set": {"evaluation": {"test_samples": 3}}}])
    changed = call(capsys, "bench", path)
    assert changed.code in (1, 2)
    assert "holds the record of another run" in changed.err
    assert "Traceback" not in changed.err
    assert (cell(world, "good", 0) / "record.json").read_bytes() == before
    assert call(capsys, "bench", path, "--fresh").code == 0
    assert read_record(cell(world, "good", 0)).results["test"].n == 3


def test_a_lost_process_is_a_failed_record_and_an_unwritable_cell_an_error(
    world, board, in_process
):
    path = board(entries=[{"label": "good", "algorithm": "none"}], seeds=[0, 1, 2])
    in_process[1].append("_run_cell toy/good/0")
    cell(world, "good", 1).parent.mkdir(parents=True)
    cell(world, "good", 1).write_text("a file")
    notes = []
    grid = run_grid(
        plan(load_board(path), world.root / "results"), workers=1, progress=notes.append
    )
    assert grid.statuses == {
        "toy/good/0": "failed",
        "toy/good/1": "failed",
        "toy/good/2": "completed",
    }
    assert not grid.ok
    assert "exit code 9" in read_record(cell(world, "good", 0)).error.message
    assert "results cannot be written here" in grid.errors["toy/good/1"]
    assert cell(world, "good", 1).read_text() == "a file"


def test_starts_come_first_each_once_and_their_failure_is_told(world, board, in_process):
    path = board(
        entries=[{"label": "good", "algorithm": "none"}], config={"policy": {"start": "supervised"}}
    )
    in_process[1].append("_prepare toy/good/1")
    notes = []
    run_grid(plan(load_board(path), world.root / "results"), workers=1, progress=notes.append)
    assert [name.split()[0] for name in in_process[0]] == ["_prepare", "_run_cell", "_run_cell"]
    assert any("no supervised start" in event.text for event in notes if event.kind == "note")
    assert "train it once" in read_record(cell(world, "good", 1)).error.message


def test_all_cells_are_checked_before_any_runs(world, board, in_process, capsys):
    path = board(entries=[{"label": "good", "algorithm": "none", "set": {"budget": {"tokenz": 1}}}])
    refused = call(capsys, "bench", path)
    assert refused.code == 2
    assert "leaderboard.yaml:" in refused.err
    assert "did you mean 'tokens'?" in refused.err
    assert in_process[0] == []


def test_real_workers(world, board):
    """The same with a process: one start of Python and torch."""
    path = board(seeds=[0])
    events = []
    grid = run_grid(
        plan(load_board(path), world.root / "results"), workers=1, progress=events.append
    )
    assert grid.statuses == {"toy/bad/0": "failed", "toy/good/0": "completed"}
    assert "AlgorithmError" in read_record(cell(world, "bad", 0)).error.traceback
    assert {event.kind for event in events} >= {"started", "iteration", "evaluation", "finished"}
