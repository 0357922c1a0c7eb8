"""Calls rewards: errors of foreign rewards become one message, and their results are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lmrl_bench.core.errors import RewardError
from lmrl_bench.metrics.foreign import is_foreign, scoring_border, source_place
from lmrl_bench.metrics.values import checked_info, per_response
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput


def call_reward(reward: RewardFunction, batch: RewardBatch) -> RewardOutput:
    """Scores a batch with any reward.

    Raises:
        RewardError: The reward raises, or does not return a `RewardOutput` of numbers.
    """
    if not is_foreign(type(reward)):
        return reward(batch)

    def again(rows: Sequence[int]) -> RewardOutput:
        return reward(_part(batch, rows))

    what = f"reward '{reward.name}'"
    with scoring_border(what, reward, RewardError, batch.samples, again):
        return _checked(reward, reward(batch), batch)


def _part(batch: RewardBatch, rows: Sequence[int]) -> RewardBatch:
    return RewardBatch(
        samples=[batch.samples[row] for row in rows],
        responses=[batch.responses[row] for row in rows],
        lengths=batch.lengths[list(rows)],
        terminated=batch.terminated[list(rows)],
    )


def _checked(reward: RewardFunction, output: Any, batch: RewardBatch) -> RewardOutput:
    where = f"reward '{reward.name}' ({source_place(reward)})"
    if not isinstance(output, RewardOutput):
        raise RewardError(f"{where}: returned {type(output).__name__}; return RewardOutput(scores)")
    scores = output.scores
    if not (isinstance(scores, np.ndarray) and scores.dtype.kind in "fiub"):
        scores = per_response(scores, batch.samples, where, RewardError)
    info = checked_info(output.info, batch.samples, where, RewardError)
    return RewardOutput(scores, output.components, output.token_rewards, info)
