"""Rewards score finished episodes: one call per batch, numbers out.

Start with `base.RewardFunction`, the interface, and `composite.CompositeReward`, the weighted sum
that every task uses. `REWARDS` lists the rewards that are not metrics (plug-ins register in the
entry-point group `lmrl_bench.rewards`); `from_metric` turns any metric into a reward, `functions`
any plain function. `shaping` has the penalties, `calling` checks rewards from other packages.

Importing this package does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lmrl_bench.core.errors import RewardError, nearest
from lmrl_bench.core.registry import Registry
from lmrl_bench.metrics import METRICS, make_metric
from lmrl_bench.metrics.arguments import construct, convert
from lmrl_bench.metrics.building import check_declared, wrong_kind
from lmrl_bench.metrics.foreign import is_foreign
from lmrl_bench.metrics.plain import is_function, returns
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput
from lmrl_bench.rewards.composite import CompositeReward, Term
from lmrl_bench.rewards.from_metric import MetricReward, Scale
from lmrl_bench.rewards.functions import FunctionReward, reward
from lmrl_bench.rewards.transforms import TRANSFORMS, RewardTransform, TransformBatch

__all__ = [
    "REWARDS",
    "TRANSFORMS",
    "CompositeReward",
    "FunctionReward",
    "MetricReward",
    "RewardBatch",
    "RewardFunction",
    "RewardOutput",
    "RewardTransform",
    "Term",
    "TransformBatch",
    "make_reward",
    "reward",
]

_HERE = "lmrl_bench.rewards"

REWARDS: Registry[Any] = Registry(
    "reward",
    {
        "length-penalty": f"{_HERE}.penalties:LengthPenalty",
        "repetition-penalty": f"{_HERE}.penalties:RepetitionPenalty",
    },
    group=_HERE,
)


class TermLike(Protocol):
    """Attributes read from a term; `tasks.spec.RewardTerm`, in a higher layer, implements it."""

    @property
    def name(self) -> str:
        """A registered reward or metric."""

    @property
    def args(self) -> Mapping[str, Any]:
        """Arguments of its constructor, and `scale` for a metric."""

    @property
    def weight(self) -> float:
        """Factor in the sum."""

    @property
    def clip(self) -> tuple[float, float] | None:
        """Bounds, applied before the weight."""


class SpecLike(Protocol):
    """Attributes read from a reward definition; `tasks.spec.RewardSpec` implements it."""

    @property
    def terms(self) -> Sequence[TermLike]:
        """The terms; at least one."""

    @property
    def clip(self) -> tuple[float, float] | None:
        """Bounds of the sum."""


def make_reward(
    reward: SpecLike | Callable[..., Any],
    folder: Path | None = None,
    own: Mapping[str, Any] | None = None,
    own_metrics: Mapping[str, Any] | None = None,
) -> CompositeReward:
    """Builds a task's reward.

    A term names a reward from `REWARDS` or, failing that, a metric from `METRICS`. Arguments of a
    metric may include `scale` (see `MetricReward`).

    Args:
        reward: The `reward` section of `task.yaml`, or a function
            `(completions, samples) -> list[float]`.
        folder: The task folder, for relative paths in arguments.
        own: Additional rewards by name, from the task's plug-in.
        own_metrics: Additional metrics by name, from the task's plug-in.

    Raises:
        RewardError: Unknown name, wrong argument of a reward, or invalid bounds.
        MetricError: Wrong argument of a metric.
    """
    if callable(reward):
        name = getattr(reward, "__name__", "reward")
        return CompositeReward([Term(_build_reward(name, reward, {}))])
    terms = [
        Term(_make_term(term, folder, own or {}, own_metrics or {}), term.weight, term.clip)
        for term in reward.terms
    ]
    return CompositeReward(terms, reward.clip)


def _make_term(
    term: TermLike, folder: Path | None, own: Mapping[str, Any], own_metrics: Mapping[str, Any]
) -> RewardFunction:
    name, args = term.name, term.args
    # Names of a plug-in and of the registries are disjoint: `Plugin` refuses a taken one.
    if name in own or name in REWARDS:
        return _build_reward(name, own[name] if name in own else REWARDS.get(name), args)
    if name not in own_metrics and name not in METRICS:
        rewards, metrics = sorted({*REWARDS, *own}), sorted({*METRICS, *own_metrics})
        raise RewardError(
            f"unknown reward or metric '{name}'{nearest(name, [*rewards, *metrics])} "
            f"(rewards: {', '.join(rewards)}; metrics: {', '.join(metrics)})"
        )
    options = dict(args)
    try:
        scale = convert(Scale, options.pop("scale", True))
    except ValueError as error:
        raise RewardError(
            f"reward '{name}': scale is {args['scale']!r}; "
            f"give true, false or [low, high] ({error})"
        ) from None
    return MetricReward(make_metric(name, options, folder, own_metrics), scale)


def _build_reward(name: str, value: Any, args: Mapping[str, Any]) -> RewardFunction:
    """Builds a reward from its registered value: a subclass, a factory or a plain function."""
    if reason := wrong_kind("reward", value, RewardFunction):
        raise RewardError(f"reward '{name}' {reason}")
    if is_function(value) and not returns(value, RewardFunction):
        return FunctionReward(name, value, args)
    made: RewardFunction = construct("reward", name, value, args, RewardError)
    if is_foreign(type(made)):
        check_declared("reward", name, made, RewardFunction, RewardError)
    return made
