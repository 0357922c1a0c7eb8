"""The two sides that come with the package: our algorithms, and the floor. Run as a process by `compare`."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.material import Material
from harness.settings import settings
from harness.side import Channel, Played, finish, serve
from lmrl_bench.core.errors import LmrlBenchError

FLOOR = "floor"
_ENDLESS = 10**9


class Ours:
    """One of our algorithms, put together as `lmrl-bench run` does it."""

    def __init__(
        self, material: Material, algorithm: str, device: str = "cpu", precision: str = "none"
    ) -> None:
        from lmrl_bench.planning.plan import plan_run
        from lmrl_bench.planning.resolve import resolve
        from lmrl_bench.runs.session import open_session
        from lmrl_bench.speedups.allocator import reuse_freed_memory
        from lmrl_bench.tasks.task import Task

        reuse_freed_memory()
        task = Task(material.task_folder)
        given = {
            "algorithm": {
                "name": algorithm,
                "autocast": precision,
                **settings(algorithm, material.workload),
            },
            "policy": {"model": str(material.model_folder), "init": "base"},
            "budget": {"tokens": _ENDLESS},
            "runtime": {"device": device},
        }
        self.algorithm: Any = open_session(
            plan_run(task, resolve(task, given)).prepared()
        ).algorithm

    def __call__(self) -> Played:
        """Plays one iteration."""
        stats: list[Any] = []
        before = self.algorithm.tokens
        steps = self.algorithm.optimizer_steps
        self.algorithm.learn(before + 1, after_iteration=stats.append)
        (iteration,) = stats
        return Played(
            generate_s=iteration.seconds["generate"],
            tokens=iteration.tokens - before,
            steps=iteration.optimizer_steps - steps,
            update_s=iteration.seconds["update"],
        )


class Floor:
    """The time of plain Hugging Face code: `generate`, then forward and backward over the same tokens.

    The model is Hugging Face's as it is, without anything of this package. The forward computes logits at
    the completion's places only. There is no optimizer. Prompts are read once for each completion, of groups too.
    """

    def __init__(self, material: Material, device: str) -> None:
        from transformers import GenerationConfig

        self.workload = material.workload
        self.device = torch.device(device)
        self.model: Any = nn.Module.to(material.model(), self.device)
        self.tokenizer: Any = material.tokenizer()
        self.prompts = material.prompts
        self.pad_id = self.tokenizer.pad_token_id
        self.generation = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.workload.completion_tokens,
            min_new_tokens=self.workload.completion_tokens,
            pad_token_id=self.pad_id,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        self.rng = random.Random(0)

    def __call__(self) -> Played:
        """Samples once and makes `epochs` passes."""
        chosen = self.rng.sample(self.prompts, self.workload.episodes)
        encoded = self.tokenizer(chosen, return_tensors="pt", padding=True).to(self.device)
        started = time.perf_counter()
        with torch.no_grad():
            ids = self.model.generate(**encoded, generation_config=self.generation)
        finish(self.device)
        generate_s = time.perf_counter() - started
        mask = torch.ones_like(ids)
        mask[:, : encoded["attention_mask"].shape[1]] = encoded["attention_mask"]
        seconds = []
        size = self.workload.micro_batch_episodes or len(ids)
        for _ in range(self.workload.epochs):
            started = time.perf_counter()
            for part in zip(torch.split(ids, size), torch.split(mask, size), strict=True):
                self._pass(*part)
            self.model.zero_grad(set_to_none=True)
            finish(self.device)
            seconds.append(time.perf_counter() - started)
        return Played(generate_s, self.workload.tokens, 0, seconds)

    def _pass(self, ids: Tensor, mask: Tensor) -> None:
        completion = self.workload.completion_tokens
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=completion + 1,
        ).logits[:, :-1]
        logprobs = logits.log_softmax(-1).gather(2, ids[:, -completion:, None])
        logprobs.mean().backward()


def main(folder: str, name: str, device: str, precision: str = "none") -> None:
    """Serves rounds of the floor, or of one of our algorithms with its setting `autocast`."""
    torch.set_num_threads(1)
    channel = Channel()
    material = Material(Path(folder))
    try:
        player = (
            Floor(material, device) if name == FLOOR else Ours(material, name, device, precision)
        )
    except LmrlBenchError as error:
        channel.unavailable(str(error))
        return
    channel.ready("lmrl-bench", "torch", "transformers")
    serve(channel, player, device)


if __name__ == "__main__":
    main(*sys.argv[1:])
