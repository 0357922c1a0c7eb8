"""The contract of a reward: one call per batch of finished episodes, texts in, numbers out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmrl_bench.core.errors import RewardNotFiniteError
from lmrl_bench.metrics.base import FloatArray, Info

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


@dataclass(frozen=True)
class RewardBatch:
    """`B` finished episodes.

    Attributes:
        samples: the `B` samples.
        responses: the `B` decoded responses, without EOS.
        lengths: `(B,)` int, response tokens, EOS included.
        terminated: `(B,)` bool, the response ended with EOS (false: cut at the length cap).
    """

    samples: Sequence[Sample]
    responses: Sequence[str]
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.responses)


@dataclass(frozen=True)
class RewardOutput:
    """Rewards of `B` episodes.

    Attributes:
        scores: `(B,)`, the whole reward of each episode.
        components: name to `(B,)`, each already weighted; they sum to `scores` before clipping.
        token_rewards: `(B, T)` or None; given at the tokens instead of at the end, on top of
            `scores` (dense rewards).
        info: Name to one fact for each episode, such as the class of an error or a count of passed
            tests: texts, finite numbers, booleans or None. Stored with the completion in
            samples.parquet. Scoring again must give the same facts.
    """

    scores: FloatArray
    components: dict[str, FloatArray] = field(default_factory=dict)
    token_rewards: FloatArray | None = None
    info: Info = field(default_factory=dict)


class RewardFunction(ABC):
    """Maps finished episodes to rewards.

    Attributes:
        name: as in the registry; the component's name in logs and records.
        needs: what it cannot do without in a sample: "prompt", "references", "meta"; a task whose
            metrics and rewards do not need references may have rows without any. Default: nothing,
            as in a reward that checks answers; a reward made of a metric needs what the metric does.
    """

    name: str
    needs: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def signature(self) -> str:
        """Everything that can move a value, in one line."""

    @abstractmethod
    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Scores `B` episodes; each row is independent of its batch mates.

        Raises:
            RewardError: A value is not finite.
        """

    def prepare(self, samples: Sequence[Sample]) -> None:  # noqa: B027 - optional hook
        """Called once with all samples of a split before the first batch, to cache references."""


def check_finite(name: str, scores: FloatArray, batch: RewardBatch) -> None:
    """Raises RewardNotFiniteError naming the first sample whose reward is NaN or infinite."""
    row = first_not_finite(scores)
    if row is not None:
        raise RewardNotFiniteError(
            f"reward '{name}' is {scores[row]} for sample '{batch.samples[row].id}' "
            f"({_not_finite(scores)}); response: {batch.responses[row][:80]!r}"
        )


def first_not_finite(scores: FloatArray) -> int | None:
    """Returns the first position of NaN or infinity in `(B,)` scores; None without one."""
    bad = np.flatnonzero(~np.isfinite(scores))
    return int(bad[0]) if len(bad) else None


def _not_finite(scores: FloatArray) -> str:
    return f"{int((~np.isfinite(scores)).sum())} of {len(scores)} rows"


def numbered(names: Sequence[str]) -> list[str]:
    """Returns the names with `-2`, `-3`, … at the second and later uses of one."""
    return [
        f"{name}-{names[:position].count(name) + 1}" if name in names[:position] else name
        for position, name in enumerate(names)
    ]
