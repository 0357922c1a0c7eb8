"""Supervised fine-tuning: maximum likelihood of the references, given the prompts.

    L = −mean log π_θ(y_t | x, y_<t)     over the reference's tokens, EOS included

It is not reinforcement learning and generates nothing: its budget is optimizer steps, not tokens. It is the
row that RL has to beat, and where RL runs start by default. AdamW (Loshchilov and Hutter 2019, arXiv
1711.05101), linear warm-up, then a cosine to 0. Where a sample has several references, each epoch takes the
next one. Temperature and minimum length of the sampling configuration take no part: the model itself is
fitted. Dropout stays off, as in all algorithms here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from lmrl_bench.algorithms.functional import token_weights, weighted_sum
from lmrl_bench.algorithms.gradient import LossParts, can_be_fused, gradient_step
from lmrl_bench.algorithms.interface import (
    STATE_FORMAT,
    AfterIteration,
    AlgorithmConfig,
    IterationStats,
    UpdateStats,
    check_state,
)
from lmrl_bench.algorithms.schedules import sft_steps, warmup_cosine
from lmrl_bench.core.seeding import generator
from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.data.sample import Sample
from lmrl_bench.speedups.kernels import Autocast, autocast

if TYPE_CHECKING:
    from lmrl_bench.config.sampling import SamplingConfig
    from lmrl_bench.data.tokenization import TextCodec
    from lmrl_bench.envs.core import EpisodeCore
    from lmrl_bench.models.behavior import TopPFilter
    from lmrl_bench.policies.policy import LanguageModelPolicy


class SFTConfig(AlgorithmConfig):
    """Settings of supervised fine-tuning."""

    epochs: int = Field(3, gt=0, description="passes over the task's SFT samples")
    max_samples: int | None = Field(
        None,
        gt=0,
        description="learn from the first of the task's SFT samples only; null: from all",
    )
    max_steps: int | None = Field(
        None, gt=0, description="largest number of steps, even if epochs are left"
    )
    batch_size: int = Field(
        16, gt=0, description="samples per step; the last of an epoch may be smaller"
    )
    learning_rate: float = Field(3e-4, gt=0.0, description="at its peak, after the warm-up")
    warmup_share: float = Field(0.05, ge=0.0, lt=1.0, description="share of the steps that warm up")
    weight_decay: float = Field(0.01, ge=0.0, description="AdamW's")
    max_grad_norm: float = Field(1.0, gt=0.0, description="bound of the gradient's norm")
    steps_per_iteration: int = Field(50, gt=0, description="steps between two validation losses")
    validation_samples: int = Field(
        256, gt=0, description="first rows of the validation split in them"
    )
    autocast: Autocast = Field(
        "none",
        description="precision of the training forward, weights and sums stay float32; bfloat16 is for devices that "
        "multiply it natively, elsewhere it is ten times slower",
    )
    micro_batch_tokens: int = Field(
        8192, gt=0, description="padded tokens computed at once; never changes the gradient"
    )

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out an unused limit, so that digests of runs without one do not change."""
        fields: dict[str, Any] = handler(self)
        if self.max_samples is None:
            del fields["max_samples"]
        return fields


class SFT:
    """Fits the policy to the task's references.

    Attributes:
        step: Steps taken so far.
        total_steps: Steps in all.
        after_step: Called with both after every step, to show progress.
    """

    config_class: ClassVar[type[AlgorithmConfig]] = SFTConfig
    trains: ClassVar[bool] = True
    spends_tokens: ClassVar[bool] = False
    filters_tokens: ClassVar[bool] = False
    summary: ClassVar[str] = "supervised fine-tuning: maximum likelihood of the references"

    def __init__(
        self,
        policy: LanguageModelPolicy,
        core: EpisodeCore,
        config: SFTConfig,
        *,
        sampling: SamplingConfig,
        total_tokens: int,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        del sampling, total_tokens
        self.policy = policy.to(device)
        self.policy.set_training_mode(False)
        self.config = config
        self.token_filter: TopPFilter | None = None
        self.step = 0
        self._seed = seed
        self._codec = core.codec
        self._behavior = policy.make_behavior()
        self._train = core.task.sft_samples()[: config.max_samples]
        self._validation = core.task.matching("validation")[: config.validation_samples]
        self._steps_per_epoch = math.ceil(len(self._train) / config.batch_size)
        self.total_steps = sft_steps(
            len(self._train), config.epochs, config.batch_size, config.max_steps
        )
        self.after_step: Callable[[int, int], None] | None = None
        self._parameters = [p for p in policy.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=can_be_fused(self._parameters),
        )

    def learn(
        self,
        total_tokens: int | None = None,
        callback: Any = None,
        *,
        after_iteration: AfterIteration | None = None,
    ) -> Self:
        """Takes all steps; the token budget does not apply.

        Raises:
            DivergedError: The loss or the gradient is not finite.
        """
        del total_tokens, callback
        while self.step < self.total_steps:
            stats = self._iterate()
            if after_iteration is not None:
                after_iteration(stats)
        return self

    def validation_loss(self) -> float:
        """Returns the loss on the first rows of the validation split, nats per token."""
        batch = reference_batch(self._codec, self._validation, 0, self.policy.device)
        with torch.no_grad():
            return -float(self._weighted_logprobs(batch, _weights(batch))[0])

    def _iterate(self) -> IterationStats:
        """Takes `steps_per_iteration` steps, then measures the validation loss."""
        started = time.perf_counter()
        stop = min(self.step + self.config.steps_per_iteration, self.total_steps)
        losses, norms = [], []
        while self.step < stop:
            loss, norm = self._one_step()
            losses.append(loss)
            norms.append(norm)
            if self.after_step is not None:
                self.after_step(self.step, self.total_steps)
        terms = {
            "loss": sum(losses) / len(losses),
            "validation_loss": self.validation_loss(),
            "learning_rate": self.learning_rate(self.step - 1),
        }
        return IterationStats(
            iteration=self.iteration,
            progress=self.step / self.total_steps,
            tokens=0,
            episodes=0,
            optimizer_steps=self.step,
            update=UpdateStats(terms, len(losses), sum(norms) / len(norms)),
            seconds={"update": time.perf_counter() - started},
        )

    @property
    def iteration(self) -> int:
        """Iterations so far."""
        return math.ceil(self.step / self.config.steps_per_iteration)

    def learning_rate(self, step: int) -> float:
        """Returns the rate of a step, counted from 0: linear warm-up, then a cosine to 0."""
        config = self.config
        return warmup_cosine(config.learning_rate, step, self.total_steps, config.warmup_share)

    def _one_step(self) -> tuple[float, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        epoch = self.step // self._steps_per_epoch
        batch = reference_batch(self._codec, self.samples(self.step), epoch, self.policy.device)
        result = gradient_step(
            batch,
            batch.micro_batches(self.config.micro_batch_tokens),
            self._loss,
            weights=_weights(batch),
            optimizer=self.optimizer,
            parameters=self._parameters,
            max_grad_norm=self.config.max_grad_norm,
            iteration=self.step // self.config.steps_per_iteration + 1,
        )
        self.step += 1
        return result.terms["loss"], result.gradient_norm

    def samples(self, step: int) -> list[Sample]:
        """Returns a step's samples: by seed and step alone, so that a resumed run meets the same ones."""
        epoch, position = divmod(step, self._steps_per_epoch)
        # The stream keeps its former name, because another one would change every SFT policy.
        order = generator(self._seed, "supervised", epoch).permutation(len(self._train))
        size = self.config.batch_size
        return [self._train[row] for row in order[position * size : (position + 1) * size]]

    def _loss(self, part: TokenBatch, weights: Tensor) -> LossParts:
        with autocast(self.policy.device, self.config.autocast):
            total, logprobs = self._weighted_logprobs(part, weights)
        return LossParts(-total, logprobs, {})

    def _weighted_logprobs(self, part: TokenBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.policy.score(part, self._behavior, values=False, entropy=False)
        return weighted_sum(scores.logprobs, weights), scores.logprobs

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that a bit-exact resume needs."""
        return {
            "format": STATE_FORMAT,
            "algorithm": type(self).__name__,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state.

        Raises:
            AlgorithmError: The state is another algorithm's, or of another format.
        """
        check_state(state, type(self).__name__)
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])


def reference_batch(
    codec: TextCodec, samples: Sequence[Sample], turn: int, device: torch.device
) -> TokenBatch:
    """Returns samples with a reference text as the completion.

    Args:
        codec: Encodes both.
        samples: `B` samples, each with a reference text.
        turn: Which one where a sample has several: number `turn` modulo their count.
        device: Where the tensors are put.
    """
    prompts = codec.prompts(samples)
    rows = [codec.encode_reference(sample, turn % len(sample.references)) for sample in samples]
    shape = (len(rows), max(len(row) for row in rows))
    ids = torch.full(shape, codec.pad_id, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = True
    return TokenBatch(prompts.ids, prompts.mask, ids, mask).to(device)


def _weights(tokens: TokenBatch) -> Tensor:
    return token_weights(tokens.completion_mask, "token-mean")
