"""Wraps a plain function as a reward, without scaling."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lmrl_bench.core.errors import RewardError
from lmrl_bench.metrics.plain import Declared, F, PlainFunction, checked_needs, declare
from lmrl_bench.metrics.values import checked_info, per_completion
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


def reward(*, needs: Iterable[str] = ()) -> Callable[[F], F]:
    """Declares the fields of a sample that a reward function reads.

    Args:
        needs: Any of "prompt", "references", "meta".

    Raises:
        RewardError: `needs` names an unknown field.
    """
    declared = Declared(needs=checked_needs(needs, RewardError))
    return lambda function: declare(function, declared)


class FunctionReward(RewardFunction):
    """Uses the values of a plain function as rewards, unchanged.

    Args:
        name: Name in task.yaml.
        function: `(completions, samples) -> list[float]`; see `lmrl_bench.metrics.plain`. It may
            return a `RewardOutput` instead, to add components, token rewards or info.
        args: Additional arguments of the function.

    Raises:
        RewardError: Unknown or wrong arguments.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], args: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self._origin = function
        self._function = PlainFunction("reward", name, function, args or {}, RewardError)
        self.needs = self._function.needs

    @property
    def origin(self) -> object:
        """The function."""
        return self._origin

    @property
    def signature(self) -> str:
        """Name, function, digest of the function's file, and arguments."""
        return f"{self.name}|{self._function.signature}"

    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Scores `B` episodes.

        Raises:
            RewardError: The function raises, or does not return one number per completion.
        """
        if not len(batch):
            return RewardOutput(np.zeros(0))
        return self._function.call(batch.completions, batch.samples, self._output)

    def _output(self, returned: Any, samples: Sequence[Sample]) -> RewardOutput:
        whole = returned if isinstance(returned, RewardOutput) else RewardOutput(returned)
        where = self._function.where
        return dataclasses.replace(
            whole,
            scores=per_completion(whole.scores, samples, where, RewardError),
            info=checked_info(whole.info, samples, where, RewardError),
        )
