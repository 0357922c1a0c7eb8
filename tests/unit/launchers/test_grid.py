"""A grid goes on past bad cells, runs only what is missing, and never destroys another run's record."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil

import pytest
import yaml
from fixtures.runs import SETTINGS, call, ship_toy_sft_policy
from fixtures.toy import tiny_causal, toy_model_folder

from lmrl_bench.core.errors import ConfigError, PolicyError
from lmrl_bench.launchers import LAUNCHERS, local
from lmrl_bench.launchers.base import Result, perform
from lmrl_bench.launchers.grid import run_grid
from lmrl_bench.leaderboards.spec import read_leaderboard
from lmrl_bench.models import names
from lmrl_bench.planning.cells import plan
from lmrl_bench.records.store import read_record
from lmrl_bench.runs import execute
from lmrl_bench.runs.trainer import Trainer

GREEDY = {"sampling": {"greedy": True}}  # refused when the algorithm is made, in the worker


@pytest.fixture
def leaderboard(world):
    """A leaderboard of one task, a row that works and one that fails, and two seeds."""
    settings = {key: SETTINGS[key] for key in ("policy", "budget", "evaluation")}
    ppo = {key: value for key, value in SETTINGS["algorithm"].items() if key != "name"}
    content = {
        "name": "tiny",
        "title": "Tiny",
        "tasks": [{"task": "toy"}],
        "entries": [
            {"entry": "bad", "algorithm": "ppo", "config": {"algorithm": ppo, **GREEDY}},
            {"entry": "good", "algorithm": "ppo", "config": {"algorithm": ppo}},
        ],
        "seeds": [0, 1],
        "config": settings,
        "baselines": {"zero_shot": None, "sft": None},
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
    begun, dying = [], []

    class InProcess:
        """A launcher in this process."""

        stopped = False

        def submit(self, jobs, progress):
            for index, job in enumerate(jobs):
                job = pickle.loads(pickle.dumps(job))  # as a worker gets it
                begun.append(f"{type(job).__name__} {job.name}")
                if begun[-1] in dying:
                    error = "the worker process died with exit code 9"
                    yield Result(index, error=error, died=True)
                    continue
                try:
                    yield Result(index, value=perform(job, progress))
                except Exception as error:
                    yield Result(index, error=f"{type(error).__name__}: {error}")

    monkeypatch.setitem(LAUNCHERS._objects, "local", lambda _workers: InProcess())
    return begun, dying


def cell(world, row, seed):
    return world.root / "results" / "tiny" / "toy" / row / str(seed)


def test_the_grid_goes_on_and_a_second_call_runs_what_is_missing(
    world, leaderboard, in_process, capsys
):
    path = leaderboard()
    first = call(capsys, "leaderboard", "run", path, "--results", "results")
    assert first.code == 1
    assert "failed: toy/bad/0" in first.err
    assert "--rerun failed" in first.err
    assert "Traceback" not in first.err
    for seed in (0, 1):
        bad, good = read_record(cell(world, "bad", seed)), read_record(cell(world, "good", seed))
        assert (bad.status, good.status) == ("failed", "completed")
        assert bad.error.type == "AlgorithmError"
        assert "sampling.greedy" in bad.error.message
        assert "open_session" in bad.error.traceback
    table = json.loads(path.with_name("leaderboard.json").read_text())
    assert "failed" in json.dumps(table)

    times = {
        seed: (cell(world, "good", seed) / "record.json").stat().st_mtime_ns for seed in (0, 1)
    }
    second = call(capsys, "leaderboard", "run", path, "--results", "results")
    assert second.code == 1
    assert second.err.count("already completed") == 2
    assert second.err.count("already failed") == 2  # a failed run is a record: it is not repeated
    third = call(capsys, "leaderboard", "run", path, "--results", "results", "--rerun", "failed")
    assert third.code == 1
    assert third.err.count("already completed") == 2
    assert "already failed" not in third.err
    for seed, time in times.items():
        assert (cell(world, "good", seed) / "record.json").stat().st_mtime_ns == time

    listed = call(capsys, "leaderboard", "run", path, "--results", "results", "--dry-run")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == [
        f"toy/{row}/{seed}" for row in ("bad", "good") for seed in (0, 1)
    ]


def test_records_of_another_configuration_are_left_alone(world, leaderboard, in_process, capsys):
    entries = [{"entry": "good", "algorithm": "no-training"}]
    path = leaderboard(entries=entries)
    first = call(capsys, "leaderboard", "run", path)
    assert first.code == 0, first.err
    before = (cell(world, "good", 0) / "record.json").read_bytes()
    leaderboard(entries=[{**entries[0], "config": {"evaluation": {"test_samples": 3}}}])
    changed = call(capsys, "leaderboard", "run", path)
    assert changed.code in (1, 2)
    assert "holds the record of another run" in changed.err
    assert "evaluation.test_samples is 4 in the record, 3 today" in changed.err
    assert "Traceback" not in changed.err
    assert (cell(world, "good", 0) / "record.json").read_bytes() == before
    assert call(capsys, "leaderboard", "run", path, "--rerun", "stale").code == 0
    assert read_record(cell(world, "good", 0)).results["test"].n == 3
    again = call(capsys, "leaderboard", "run", path, "--rerun", "stale")
    assert again.err.count("already completed") == 2
    assert "already completed" not in call(capsys, "leaderboard", "run", path, "--rerun", "all").err


def test_a_diverged_cell_is_done(world, leaderboard, in_process, capsys):
    """It would diverge again: bench neither repeats it nor calls it a failure."""
    world.add_reward("planted-nan", "[np.nan] * len(batch)")
    path = leaderboard(entries=[{"entry": "good", "algorithm": "no-training"}], seeds=[0])
    first = call(capsys, "leaderboard", "run", path)
    assert first.code == 0, first.err
    assert "diverged: toy/good/0" in first.err
    for arguments in ([], ["--rerun", "failed"]):
        again = call(capsys, "leaderboard", "run", path, *arguments)
        assert again.code == 0
        assert "[toy/good/0] already diverged" in again.err
    assert "already diverged" not in call(capsys, "leaderboard", "run", path, "--rerun", "all").err


def test_a_lost_process_is_a_failed_record_and_an_unwritable_cell_an_error(
    world, leaderboard, in_process
):
    path = leaderboard(entries=[{"entry": "good", "algorithm": "no-training"}], seeds=[0, 1, 2])
    in_process[1].append("RunPlan toy/good/0")
    cell(world, "good", 1).parent.mkdir(parents=True)
    cell(world, "good", 1).write_text("a file")
    notes = []
    outcome = run_grid(
        plan(read_leaderboard(path), world.root / "results"), workers=1, progress=notes.append
    )
    assert outcome.statuses == {
        "toy/good/0": "failed",
        "toy/good/1": "failed",
        "toy/good/2": "completed",
    }
    assert not outcome.ok
    assert "exit code 9" in read_record(cell(world, "good", 0)).error.message
    assert "results cannot be written here" in outcome.errors["toy/good/1"]
    assert cell(world, "good", 1).read_text() == "a file"


def test_a_cell_that_cannot_start_or_is_lost_keeps_the_record_that_it_has(
    world, leaderboard, in_process, capsys, monkeypatch
):
    path = leaderboard(entries=[{"entry": "good", "algorithm": "no-training"}], seeds=[0, 1, 2])
    assert call(capsys, "leaderboard", "run", path).code == 0
    records = [cell(world, "good", seed) / "record.json" for seed in (0, 1, 2)]
    before = [record.read_bytes() for record in records[:2]]
    records[2].unlink()

    def refused(*_):
        raise PolicyError("planted")

    monkeypatch.setattr(execute, "open_session", refused)
    in_process[1].append("RunPlan toy/good/0")
    again = call(capsys, "leaderboard", "run", path, "--rerun", "all")
    assert again.code == 1
    assert "failed: toy/good/0: the worker process died with exit code 9" in again.err
    assert "failed: toy/good/1: PolicyError: planted" in again.err
    assert [record.read_bytes() for record in records[:2]] == before
    failed = read_record(records[2].parent)
    assert (failed.status, failed.error.message) == ("failed", "planted")
    kept = records[2].read_bytes()
    assert call(capsys, "leaderboard", "run", path, "--rerun", "failed").code == 1
    assert records[2].read_bytes() == kept


def test_a_killed_worker_is_an_interruption_and_one_damaged_cell_costs_one_cell(
    world, leaderboard, monkeypatch, capsys
):
    """A real worker is killed (-9) in the middle of a cell; then files of finished cells are damaged."""
    reward = (
        "[0.0 if os.path.exists('dead') else (open('dead', 'w').close(), os.kill(os.getpid(), 9))]"
        " * batch.n if os.path.exists('armed') else [float(len(t)) for t in batch.completions]"
    )
    world.add_reward("deadly", reward.replace("batch.n", "len(batch.completions)"))
    path = leaderboard(entries=[{"entry": "good", "algorithm": "no-training"}], seeds=[0, 1, 2, 3])
    (world.root / "armed").touch()
    killed = call(capsys, "leaderboard", "run", path)
    assert killed.code == 1
    assert "interrupted: toy/good/0: the worker process died with exit code -9" in killed.err
    record = read_record(cell(world, "good", 0))
    assert (record.status, record.error.message[-12:]) == ("interrupted", "exit code -9")
    (world.root / "armed").unlink()
    for seed in (1, 2, 3):
        shutil.rmtree(cell(world, "good", seed))
    done = call(capsys, "leaderboard", "run", path)  # no flag
    assert done.code == 0, done.err
    assert not (cell(world, "good", 0) / ".lock").exists()
    before = {seed: read_record(cell(world, "good", seed)) for seed in range(4)}

    samples = cell(world, "good", 0) / "samples.parquet"
    samples.write_bytes(samples.read_bytes()[:-9])
    (cell(world, "good", 1) / "record.json").write_text("{")
    (cell(world, "good", 2) / "record.json").write_text("{")
    (cell(world, "good", 2) / "config.yaml").write_text("task: another")
    (cell(world, "good", 3) / ".record.json.abcd1234").write_text("half")
    again = call(capsys, "leaderboard", "run", path)
    assert again.code  # the leaderboard cannot be built without the third
    assert "samples.parquet: changed since the record was written" in again.err
    assert "running again" in again.err
    assert "record.json: damaged" in again.err
    assert "config.yaml next to it is not this run's" in again.err
    for seed in (0, 1, 3):
        assert read_record(cell(world, "good", seed)).digest() == before[seed].digest()
    assert read_record(cell(world, "good", 3)) == before[3]  # was not run again
    assert not (cell(world, "good", 3) / ".record.json.abcd1234").exists()
    assert (cell(world, "good", 2) / "record.json").read_text() == "{"


def test_interrupted_cells_go_on_without_fresh(world, leaderboard, in_process, capsys, monkeypatch):
    def stopped(self, state):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", stopped)
    path = leaderboard(entries=[{"entry": "good", "algorithm": "no-training"}], seeds=[0])
    for options, again in (
        ((), "again\n"),
        (("--rerun", "all"), "again without --rerun\n"),
    ):
        done = call(capsys, "leaderboard", "run", path, *options)
        assert done.code == 1
        assert f"interrupted cells resume when the same command is called {again}" in done.err


def test_starts_come_first_each_once_and_their_failure_is_told(world, leaderboard, in_process):
    path = leaderboard(
        entries=[{"entry": "good", "algorithm": "no-training"}], config={"policy": {"init": "sft"}}
    )
    in_process[1].append("Recipe toy")
    notes = []
    run_grid(plan(read_leaderboard(path), world.root / "results"), workers=1, progress=notes.append)
    assert [name.split()[0] for name in in_process[0]] == ["Recipe", "RunPlan", "RunPlan"]
    assert any("no SFT policy" in event.text for event in notes if event.kind == "note")
    assert "train it once" in read_record(cell(world, "good", 1)).error.message


def test_each_base_model_has_a_start_of_its_own_and_done_cells_need_none(
    world, leaderboard, in_process
):
    """Two rows of one model name but other weights, and a leaderboard whose cells are all done."""
    other = toy_model_folder(world.root / "other" / "model")
    tiny_causal("gpt2", seed=7).save_pretrained(other)
    rows = [
        {"entry": label, "algorithm": "no-training", "config": {"policy": {"model": str(model)}}}
        for label, model in (("one", world.model), ("two", other))
    ]
    (world.folder / "algorithms").mkdir()
    (world.folder / "algorithms" / "sft.yaml").write_text("algorithm: {epochs: 1}\n")
    path = leaderboard(entries=rows, seeds=[0], config={"policy": {"init": "sft"}})
    events = []
    for expected in (2, 0):
        in_process[0].clear()
        jobs = plan(read_leaderboard(path), world.root / "results")
        outcome = run_grid(jobs, workers=1, progress=events.append)
        assert set(outcome.statuses.values()) == {"completed"}
        assert sum(name.startswith("Recipe") for name in in_process[0]) == expected
        if expected:  # nothing is left to do, so a start that is gone is not trained again
            shutil.rmtree(world.root / "cache" / "artifacts")
    one, two = (read_record(cell(world, row, 0)).policy for row in ("one", "two"))
    assert one.model == two.model == "model"
    assert one.base_weights_sha256 != two.base_weights_sha256
    assert one.sft_recipe_sha256 != two.sft_recipe_sha256
    assert {event.run for event in events if not event.counted} == {"toy/sft/0 (start)"}


def test_a_shipped_start_of_other_weights_stops_the_leaderboard_at_once(
    world, leaderboard, in_process, capsys, monkeypatch
):
    monkeypatch.setattr(names, "SHIPPED", world.root / "shipped")
    shipped = toy_model_folder(world.root / "shipped" / "tiny")
    world.edit_task(policy={"default": "tiny"})
    facts = ship_toy_sft_policy(world, shipped.parent / "tiny--toy")
    path = leaderboard(entries=[{"entry": "good", "algorithm": "no-training"}], config={})
    assert call(capsys, "leaderboard", "run", path).code == 0
    assert not any(name.startswith("Recipe") for name in in_process[0])
    before = (cell(world, "good", 0) / "record.json").read_bytes()
    tiny_causal("gpt2", seed=7).save_pretrained(shipped)
    for command in (["leaderboard", "run", path], ["leaderboard", "build", path]):
        refused = call(capsys, *command)
        assert refused.code == 2
        assert "tiny--toy: this SFT policy was made from other weights of 'tiny'" in refused.err
        assert "lmrl-bench run --task toy --algorithm sft" in refused.err
    assert (cell(world, "good", 0) / "record.json").read_bytes() == before
    assert facts["base_weights_sha256"]


def test_all_cells_are_checked_before_any_runs(world, leaderboard, in_process, capsys):
    path = leaderboard(
        entries=[{"entry": "good", "algorithm": "no-training", "config": {"budget": {"tokenz": 1}}}]
    )
    refused = call(capsys, "leaderboard", "run", path)
    assert refused.code == 2
    assert "leaderboard.yaml:" in refused.err
    assert "did you mean 'tokens'?" in refused.err
    assert in_process[0] == []


@pytest.mark.parametrize(("device", "expected"), [("cpu", True), ("cuda", False)])
def test_workers_are_forked_unless_a_cell_uses_a_gpu(
    world, leaderboard, monkeypatch, device, expected
):
    seen = []
    monkeypatch.setattr(local, "run_jobs", lambda *_, forked, **__: seen.append(forked) or [])
    cells = plan(
        read_leaderboard(leaderboard()),
        world.root / "results",
        overrides=[f"runtime.device={device}"],
    )
    run_grid(cells, workers=1)
    assert set(seen) == {expected}


def test_real_workers(world, leaderboard, monkeypatch):
    """The same with a process, forked as it has imported torch already; fresh ones are test_pool's.

    What a fresh one is given, it must be able to read: the functions by their names, the jobs as bytes.
    """
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda _name: context)
    assert pickle.loads(pickle.dumps(perform)) is perform
    path = leaderboard(seeds=[0])
    events = []
    outcome = run_grid(
        plan(read_leaderboard(path), world.root / "results"), workers=1, progress=events.append
    )
    assert outcome.statuses == {"toy/bad/0": "failed", "toy/good/0": "completed"}
    assert "AlgorithmError" in read_record(cell(world, "bad", 0)).error.traceback
    assert {event.kind for event in events} >= {"started", "iteration", "evaluation", "finished"}


def test_a_dry_run_says_what_is_done_missing_stale_and_what_the_rest_costs(
    world, leaderboard, in_process, capsys
):
    path = leaderboard(
        entries=[
            *yaml.safe_load(leaderboard().read_text())["entries"],
            {"entry": "still", "algorithm": "no-training"},
        ]
    )
    dry = ["leaderboard", "run", path, "--results", "results", "--dry-run"]
    first = call(capsys, *dry)
    assert "6 cells: 6 missing" in first.err
    assert "to run: 6 cells, 240 tokens to generate; no records yet" in first.err
    assert not (world.root / "results").exists()
    call(
        capsys,
        "leaderboard",
        "run",
        path,
        "--results",
        "results",
        "--entry",
        "good",
        "--entry",
        "bad",
    )
    shutil.rmtree(cell(world, "good", 1))
    record = cell(world, "good", 0) / "record.json"
    shown = call(capsys, *dry, "--jobs", "2")
    states = {line.split()[0]: line.split()[2:4] for line in shown.out.splitlines()[1:]}
    assert states == {
        "toy/bad/0": ["failed", "no"],
        "toy/bad/1": ["failed", "no"],
        "toy/good/0": ["done", "no"],
        "toy/good/1": ["missing", "yes"],
        "toy/still/0": ["missing", "yes"],
        "toy/still/1": ["missing", "yes"],
    }
    assert "sampling.greedy" in shown.out
    assert "to run: 3 cells, 60 tokens to generate; about" in shown.err
    assert "with 2 workers" in shown.err
    assert "2 cells failed: not run without --rerun failed" in shown.err
    for file in (record, record.with_name("samples.parquet")):
        whole = file.read_bytes()
        file.write_bytes(whole[:-9])
        damaged = call(capsys, *dry, "--entry", "good", "--seed", "0")
        assert "1 cell: 1 damaged" in damaged.err
        assert "to run: 1 cell, 60 tokens" in damaged.err
        assert "--rerun all" not in damaged.err
        assert damaged.out.splitlines()[1].split()[2:4] == ["damaged", "yes"]
        file.write_bytes(whole)
    record.write_text("{")
    record.with_name("config.yaml").write_text("task: another")
    assert "1 cell damaged: not run without --rerun all" in call(capsys, *dry).err
    content = yaml.safe_load(path.read_text())
    content["config"]["budget"] = {"tokens": 61}
    path.write_text(yaml.safe_dump(content))
    stale = call(capsys, *dry, "--entry", "bad", "--rerun", "stale")
    assert "2 cells: 2 stale" in stale.err
    assert "budget.tokens is 60 in the record, 61 today" in stale.out
    assert "to run: 2 cells, 122 tokens" in stale.err


def test_a_part_of_a_leaderboard_is_run_and_the_leaderboard_is_built_when_it_is_complete(
    world, leaderboard, in_process, capsys
):
    path = leaderboard(entries=[yaml.safe_load(leaderboard().read_text())["entries"][1]])
    first = call(capsys, "leaderboard", "run", path, "--results", "results", "--seed", "1")
    assert first.code == 0, first.err
    assert cell(world, "good", 1).exists()
    assert not cell(world, "good", 0).exists()
    assert not path.with_name("index.html").exists()
    assert "the leaderboard was not built: 1 of 2 cells are not done (toy/good/0)" in first.err
    assert "completed (1 of 1" in first.err
    value = read_record(cell(world, "good", 1)).results["test"].metrics["chrf"].value
    heads, row = first.out.splitlines()
    assert heads.split() == ["entry", "toy", "chrf"]
    assert row.split()[0] == "good"
    assert f"{value:.2f}"[:4] in row
    second = call(
        capsys, "leaderboard", "run", path, "--results", "results", "--seed", "0", "--task", "toy"
    )
    assert second.code == 0, second.err
    assert path.with_name("index.html").exists()
    for option, value, near in (
        ("--entry", "goood", "did you mean 'good'"),
        ("--task", "toi", "did you mean 'toy'"),
        ("--seed", "7", "known: 0, 1"),
    ):
        refused = call(capsys, "leaderboard", "run", path, option, value)
        assert (refused.code, near in refused.err) == (2, True), refused.err


def test_the_closing_table_names_what_failed(world, leaderboard, in_process, capsys):
    shown = call(capsys, "leaderboard", "run", leaderboard(), "--results", "results")
    rows = {line.split()[0]: line for line in shown.out.splitlines()[1:]}
    assert "seed 0 failed, seed 1 failed" in rows["bad"]
    assert "(n=2)" in rows["good"]


def test_a_leaderboard_says_where_a_tasks_settings_do_not_apply(world, leaderboard, capsys):
    other = toy_model_folder(world.root / "big")
    (world.folder / "algorithms").mkdir()
    (world.folder / "algorithms" / "ppo.yaml").write_text("algorithm: {gamma: 0.5}\n")
    entry = yaml.safe_load(leaderboard().read_text())["entries"][1]
    policy = {"policy": {"init": "base", "model": str(other)}}
    big = {**entry, "entry": "big", "config": {**entry["config"], **policy}}
    path = leaderboard(entries=[entry, big])
    shown = call(capsys, "leaderboard", "run", path, "--dry-run")
    lines = [line for line in shown.err.splitlines() if "settings:" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        "toy/big: settings: the defaults of 'ppo'; toy/algorithms/ppo.yaml is for"
    )
    gammas = {
        job.config.entry_name: job.config.algorithm.model_dump()["gamma"]
        for job in plan(read_leaderboard(path), world.root)
    }
    assert gammas == {"good": 0.5, "big": 1.0}


def test_a_shared_setting_that_one_entry_does_not_have_names_the_entry(world, leaderboard):
    path = leaderboard(
        config={
            "policy": {"init": "base"},
            "budget": {"tokens": 60},
            "algorithm": {"episodes_per_iteration": 4},
        },
        entries=[{"entry": "zero", "algorithm": "no-training"}],
    )
    with pytest.raises(ConfigError) as raised:
        plan(read_leaderboard(path), world.root / "results")
    assert str(raised.value).startswith("entry 'zero' on toy:\n")
    assert "episodes_per_iteration: unknown key (allowed: none, there are no settings here)" in str(
        raised.value
    )
