"""Interface of rewards: one call per batch of finished episodes, texts in, numbers out."""

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
        samples: The `B` samples.
        completions: The `B` decoded completions, without EOS.
        lengths: Completion tokens including EOS, int `(B,)`.
        terminated: Bool `(B,)`; true if the completion ended with EOS, false if the length cap
            truncated it.
    """

    samples: Sequence[Sample]
    completions: Sequence[str]
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.completions)


@dataclass(frozen=True)
class RewardOutput:
    """Rewards of `B` episodes.

    Attributes:
        scores: Total reward of each episode, `(B,)`.
        components: Weighted terms by name, `(B,)` each; they sum to `scores` before clipping.
        token_rewards: Dense rewards `(B, T)` given at each token, in addition to `scores`, or None.
        info: Name to one fact per episode, such as the class of an error or the number of passed
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
        name: Registered name; names the component in logs and records.
        needs: Fields of a sample that it requires: "prompt", "references", "meta". If no metric or
            reward of a task needs references, its samples may lack them. Empty by default; a reward
            built from a metric needs what the metric needs.
    """

    name: str
    needs: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def signature(self) -> str:
        """Everything that affects the reward, in one line."""

    @abstractmethod
    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Scores `B` episodes; each score is independent of the rest of the batch.

        Call a reward through `calling.call_reward`, which checks what it returns. An implementation
        refuses values that are not finite (`check_finite`) only where it would hide them, as a clip
        does.

        Raises:
            RewardError: The batch cannot be scored.
        """

    @property
    def origin(self) -> object:
        """The class, object or function whose file and line messages name."""
        return self

    def prepare(self, samples: Sequence[Sample]) -> None:  # noqa: B027 - optional hook
        """Called once with all samples of a split before the first batch, to cache references."""


def check_finite(name: str, scores: FloatArray, batch: RewardBatch, place: str = "") -> None:
    """The one check that rewards are finite, as numbers of the single precision that training uses.

    Args:
        name: The reward, for the message.
        scores: `(B,)`.
        batch: The episodes.
        place: File and line of a reward that is not part of this package.

    Raises:
        RewardNotFiniteError: Names the first sample whose reward is NaN or infinite.
    """
    row = first_not_finite(scores)
    if row is not None:
        bad = int((~_finite(scores)).sum())
        large = ", too large for single precision," if np.isfinite(scores[row]) else ""
        verb = f" ({place}): returned" if place else " is"
        raise RewardNotFiniteError(
            f"reward '{name}'{verb} {scores[row]}{large} for sample '{batch.samples[row].id}' "
            f"({bad} of {len(scores)} rows); completion: {batch.completions[row][:80]!r}"
        )


def first_not_finite(scores: FloatArray) -> int | None:
    """Returns the first position of NaN or infinity in `(B,)` scores; None without one."""
    bad = np.flatnonzero(~_finite(scores))
    return int(bad[0]) if len(bad) else None


def _finite(scores: FloatArray) -> NDArray[np.bool_]:
    with np.errstate(over="ignore"):  # 1e300 becomes infinite, which is what is asked
        return np.isfinite(np.asarray(scores).astype(np.float32))


def numbered(names: Sequence[str]) -> list[str]:
    """Returns the names with `-2`, `-3`, … at the second and later uses of one."""
    return [
        f"{name}-{names[:position].count(name) + 1}" if name in names[:position] else name
        for position, name in enumerate(names)
    ]
