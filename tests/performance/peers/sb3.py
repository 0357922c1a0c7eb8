"""Stable-Baselines3's stock PPO and A2C on our token view as a side: one row per token, as it comes.

Our policy class and environment, which SB3 steps token by token; a minibatch has as many tokens as ours has.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from harness.material import Material
from harness.side import Channel, Played, serve
from stable_baselines3 import A2C, PPO

from lmrl_bench.envs.sb3 import TextVecEnv
from lmrl_bench.envs.vector import TextGenerationVectorEnv
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.tasks.task import Task


class StockAlgorithm:
    """One call of `learn` with as many steps as a rollout has."""

    def __init__(self, material: Material, name: str, device: str) -> None:
        self.workload = workload = material.workload
        tokenizer = material.tokenizer()
        env = TextGenerationVectorEnv(
            Task(material.task_folder), tokenizer, num_envs=workload.episodes
        )
        self.steps = workload.steps if name == "ppo" else 1
        options = {
            "policy_kwargs": {
                "model": material.model(),
                "tokenizer": tokenizer,
                "min_tokens": workload.completion_tokens - 1,
            },
            "n_steps": workload.completion_tokens,
            "learning_rate": workload.learning_rate,
            "device": device,
            "seed": 0,
        }
        if name == "ppo":
            batch = workload.minibatch_episodes * workload.completion_tokens
            options |= {"batch_size": batch, "n_epochs": workload.epochs}
            self.algorithm = PPO(LanguageModelPolicy, TextVecEnv(env), **options)
        else:
            self.algorithm = A2C(
                LanguageModelPolicy, TextVecEnv(env), use_rms_prop=False, **options
            )
        self._collect = self.algorithm.collect_rollouts
        self.algorithm.collect_rollouts = self._timed
        self.generate_s = 0.0

    def __call__(self) -> Played:
        tokens = self.workload.tokens
        self.algorithm.learn(tokens, log_interval=None, reset_num_timesteps=False)
        return Played(self.generate_s, tokens, self.steps)

    def _timed(self, *args, **kwargs):
        started = time.perf_counter()
        going_on = self._collect(*args, **kwargs)
        self.generate_s = time.perf_counter() - started
        return going_on


def main(folder: str, algorithm: str, device: str) -> None:
    torch.set_num_threads(1)
    channel = Channel()
    player = StockAlgorithm(Material(Path(folder)), algorithm, device)
    channel.ready("stable-baselines3", "torch", "transformers")
    serve(channel, player, device)


if __name__ == "__main__":
    main(*sys.argv[1:])
