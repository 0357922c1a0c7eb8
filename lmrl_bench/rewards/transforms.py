"""Reward transforms: changes to the scores of a batch that apply only in training.

A task's reward scores each episode on its own, in training and in evaluation. A transform sees the
scores of all `B` episodes of an iteration and may use statistics of the batch or of a group.
Transforms are applied in order, and only in training: evaluations and the Gymnasium environments
report the original reward.

They are declared under `reward.transforms` in task.yaml or in a run's configuration, which replaces
the task's list; the record's configuration contains the list in use:

    reward:
      transforms:
        - {name: soft-overlong, args: {buffer_tokens: 8}}
        - {name: whiten, args: {keep_mean: true}}

Transforms are stateless: the same batch gives the same scores, so a resumed run continues exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from lmrl_bench.core.errors import RewardError, RewardNotFiniteError, nearest
from lmrl_bench.core.registry import Registry
from lmrl_bench.metrics.arguments import construct
from lmrl_bench.metrics.base import FloatArray
from lmrl_bench.metrics.foreign import border
from lmrl_bench.rewards.base import first_not_finite, numbered

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

_HERE = "lmrl_bench.rewards.transforms"


@dataclass(frozen=True)
class TransformBatch:
    """Inputs of a transform: `B` training episodes.

    Attributes:
        samples: The `B` samples.
        group_ids: `(B,)` int64; episodes with equal numbers were sampled together from one prompt.
        lengths: `(B,)` int64, completion tokens including EOS.
        terminated: `(B,)` bool, the completion ended with EOS (false if truncated at the cap).
        max_tokens: The task's length cap.
    """

    samples: Sequence[Sample]
    group_ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    max_tokens: int

    def __len__(self) -> int:
        return len(self.samples)


class RewardTransform(ABC):
    """Maps the scores of `B` training episodes to the scores that training learns from.

    Attributes:
        name: As in the registry; the stage's name in logs.
        additive: Whether it adds to each score without reading any. Only then may the reward also
            give token rewards, which a transform does not see.
    """

    name: ClassVar[str]
    additive: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, scores: FloatArray, batch: TransformBatch) -> FloatArray:
        """Returns the new scores `(B,)`; must not modify `scores` `(B,)`.

        Raises:
            RewardError: The batch does not have what the transform needs.
        """

    def check(self, samples: Sequence[Sample], max_tokens: int) -> None:  # noqa: B027 - optional hook
        """Called once before training, with all training samples and the task's length cap.

        Raises:
            RewardError: The transform does not fit the task.
        """


class Whiten(RewardTransform):
    """Scales the batch's scores to standard deviation 1 and, unless `keep_mean`, to mean 0.

    `(r - mean) / sqrt(var + 1e-8)`, with `mean` added again under `keep_mean` (`shift_mean=False`
    in Ziegler et al. 2019, arXiv 1909.08593, and in TRL). The variance is the population's.

    Args:
        keep_mean: Keep the batch's mean, so that a good batch stays better than a bad one.
    """

    name = "whiten"

    def __init__(self, keep_mean: bool = False) -> None:
        self._keep_mean = keep_mean

    def __call__(self, scores: FloatArray, batch: TransformBatch) -> FloatArray:
        """Returns the whitened scores; a batch of equal scores becomes its mean, or 0."""
        if len(batch) < 2:
            raise RewardError(
                f"reward transform '{self.name}': the batch has {len(batch)} episode(s), which has "
                "no deviation; set algorithm.episodes_per_iteration to at least 2"
            )
        mean = scores.mean()
        # ε stands under the root, as in the paper's code: equal scores become 0, not NaN.
        whitened: FloatArray = (scores - mean) / np.sqrt(scores.var() + 1e-8)
        return whitened + mean if self._keep_mean else whitened


class ZScore(RewardTransform):
    """Compares each score with those that share its key: `(r - mean) / (std + epsilon)`.

    The per-input z-score of RLPrompt (Deng et al. 2022, arXiv 2205.12548, section 2.3). The
    standard deviation is the population's, as there.

    Args:
        by: The key: `group` (episodes sampled together from one prompt), `prompt` (all episodes of
            one sample in the batch), or a column of `data.meta`.
        epsilon: Added to the standard deviation.
    """

    name = "z-score"

    def __init__(self, by: str = "group", epsilon: float = 1e-4) -> None:
        self._by = by
        self._epsilon = _positive(self.name, "epsilon", epsilon)

    def check(self, samples: Sequence[Sample], max_tokens: int) -> None:
        """Rejects a key that some samples lack."""
        del max_tokens
        if self._by in ("group", "prompt"):
            return
        for sample in samples:
            if self._by not in sample.meta:
                known = ["group", "prompt", *sample.meta]
                raise RewardError(
                    f"reward transform '{self.name}': by is '{self._by}', which sample "
                    f"'{sample.id}' does not have{nearest(self._by, known)} "
                    f"(allowed: {', '.join(known)}; list further columns in data.meta)"
                )

    def __call__(self, scores: FloatArray, batch: TransformBatch) -> FloatArray:
        """Returns the z-scores; equal or single scores of a key become 0."""
        keys: dict[Hashable, int] = {}
        number = np.array([keys.setdefault(key, len(keys)) for key in self._keys(batch)], np.int64)
        count = np.bincount(number, minlength=len(keys))
        self._require_company(count, number, batch)
        mean = np.bincount(number, weights=scores) / count
        centered = scores - mean[number]
        # Two passes: the difference of two large sums of squares would lose the small deviations.
        deviation = np.sqrt(np.bincount(number, weights=centered**2) / count)
        z_scores: FloatArray = centered / (deviation[number] + self._epsilon)
        return z_scores

    def _keys(self, batch: TransformBatch) -> list[Hashable]:
        if self._by == "group":
            return list(batch.group_ids.tolist())
        if self._by == "prompt":
            return [sample.id for sample in batch.samples]
        return [repr(sample.meta[self._by]) for sample in batch.samples]

    def _require_company(
        self, count: NDArray[np.int64], number: NDArray[np.int64], batch: TransformBatch
    ) -> None:
        """Rejects a batch without comparable episodes, in which all scores would become 0."""
        if len(batch) and count.max() < 2:
            raise RewardError(
                f"reward transform '{self.name}': by is '{self._by}', but no two of the "
                f"{len(number)} episodes share one, so every score would become 0; set "
                "algorithm.group_size to at least 2"
            )


class Affine(RewardTransform):
    """Scales and shifts: `scale * r + shift`.

    Args:
        scale: Factor; not 0.
        shift: Added after it.
    """

    name = "affine"

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        if not (math.isfinite(scale) and math.isfinite(shift)) or scale == 0:
            raise RewardError(
                f"reward transform '{self.name}': scale is {scale} and shift {shift}; both must be "
                "finite, and scale not 0"
            )
        self._scale, self._shift = scale, shift

    def __call__(self, scores: FloatArray, batch: TransformBatch) -> FloatArray:
        """Returns the scaled and shifted scores."""
        del batch
        return self._scale * scores + self._shift


class Clip(RewardTransform):
    """Bounds each score.

    Args:
        low: Smallest score.
        high: Largest score.
    """

    name = "clip"

    def __init__(self, low: float, high: float) -> None:
        if not low < high:  # written so that NaN fails too
            raise RewardError(
                f"reward transform '{self.name}': low is {low} and high {high}; low must be smaller"
            )
        self._low, self._high = low, high

    def __call__(self, scores: FloatArray, batch: TransformBatch) -> FloatArray:
        """Returns the bounded scores."""
        del batch
        return np.clip(scores, self._low, self._high)


class MissingEosPenalty(RewardTransform):
    """Subtracts a constant from completions truncated at the length cap.

    Args:
        value: What is subtracted; not negative.
    """

    name = "missing-eos-penalty"
    additive = True

    def __init__(self, value: float = 1.0) -> None:
        self._value = _not_negative(self.name, "value", value)

    def __call__(self, scores: FloatArray, batch: TransformBatch) -> FloatArray:
        """Returns the scores, reduced by `value` for truncated completions."""
        return scores - np.where(batch.terminated, 0.0, self._value)


class SoftOverlong(RewardTransform):
    """DAPO's soft overlong punishment: a penalty that grows over the last tokens before the cap.

    Yu et al. 2025, "DAPO" (arXiv 2503.14476), eq. 13, with `L` tokens in the completion, EOS
    included, `L_max` the task's length cap and `L_cache` = `buffer_tokens`:

        0                                    L <= L_max - L_cache
        (L_max - L_cache - L) / L_cache      above that, down to -1 at L_max

    A capped completion has `L_max` tokens, so it loses `factor`, like one whose EOS is its last
    possible token.

    Args:
        buffer_tokens: `L_cache`, tokens before the cap over which the penalty grows.
        factor: Largest penalty; 1 in the paper.
    """

    name = "soft-overlong"
    additive = True

    def __init__(self, buffer_tokens: int, factor: float = 1.0) -> None:
        self._buffer = int(_positive(self.name, "buffer_tokens", buffer_tokens))
        self._factor = _not_negative(self.name, "factor", factor)

    def check(self, samples: Sequence[Sample], max_tokens: int) -> None:
        """Rejects a buffer that exceeds the length cap."""
        del samples
        if self._buffer > max_tokens:
            raise RewardError(
                f"reward transform '{self.name}': buffer_tokens is {self._buffer}, but the task's "
                f"completions have at most {max_tokens} tokens; choose at most {max_tokens}"
            )

    def __call__(self, scores: FloatArray, batch: TransformBatch) -> FloatArray:
        """Returns the scores, reduced by at most `factor`."""
        free = batch.max_tokens - self._buffer
        excess = np.clip(batch.lengths.astype(np.float64) - free, 0.0, self._buffer)
        return scores - self._factor * excess / self._buffer


TRANSFORMS: Registry[type[RewardTransform]] = Registry(
    "reward transform",
    {
        "affine": f"{_HERE}:Affine",
        "clip": f"{_HERE}:Clip",
        "missing-eos-penalty": f"{_HERE}:MissingEosPenalty",
        "soft-overlong": f"{_HERE}:SoftOverlong",
        "whiten": f"{_HERE}:Whiten",
        "z-score": f"{_HERE}:ZScore",
    },
    group="lmrl_bench.reward_transforms",
)


class TransformSpecLike(Protocol):
    """Attributes read from a declared transform; `config.run.TransformSpec` implements it."""

    @property
    def name(self) -> str:
        """A registered transform."""

    @property
    def args(self) -> Mapping[str, Any]:
        """Arguments of its constructor."""


def make_transforms(specs: Iterable[TransformSpecLike]) -> tuple[RewardTransform, ...]:
    """Builds declared transforms.

    Raises:
        ConfigError: Unknown name.
        RewardError: Wrong arguments.
    """
    return tuple(_make(spec.name, spec.args) for spec in specs)


def _make(name: str, args: Mapping[str, Any]) -> RewardTransform:
    made = construct("reward transform", name, TRANSFORMS.get(name), args, RewardError)
    if not isinstance(made, RewardTransform):  # of a plug-in
        raise RewardError(
            f"reward transform '{name}' is made as {type(made).__name__}; its class must be a "
            "subclass of lmrl_bench.rewards.RewardTransform"
        )
    return made


@dataclass(frozen=True)
class TransformedScores:
    """Training scores.

    Attributes:
        scores: `(B,)`, after all transforms.
        means: Name of each transform to the mean over the batch after it, in order; a second one of
            the same name is called `name-2`.
    """

    scores: FloatArray
    means: dict[str, float]


def transform_scores(
    transforms: Sequence[RewardTransform],
    scores: FloatArray,
    batch: TransformBatch,
    *,
    token_rewards: bool = False,
) -> TransformedScores:
    """Applies transforms in order.

    Args:
        transforms: The transforms.
        scores: `(B,)`, the task's reward of each episode.
        batch: The episodes.
        token_rewards: Whether the reward also gives token rewards.

    Raises:
        RewardError: A transform gives scores of another shape, or reads scores while the reward
            gives token rewards too.
        RewardNotFiniteError: A transformed score is NaN or infinite; names transform and sample.
    """
    means: dict[str, float] = {}
    names = numbered([transform.name for transform in transforms])
    for name, transform in zip(names, transforms, strict=True):
        if token_rewards and not transform.additive:
            raise RewardError(
                f"reward transform '{name}' would change the episode's score and leave the token "
                "rewards of this reward as they are; remove it, or use a reward without token "
                "rewards"
            )
        with border(f"in reward transform '{name}'", transform, RewardError):
            scores = np.asarray(transform(scores, batch), dtype=np.float64)
        if scores.shape != (len(batch),):
            raise RewardError(
                f"reward transform '{name}' gave scores of shape {scores.shape}, "
                f"expected ({len(batch)},)"
            )
        if (row := first_not_finite(scores)) is not None:
            raise RewardNotFiniteError(
                f"reward transform '{name}' gave {scores[row]} for sample '{batch.samples[row].id}'"
            )
        means[name] = float(scores.mean())
    return TransformedScores(scores, means)


def _not_negative(name: str, argument: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise RewardError(
            f"reward transform '{name}': {argument} is {value}; it must be finite and not negative"
        )
    return value


def _positive(name: str, argument: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise RewardError(
            f"reward transform '{name}': {argument} is {value}; it must be finite and positive"
        )
    return value
