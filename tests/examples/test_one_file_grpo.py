"""The page that a newcomer reads first computes what the library computes, bit for bit."""

import json

import torch
from one_file_grpo import train

from lmrl_bench.algorithms.grpo import GRPOConfig
from lmrl_bench.planning.plan import plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.runs.session import open_session
from lmrl_bench.tasks.catalog import load_task

SEED = 3


def library(task, iterations):
    """Trains with the library's GRPO and returns its weights and the rewards of its iterations."""
    given = {"algorithm": {"name": "grpo", **GRPOConfig().model_dump()}, "seed": SEED,
             "policy": {"model": "nano-seq2seq", "init": "base"}}  # fmt: skip
    algorithm = open_session(plan_run(task, resolve(task, given)).prepared()).algorithm
    rewards = []
    while len(rewards) < iterations:
        algorithm.learn(
            algorithm.tokens + 1, after_iteration=lambda stats: rewards.append(stats.rollout.score)
        )
    return algorithm.policy.model.state_dict(), rewards


def test_it_equals_the_library_bit_for_bit(tmp_path):
    weights, rewards = library(load_task("docs-en-de"), 2)
    ours = train("docs-en-de", "nano-seq2seq", 2, SEED, tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    assert [line["reward"] for line in record["curve"]] == rewards
    for name, value in ours.policy.model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_it_is_short():
    from pathlib import Path

    assert len(Path(__file__).with_name("one_file_grpo.py").read_text().splitlines()) <= 150
