"""A grid knows launchers by their protocol only: a plug-in performs jobs wherever it likes."""

from __future__ import annotations

import pytest

from lmrl_bench.artifacts.recipe import Recipe
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.launchers import LAUNCHERS
from lmrl_bench.launchers.base import Result, perform, uses_gpu
from lmrl_bench.launchers.grid import run_grid
from lmrl_bench.planning.plan import RerunPolicy, plan_run
from lmrl_bench.planning.resolve import resolve


class Here:
    """Performs jobs in this process, last one first; stops after the given number."""

    def __init__(self, workers, stop_after=100):
        self.workers = workers
        self.stop_after = stop_after
        self.stopped = False
        self.submitted = []

    def submit(self, jobs, progress):
        self.submitted.append([type(job).__name__ for job in jobs])
        for index in reversed(range(len(jobs))):
            if self.stopped:
                return
            try:
                yield Result(index, value=perform(jobs[index], progress))
            except Exception as error:
                yield Result(index, error=str(error))
            self.stop_after -= 1
            self.stopped = self.stop_after <= 0


@pytest.fixture
def plans(world):
    def make(**changes):
        found = []
        for seed in (0, 1):
            given = world.given(f"out{seed}", algorithm={"name": "no-training"}, **changes)
            config = resolve(world.task, {**given, "seed": seed})
            found.append(plan_run(world.task, config, rerun=RerunPolicy.NONE))
        return found

    return make


def test_runs_after_what_they_need_each_once(world, plans):
    (world.folder / "algorithms").mkdir()
    (world.folder / "algorithms" / "sft.yaml").write_text("algorithm: {epochs: 1}\n")
    launcher = Here(1)
    cells = plans(policy={"init": "sft"})
    assert run_grid(cells, launcher=launcher).ok
    assert launcher.submitted == [["Recipe"], ["RunPlan", "RunPlan"]]
    again = run_grid(cells, launcher=launcher)
    assert again.statuses == {"toy/no-training/0": "completed", "toy/no-training/1": "completed"}
    assert launcher.submitted[2:] == [[], []]


def test_what_was_not_begun_is_interrupted(plans):
    found = run_grid(plans(), launcher=Here(1, stop_after=1))
    assert found.statuses == {"toy/no-training/1": "completed", "toy/no-training/0": "interrupted"}
    assert not found.ok


def test_it_is_chosen_by_name(plans, monkeypatch):
    monkeypatch.setattr(LAUNCHERS, "_objects", {})
    made = []
    LAUNCHERS.add("here", lambda workers: made.append(Here(workers)) or made[-1])
    assert "here" in LAUNCHERS
    assert run_grid(plans(), workers=3, launcher="here").ok
    assert made[0].workers == 3
    with pytest.raises(ConfigError, match="unknown launcher 'locl'; did you mean 'local'"):
        run_grid(plans(), launcher="locl")


def test_which_jobs_use_a_gpu(world):
    given = world.given(algorithm={"name": "no-training"})
    config = resolve(world.task, given, overrides=["runtime.device=cuda"])
    assert uses_gpu(plan_run(world.task, config))
    assert not uses_gpu(plan_run(world.task, resolve(world.task, given)))
    assert not uses_gpu(Recipe("sft", "toy", {}))
