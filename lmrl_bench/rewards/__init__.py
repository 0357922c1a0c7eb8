"""Rewards: finished episodes in, numbers out.

`REWARDS` names those that are not metrics; any metric can be one too.

Plug-ins come in through the entry-point group `lmrl_bench.rewards`. Importing this package loads no
torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lmrl_bench.errors import RewardError, nearest
from lmrl_bench.metrics import METRICS, make_metric
from lmrl_bench.metrics.arguments import construct, convert
from lmrl_bench.registry import Registry
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput
from lmrl_bench.rewards.composite import CompositeReward, Term
from lmrl_bench.rewards.from_metric import MetricReward, Scale

__all__ = [
    "REWARDS",
    "CompositeReward",
    "MetricReward",
    "RewardBatch",
    "RewardFunction",
    "RewardOutput",
    "Term",
    "make_reward",
]

_HERE = "lmrl_bench.rewards"

REWARDS: Registry[type[RewardFunction]] = Registry(
    "reward",
    {
        "length-penalty": f"{_HERE}.shaping:LengthPenalty",
        "missing-eos-penalty": f"{_HERE}.shaping:MissingEosPenalty",
        "repetition-penalty": f"{_HERE}.shaping:RepetitionPenalty",
    },
    group=_HERE,
)


class TermLike(Protocol):
    """What is read of a term; `tasks.spec.RewardTerm`, in a layer above, is one."""

    @property
    def name(self) -> str:
        """A registered reward or metric."""

    @property
    def args(self) -> Mapping[str, Any]:
        """Arguments of its constructor; for a metric also `scale`."""

    @property
    def weight(self) -> float:
        """Factor in the sum."""

    @property
    def clip(self) -> tuple[float, float] | None:
        """Bounds before the weight."""


class SpecLike(Protocol):
    """What is read of a reward's definition; `tasks.spec.RewardSpec` is one."""

    @property
    def terms(self) -> Sequence[TermLike]:
        """At least one."""

    @property
    def clip(self) -> tuple[float, float] | None:
        """Bounds of the sum."""


def make_reward(spec: SpecLike, folder: Path | None = None) -> CompositeReward:
    """Builds a task's reward.

    A term is a reward of `REWARDS` or, failing that, a metric of `METRICS`, whose arguments may
    then hold `scale` (see `MetricReward`).

    Args:
        spec: The `reward` section of `task.yaml`.
        folder: The task folder, for relative paths in arguments.

    Raises:
        RewardError: Unknown name, wrong argument of a reward, or bounds that do not fit.
        MetricError: Wrong argument of a metric.
    """
    terms = [
        Term(_make_term(term.name, term.args, folder), term.weight, term.clip)
        for term in spec.terms
    ]
    return CompositeReward(terms, spec.clip)


def _make_term(name: str, args: Mapping[str, Any], folder: Path | None) -> RewardFunction:
    if name in REWARDS:
        return construct("reward", name, REWARDS.get(name), args, RewardError)
    if name not in METRICS:
        known = [*REWARDS, *METRICS]
        raise RewardError(
            f"unknown reward or metric '{name}'{nearest(name, known)} "
            f"(rewards: {', '.join(REWARDS)}; metrics: {', '.join(METRICS)})"
        )
    options = dict(args)
    try:
        scale = convert(Scale, options.pop("scale", True))
    except ValueError as error:
        raise RewardError(
            f"reward '{name}': scale is {args['scale']!r}; "
            f"give true, false or [low, high] ({error})"
        ) from None
    return MetricReward(make_metric(name, options, folder), scale)
