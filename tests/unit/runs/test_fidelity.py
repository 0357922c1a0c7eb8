"""Whether the policy that is scored is the one that sampled: the worst values, the bounds, the marks in the record."""

from __future__ import annotations

import json

import pytest

from lmrl_bench import run
from lmrl_bench.algorithms.interface import IterationStats, RolloutStats, UpdateStats
from lmrl_bench.records.fidelity import (
    MAX_FIRST_CLIP_FRACTION,
    MAX_LOGPROB_DIFFERENCE,
    MAX_TRUNCATED_SHARE,
)
from lmrl_bench.records.record import Fidelity
from lmrl_bench.records.store import read_curves
from lmrl_bench.runs.fidelity import FidelityWatch, marks

SOUND = {"difference": 1e-6, "clipped": 0.0, "truncated": 0.2}


def iteration(difference, clipped, truncated):
    update = UpdateStats({}, 1, 0.0, first_clip_fraction=clipped, max_logprob_difference=difference)
    rollout = RolloutStats(0.0, 0.0, {}, 0.0, 0.0, 0.1, 1.0, 5.0, truncated, 10.0)
    return IterationStats(1, 0.5, 10, 4, 1, update, rollout)


def watched(*iterations):
    watch = FidelityWatch()
    for changes in iterations:
        watch.watch(iteration(**SOUND | changes))
    return watch


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, []),
        ({"difference": MAX_LOGPROB_DIFFERENCE}, []),
        ({"difference": 1.1 * MAX_LOGPROB_DIFFERENCE}, ["max_logprob_difference"]),
        ({"clipped": MAX_FIRST_CLIP_FRACTION + 1e-3}, ["first_clip_fraction"]),
        ({"truncated": MAX_TRUNCATED_SHARE + 0.01}, ["truncated_share"]),
    ],
)
def test_a_passed_bound_is_a_flag(changes, flags):
    assert watched({}, changes).summary().flags == flags


def test_the_worst_difference_counts_and_the_last_share():
    """A policy that learned to stop is not marked for having begun without an end."""
    watch = watched({"difference": 0.5, "clipped": 0.25, "truncated": 1.0}, {})
    found = watch.summary()
    assert (found.max_logprob_difference, found.first_clip_fraction) == (0.5, 0.25)
    assert found.truncated_share == SOUND["truncated"]
    assert found.flags == ["max_logprob_difference", "first_clip_fraction"]


def test_a_resumed_run_remembers():
    watch = watched({"difference": 0.5, "truncated": 0.95})
    resumed = FidelityWatch()
    resumed.restore(json.loads(json.dumps(watch.state())))
    assert resumed.summary() == watch.summary()
    resumed.watch(iteration(**SOUND))
    assert resumed.summary().max_logprob_difference == 0.5


def test_learning_without_rollouts_is_sound():
    watch = FidelityWatch()
    watch.watch(IterationStats(1, 0.5, 0, 0, 1, UpdateStats({}, 1, 0.0)))
    assert watch.summary().flags == []


def test_a_run_that_scores_another_policy_than_it_draws_from_is_marked(world):
    """End to end: the released NLPO acts through a filter and is scored without it (pitfalls A1, A5)."""
    settings = world.given()["algorithm"]
    masked = {**settings, "top_p": 0.5, "min_tokens_to_keep": 1}
    records = {
        name: run("toy", name, config=world.given(name, algorithm={**algorithm, "name": name}))
        for name, algorithm in {"ppo": settings, "nlpo": masked, "nlpo-rl4lms": masked}.items()
    }
    for name, record in records.items():
        found = record.fidelity
        assert record.status == "completed"
        assert ("max_logprob_difference" in found.flags) == (name == "nlpo-rl4lms")
        assert found.first_clip_fraction == 0.0
        lines = [line for line in read_curves(world.root / name) if line["kind"] == "train"]
        differences = [line["update/max_logprob_difference"] for line in lines]
        assert found.max_logprob_difference == max(differences)
        assert found.truncated_share == lines[-1]["rollout/truncated_share"]
        assert all(line["update/first_clip_fraction"] == 0.0 for line in lines)
    assert records["nlpo-rl4lms"].fidelity.max_logprob_difference > 0.01


def test_marks_say_value_bound_and_meaning():
    fidelity = Fidelity(
        max_logprob_difference=4.26, truncated_share=1.0,
        flags=["max_logprob_difference", "truncated_share"],
    )  # fmt: skip
    assert marks(fidelity) == [
        "mark: max_logprob_difference is 4.26, above 0.001: the policy that was trained is not the one that sampled",
        "mark: truncated_share is 1, above 0.9: hardly any completion ends before the limit",
    ]
    assert marks(Fidelity()) == []


def test_run_prints_marks_and_events(capsys, tmp_path):
    from types import SimpleNamespace

    from lmrl_bench.cli.run import _report

    fidelity = Fidelity(truncated_share=0.95, flags=["truncated_share"])
    record = SimpleNamespace(
        status="completed", id="a/b/0", error=None, results={}, fidelity=fidelity,
        events={"control_tokens": 3},
    )  # fmt: skip
    _report(record, tmp_path)
    shown = capsys.readouterr()
    assert "mark: truncated_share is 0.95, above 0.9" in shown.out
    assert "control_tokens: 3" in shown.out + shown.err
