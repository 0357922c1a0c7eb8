"""The one way to call a reward: foreign ones raise one message, and all numbers are checked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lmrl_bench.core.errors import RewardError
from lmrl_bench.metrics.foreign import is_foreign, scoring_border, source_place
from lmrl_bench.metrics.plain import is_function
from lmrl_bench.metrics.values import checked_info, per_completion
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput, check_finite


def call_reward(
    reward: RewardFunction, batch: RewardBatch, name: str | None = None
) -> RewardOutput:
    """Scores a batch with any reward, and checks every number that comes back.

    Args:
        reward: The reward.
        batch: `B` episodes.
        name: What messages call the reward; default: its own name.

    Returns:
        The output with scores as `(B,)` float64.

    Raises:
        RewardError: The reward raises, or does not return a `RewardOutput` with `B` numbers.
        RewardNotFiniteError: A score, or a component of one, is NaN or infinite in single precision.
    """
    name = name or reward.name
    # Rewards of this package return arrays and raise readable errors; only others need the border.
    output = _foreign(reward, batch) if is_foreign(type(reward)) else reward(batch)
    place = _place(reward)
    for part, values in {"scores": output.scores, **output.components}.items():
        if np.shape(values) != (len(batch),):
            raise RewardError(
                f"reward '{name}' gave {part} of shape {np.shape(values)}, expected ({len(batch)},)"
            )
    # Components first: an infinite sum is best explained by the part that made it so.
    for part, values in output.components.items():
        check_finite(part, values, batch, place)
    check_finite(name, output.scores, batch, place)
    return replace(output, scores=np.asarray(output.scores, dtype=np.float64))


def _foreign(reward: RewardFunction, batch: RewardBatch) -> RewardOutput:
    """Calls a reward of a plug-in; what it raises becomes one message that names a sample."""

    # Called on halves of the batch after an error, to name the sample that caused it.
    def again(rows: Sequence[int]) -> RewardOutput:
        return reward(_part(batch, rows))

    what = f"reward '{reward.name}'"
    with scoring_border(what, reward, RewardError, batch.samples, again):
        return _checked(reward, reward(batch), batch)


def _place(reward: RewardFunction) -> str:
    """Returns file and line of a reward that is not part of this package, else an empty text."""
    origin = reward.origin
    if not is_foreign(origin):
        return ""
    return _place_of(origin if is_function(origin) else type(origin))


@functools.lru_cache(maxsize=256)
def _place_of(value: object) -> str:
    # Kept, because finding the line of a class parses its whole file: 10 ms, on every batch.
    return source_place(value)


def _part(batch: RewardBatch, rows: Sequence[int]) -> RewardBatch:
    return RewardBatch(
        samples=[batch.samples[row] for row in rows],
        completions=[batch.completions[row] for row in rows],
        lengths=batch.lengths[list(rows)],
        terminated=batch.terminated[list(rows)],
    )


def _checked(reward: RewardFunction, output: Any, batch: RewardBatch) -> RewardOutput:
    where = f"reward '{reward.name}' ({_place(reward)})"
    if not isinstance(output, RewardOutput):
        raise RewardError(f"{where}: returned {type(output).__name__}; return RewardOutput(scores)")
    scores = output.scores
    if not (isinstance(scores, np.ndarray) and scores.dtype.kind in "fiub"):
        scores = per_completion(scores, batch.samples, where, RewardError)
    info = checked_info(output.info, batch.samples, where, RewardError)
    return RewardOutput(scores, output.components, output.token_rewards, info)
