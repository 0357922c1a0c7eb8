"""One gradient step on one minibatch, computed in micro-batches without changing the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from lmrl_bench.algorithms.functional import kl_k3, masked_mean
from lmrl_bench.algorithms.interface import UpdateStats, require_finite
from lmrl_bench.data.episodes import Episodes, TokenBatch

Batch = TypeVar("Batch", Episodes, TokenBatch)


@dataclass(frozen=True)
class LossParts:
    """A micro-batch's share of its minibatch's loss.

    Attributes:
        loss: `()`, to be minimized; the shares of all micro-batches add up to the minibatch's loss.
        logprobs: `(N, T)`, of the policy being trained.
        terms: parts of the loss for the log, which add up in the same way.
    """

    loss: Tensor
    logprobs: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class StepResult:
    """The outcome of one gradient step.

    Attributes:
        terms: the loss and its parts over the minibatch.
        logprobs: `(B, T)` before the step.
        gradient_norm: before clipping.
        applied: false where `proceed` refused the step.
    """

    terms: dict[str, float]
    logprobs: Tensor
    gradient_norm: float
    applied: bool


def gradient_step(
    minibatch: Batch,
    groups: Sequence[Tensor],
    loss: Callable[[Batch, Tensor], LossParts],
    *,
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    max_grad_norm: float,
    iteration: int,
    proceed: Callable[[Tensor], bool] = lambda _: True,
) -> StepResult:
    """Accumulates the gradient over the micro-batches `groups`, clips its norm and takes one step.

    Args:
        minibatch: The episodes of this step.
        groups: Indices of the episodes in each micro-batch; together each episode once.
        loss: Maps a micro-batch and its tokens' weights `(N, T)` to its share of the loss.
        weights: `(B, T)`, normalized over the whole minibatch, so that the split does not change the gradient.
        optimizer: Takes the step.
        parameters: What the optimizer moves.
        max_grad_norm: Bound of the joint norm of the gradient.
        iteration: For messages.
        proceed: Is shown the log-probabilities `(B, T)` before the step and may refuse it.

    Raises:
        DivergedError: A loss term or the gradient is not finite; nothing was changed.
    """
    optimizer.zero_grad(set_to_none=True)
    terms: dict[str, Tensor] = {}
    logprobs = torch.zeros_like(weights)
    for rows in groups:
        part = minibatch.select(rows)
        parts = loss(part, weights[rows, : part.width])
        for name, value in {**parts.terms, "loss": parts.loss}.items():
            terms[name] = value.detach() + terms[name] if name in terms else value.detach()
        logprobs[rows, : part.width] = parts.logprobs.detach()
        parts.loss.backward()  # type: ignore[no-untyped-call]
    for name, value in terms.items():
        require_finite(value, f"the term '{name}'", iteration)
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    require_finite(norm, "the norm of the gradient", iteration)
    applied = proceed(logprobs)
    if applied:
        optimizer.step()
    found = {name: float(value) for name, value in terms.items()}
    return StepResult(found, logprobs, float(norm), applied)


def shuffled(episodes: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yields the indices of minibatches of `size` episodes, in a random order; together each episode once."""
    yield from torch.split(torch.randperm(episodes, generator=rng), size)


def can_be_fused(parameters: Sequence[nn.Parameter]) -> bool:
    """Returns whether Adam's step can be fused: torch supports it on these devices, exact in float32 only."""
    return all(
        parameter.dtype == torch.float32 and parameter.device.type in ("cpu", "cuda")
        for parameter in parameters
    )


@dataclass
class UpdateRecorder:
    """Collects the steps of one update into its `UpdateStats`.

    Attributes:
        clip_range: ε of a clipped surrogate, below 1 and above; None where ratios below 1 are not clipped.
        clip_range_high: ε above 1, where it differs.
    """

    clip_range: float | None = None
    clip_range_high: float | None = None
    _steps: list[StepResult] = field(default_factory=list)
    _approx_kl: list[float] = field(default_factory=list)
    _clip_fraction: list[float] = field(default_factory=list)
    _first_difference: float = 0.0

    def add(self, minibatch: Episodes, result: StepResult, log_ratio: Tensor | None = None) -> None:
        """Takes the step's result on `minibatch`; `log_ratio` `(B, T)` is what was clipped, per token by default."""
        mask, old = minibatch.mask, minibatch.behavior_logprobs
        if not self._steps:
            difference = (result.logprobs - old).masked_fill(~mask, 0.0)
            self._first_difference = float(difference.abs().max())
        self._steps.append(result)
        self._approx_kl.append(float(masked_mean(kl_k3(old, result.logprobs), mask)))
        log_ratio = result.logprobs - old if log_ratio is None else log_ratio
        self._clip_fraction.append(self._clipped(log_ratio, mask))

    def stats(self, **terms: float) -> UpdateStats:
        """Returns the means over all steps, with further `terms`."""
        names = self._steps[0].terms
        means = {name: _mean([step.terms[name] for step in self._steps]) for name in names}
        return UpdateStats(
            terms={**means, **terms},
            optimizer_steps=sum(step.applied for step in self._steps),
            gradient_norm=_mean([step.gradient_norm for step in self._steps]),
            approx_kl=self._approx_kl[-1],
            clip_fraction=_mean(self._clip_fraction),
            first_clip_fraction=self._clip_fraction[0],
            max_logprob_difference=self._first_difference,
        )

    def _clipped(self, log_ratio: Tensor, mask: Tensor) -> float:
        high = self.clip_range if self.clip_range_high is None else self.clip_range_high
        if high is None:
            return 0.0
        excess = log_ratio.masked_fill(~mask, 0.0).exp() - 1.0
        outside = excess > high
        if self.clip_range is not None:
            outside |= excess < -self.clip_range
        return float(masked_mean(outside.float(), mask))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
