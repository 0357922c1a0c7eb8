"""The workloads: model, prompts, episodes and gradient steps of one round. The standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Workload:
    """Definition of a round: a rollout of `episodes`, then `epochs` passes over them.

    Attributes:
        architecture: a random model of this family, or the download `smollm2-135m`.
        layers, width, heads, inner: of the random model; `inner` is the feed-forward width of Llama.
        vocabulary: tokens of the byte-level BPE that is trained for it.
        prompt_tokens: shortest and longest prompt.
        completion_tokens: of every episode, exactly.
        episodes: per rollout.
        group_size: completions per prompt, for algorithms that compare them.
        epochs: passes over the episodes, for algorithms that make several.
        minibatch_episodes: per gradient step.
        micro_batch_episodes: about this many per forward and backward, on all sides; None: all of a gradient step, and
            for the floor all of them.
        learning_rate: of Adam.
    """

    name: str
    architecture: Literal["gpt2", "llama", "smollm2-135m"]
    prompt_tokens: tuple[int, int]
    completion_tokens: int
    episodes: int
    group_size: int
    epochs: int
    minibatch_episodes: int
    layers: int = 4
    width: int = 256
    heads: int = 4
    inner: int = 704
    vocabulary: int = 2048
    learning_rate: float = 1e-4
    micro_batch_episodes: int | None = None

    @property
    def tokens(self) -> int:
        """Generated tokens of one rollout."""
        return self.episodes * self.completion_tokens

    @property
    def micro_batch(self) -> int:
        """Episodes per forward and backward."""
        return self.micro_batch_episodes or self.minibatch_episodes

    @property
    def steps(self) -> int:
        """Gradient steps of one round of an algorithm that makes `epochs` passes."""
        return self.epochs * self.episodes // self.minibatch_episodes


def _w(
    name: str, architecture: Literal["gpt2", "llama", "smollm2-135m"] = "gpt2", epochs: int = 1
) -> Workload:
    return Workload(name, architecture, (12, 22), 48, 64, 8, epochs, minibatch_episodes=64)


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("S", "gpt2", (32, 32), 24, 16, 4, 4, 4, layers=2, width=128),
        Workload("M1", "gpt2", (64, 64), 48, 8, 4, 1, 2, vocabulary=8192),
        _w("W1"),
        _w("W1x4", epochs=4),
        _w("W2", "llama"),
        Workload(
            "W3",
            "smollm2-135m",
            prompt_tokens=(12, 22),
            completion_tokens=32,
            episodes=16,
            group_size=8,
            epochs=1,
            minibatch_episodes=16,
            learning_rate=1e-6,
            micro_batch_episodes=8,
        ),
        Workload(
            "G",
            "llama",
            prompt_tokens=(12, 22),
            completion_tokens=48,
            episodes=256,
            group_size=8,
            epochs=1,
            minibatch_episodes=256,
            layers=12,
            width=1024,
            heads=16,
            inner=2816,
            micro_batch_episodes=64,
        ),
    )
}
FOR_A_GPU = ("G",)
"""Played only where it is named: minutes a round on a processor, where the others leave a GPU idle."""
