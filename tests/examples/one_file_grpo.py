"""GRPO in one file: rollout → reward → advantage → update → record.

Read this first. It is the whole of reinforcement learning on a language model, with nothing hidden but the model, the
sampler and the task. `lmrl_bench.algorithms.grpo` does the same with logging, checkpoints and more settings;
`test_one_file_grpo.py` checks that both reach the same weights, bit for bit.

    python tests/examples/one_file_grpo.py docs-en-de --iterations 5 --out one-file-grpo

Paper: DeepSeekMath (arXiv 2402.03300), section 4.1, outcome supervision.
Shapes: B episodes, P prompt tokens, T completion tokens, G completions per prompt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.seeding import derive_seed
from lmrl_bench.data.episodes import Completions, Prompts, TokenBatch
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.rollouts.engine import RolloutEngine
from lmrl_bench.runs.session import make_codec
from lmrl_bench.tasks.catalog import load_task

GROUPS, GROUP_SIZE = 8, 8  # prompts per iteration, completions per prompt (G)
LEARNING_RATE, ADAM_EPSILON, MAX_GRAD_NORM = 1e-4, 1e-5, 1.0
CLIP_RANGE, KL_COEFFICIENT = 0.2, 0.04  # ε and β of the paper
MICRO_BATCH_TOKENS = 8192  # bounds memory; the gradient does not depend on it


class OneFileGRPO:
    """A policy, a task and an optimizer; `iterate` is one step of GRPO."""

    def __init__(self, task_name: str | Path, model: str, seed: int = 0) -> None:
        self.task = load_task(task_name)
        prompt, completion = self.task.spec.prompt, self.task.spec.completion
        self.policy = LanguageModelPolicy.load(
            model, max_prompt_tokens=prompt.max_tokens, max_completion_tokens=completion.max_tokens
        )
        self.policy.set_training_mode(False)  # no dropout: the first ratio is exactly 1
        self.policy.make_ref_policy()  # a frozen copy, for the KL term
        self.sampling = SamplingConfig()
        self.behavior = self.policy.make_behavior(self.sampling.temperature, completion.min_tokens)
        codec = make_codec(self.task, self.policy)
        self.core = EpisodeCore(self.task, codec, seed=derive_seed(seed, "data"))
        self.engine = RolloutEngine(self.policy)
        # One random stream for what is drawn, one for the order of the episodes.
        streams = derive_seed(seed, "sampling")
        self.rng = torch.Generator().manual_seed(derive_seed(streams, "sampling"))
        self.shuffle_rng = torch.Generator().manual_seed(derive_seed(streams, "shuffle"))
        self.parameters = [p for p in self.policy.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=LEARNING_RATE, eps=ADAM_EPSILON, fused=True
        )

    def iterate(self) -> dict[str, float]:
        """Collects one batch of episodes and takes one gradient step on it."""
        prompts, completions = self.rollout()
        rewards = self.core.outcome(prompts, completions).scores  # (B,), the task's reward
        advantages = self.advantages(rewards)
        batch = TokenBatch.of(prompts, completions)
        with torch.no_grad():
            reference = self.policy.score_ref_policy(batch, self.behavior)  # (B, T), nats
        loss = self.update(batch, completions.logprobs, reference, advantages)
        return {"reward": float(rewards.mean()), "loss": loss, "tokens": batch.n_tokens}

    @torch.no_grad()
    def rollout(self) -> tuple[Prompts, Completions]:
        """Draws G completions for each of the next prompts, with their log-probabilities."""
        prompts = self.core.sample_prompts(GROUPS, GROUP_SIZE)
        completions = self.engine.generate(
            prompts,
            self.sampling,
            self.behavior,
            self.rng,
            max_tokens=self.task.spec.completion.max_tokens,
            values=False,
        )
        return prompts, completions

    @staticmethod
    def advantages(rewards: torch.Tensor) -> torch.Tensor:
        """Compares each completion with the others for its prompt: `(R − mean) / (std + 1e-4)`."""
        groups = rewards.double().view(
            GROUPS, GROUP_SIZE
        )  # in float64 equal rewards cancel exactly
        centered = groups - groups.mean(dim=1, keepdim=True)
        deviation = groups.std(dim=1, keepdim=True)
        return (centered / (deviation + 1e-4)).flatten().float()

    def update(
        self,
        batch: TokenBatch,
        old_logprobs: torch.Tensor,
        reference: torch.Tensor,
        advantages: torch.Tensor,
    ) -> float:
        """Takes one step on `−mean over episodes of the mean over tokens of (clipped surrogate − β k3)`."""
        mask = batch.completion_mask
        weights = mask / mask.sum(dim=1, keepdim=True) / len(batch)  # (B, T), sum to 1
        # The order does not matter for one step, but it does for the last bits of a sum.
        order = torch.randperm(len(batch), generator=self.shuffle_rng)
        batch, weights = batch.select(order), weights[order]
        old_logprobs, reference = old_logprobs[order], reference[order]
        advantages = advantages[order]
        self.optimizer.zero_grad()
        total = 0.0
        for index in batch.micro_batches(MICRO_BATCH_TOKENS):
            part = batch.select(index)
            width = part.width
            logprobs = self.policy.score(part, self.behavior, values=False, entropy=False).logprobs
            ratio = (logprobs - old_logprobs[index, :width]).exp()
            advantage = advantages[index].unsqueeze(1)
            clipped = ratio.clamp(1 - CLIP_RANGE, 1 + CLIP_RANGE)
            surrogate = torch.minimum(ratio * advantage, clipped * advantage)
            log_ratio = reference[index, :width] - logprobs
            k3 = log_ratio.expm1() - log_ratio  # unbiased for the KL, never negative
            w = weights[index, :width]
            loss = -(surrogate * w).sum() + KL_COEFFICIENT * (k3 * w).sum()
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        self.optimizer.step()
        return total


def train(task: str | Path, model: str, iterations: int, seed: int, out: Path) -> OneFileGRPO:
    """Trains, and writes the policy and the record with its curve into the folder `out`."""
    grpo = OneFileGRPO(task, model, seed)
    curve = [{"iteration": n, **grpo.iterate()} for n in range(1, iterations + 1)]
    grpo.policy.save(out / "policy")
    record = {"task": grpo.task.name, "model": model, "algorithm": "one-file-grpo", "seed": seed}
    (out / "record.json").write_text(json.dumps({**record, "curve": curve}, indent=1) + "\n")
    return grpo


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--model", default="nano-seq2seq")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    train(options.task, options.model, options.iterations, options.seed, options.out)
