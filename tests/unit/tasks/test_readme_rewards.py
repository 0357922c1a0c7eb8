"""The examples of tasks/README.md and lmrl_bench/envs/README.md that concern rewards, metrics and environments run."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from helpers_tasks import definition, rows, write_task

from lmrl_bench.data.sample import Sample
from lmrl_bench.envs import register_task
from lmrl_bench.metrics import METRICS, make_metric
from lmrl_bench.rewards import REWARDS, RewardBatch, make_reward
from lmrl_bench.tasks.spec import RewardSpec
from lmrl_bench.tasks.task import Task

ROOT = Path(__file__).parents[3]
TASKS = (ROOT / "tasks" / "README.md").read_text("utf-8")


def block(text, kind, word):
    (found,) = [
        code for code in re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) if word in code
    ]
    return found


def batch(samples, completions):
    ones = np.ones(len(completions), np.int64)
    return RewardBatch(samples, completions, ones, ones.astype(np.bool_))


def test_every_metric_and_reward_is_in_the_readme():
    for name in [*METRICS, *REWARDS]:
        assert f"`{name}`" in TASKS, name


def test_the_reward_and_the_metric_of_the_readme(tmp_path):
    code = block(TASKS, "python", "REWARDS = {") + block(TASKS, "python", "METRICS = {")
    data = {
        split: [{**row, "reference": "the cat"} for row in rows(split)]
        for split in ("train", "validation", "test")
    }
    spec = definition(
        reward={
            "terms": [{"name": "short-and-right", "args": {"limit": 3}}, {"name": "first-word"}]
        },
        metrics={"primary": {"name": "first-word"}, "held_out": [{"name": "chrf"}]},
    )
    folder = write_task(tmp_path, spec, data)
    (folder / "plugin.py").write_text(code)
    task = Task(folder)
    samples = task.samples("test")[:3]
    texts = ["it is the cat", "the cat", "the dog"]
    output = task.reward()(batch(samples, texts))
    assert output.components["short-and-right"].tolist() == [0, 1, 0]
    assert output.components["first-word"].tolist() == [0, 1, 1]
    assert task.metric("first-word").needs == {"references"}


def test_the_verifiable_reward_of_the_readme():
    text = block(TASKS, "yaml", "numeric-match")
    reward = make_reward(RewardSpec.model_validate(yaml.safe_load(text)["reward"]))
    samples = [Sample(str(row), "p", ("4",)) for row in range(3)]
    texts = ["<think>2+2</think>4", "4", "<think></think>5"]
    assert reward(batch(samples, texts)).scores.tolist() == pytest.approx([1.2, 1.0, 0.0])


def test_the_best_of_several_references_counts():
    samples = [Sample("0", "p", ("a b c", "x y z"))]
    for name in ("exact-match", "accuracy", "f1", "rouge-l", "chrf", "bleu"):
        metric = make_metric(name)
        assert metric.score(["x y z"], samples).per_sample[0] == pytest.approx(metric.bounds[1])


def test_the_stable_baselines_example_of_the_readme():
    code = block(
        (ROOT / "lmrl_bench" / "envs" / "README.md").read_text("utf-8"),
        "python",
        "stable_baselines3",
    )
    exec(compile(code.replace("n_steps=32", "n_steps=8").replace("learn(64)", "learn(8)")
                 .replace("batch_size=16", "batch_size=8"), "README.md", "exec"), {})  # fmt: skip


def test_a_task_of_ones_own_gets_an_id(tmp_path):
    folder = write_task(tmp_path)
    ids = register_task(folder)
    try:
        assert ids == ["LMRL/small-v1", "LMRL/small-completion-v1"]
        _, info = gymnasium.make(ids[0]).reset(seed=0)
        assert info["sample_id"].startswith("train-")
        assert register_task(folder) == []
    finally:
        for name in ids:
            del gymnasium.registry[name]
