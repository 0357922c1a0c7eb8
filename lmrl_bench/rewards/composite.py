"""Weighted sum of rewards: each term is clipped before weighting, the sum at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmrl_bench.core.errors import RewardError
from lmrl_bench.core.strict_json import Fact
from lmrl_bench.metrics.base import FloatArray
from lmrl_bench.metrics.foreign import border
from lmrl_bench.rewards.base import (
    RewardBatch,
    RewardFunction,
    RewardOutput,
    check_finite,
    numbered,
)
from lmrl_bench.rewards.calling import call_reward

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


class Term(NamedTuple):
    """One term of the sum: `weight * clip(reward)`.

    Attributes:
        reward: The reward.
        weight: Factor; negative for a penalty.
        clip: Smallest and largest value before weighting.
    """

    reward: RewardFunction
    weight: float = 1.0
    clip: tuple[float, float] | None = None


class CompositeReward(RewardFunction):
    """Computes `scores = clip(sum of weight * clip(term))`; `components` holds the weighted terms.

    Token rewards are weighted and summed too. Clipping applies to whole episodes: a clipped term
    must not return token rewards, and the clip of the sum ignores them. The info of a term is named
    `<term>/<name>`. Repeated names are numbered ("name-2", …).

    Args:
        terms: The terms; at least one.
        clip: Bounds of the sum.

    Raises:
        RewardError: No terms, a weight that is not finite, or bounds in the wrong order.
    """

    name = "reward"

    def __init__(self, terms: Sequence[Term], clip: tuple[float, float] | None = None) -> None:
        if not terms:
            raise RewardError("a reward needs at least one term")
        for term in terms:
            if not math.isfinite(term.weight):
                raise RewardError(
                    f"reward '{term.reward.name}': weight is {term.weight}; it must be finite"
                )
            _check_bounds(f"reward '{term.reward.name}'", term.clip)
        _check_bounds("the whole reward", clip)
        self.terms = dict(zip(numbered([term.reward.name for term in terms]), terms, strict=True))
        self.clip = clip
        self.needs = frozenset().union(*(term.reward.needs for term in terms))

    @property
    def signature(self) -> str:
        """Each term's signature with weight and bounds, then the bounds of the sum."""
        terms = [
            f"{term.weight:g}*[{term.reward.signature}{_bounds_text(term.clip)}]"
            for term in self.terms.values()
        ]
        return " + ".join(terms) + _bounds_text(self.clip)

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Passes the samples to every term."""
        for term in self.terms.values():
            with border(
                f"while reward '{term.reward.name}' was prepared", term.reward, RewardError
            ):
                term.reward.prepare(samples)

    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Scores `B` episodes; `B` may be 0.

        Raises:
            RewardError: The batch is inconsistent, or a term's values have the wrong shape or are
                not finite.
        """
        _check_batch(batch)
        # Metrics refuse an empty batch, but a collection may filter out every episode.
        if not len(batch):
            return RewardOutput(np.zeros(0), {name: np.zeros(0) for name in self.terms})
        components: dict[str, FloatArray] = {}
        token_rewards: FloatArray | None = None
        info: dict[str, Sequence[Fact]] = {}
        for name, term in self.terms.items():
            output = call_reward(term.reward, batch, name)
            bounds = term.clip
            # Clip before weight: bounds are in the term's own scale.
            values = output.scores if bounds is None else np.clip(output.scores, *bounds)
            components[name] = term.weight * values
            info |= {f"{name}/{fact}": values for fact, values in output.info.items()}
            if output.token_rewards is not None:
                dense = term.weight * _dense(name, term, output.token_rewards, batch)
                token_rewards = dense if token_rewards is None else token_rewards + dense
        total = np.sum(list(components.values()), axis=0)
        if self.clip is None:
            return RewardOutput(total, components, token_rewards, info)
        check_finite(self.name, total, batch)  # before clipping, which would hide infinite values
        return RewardOutput(np.clip(total, *self.clip), components, token_rewards, info)


def _dense(name: str, term: Term, token_rewards: FloatArray, batch: RewardBatch) -> FloatArray:
    """Returns the checked token rewards of one term, `(B, T)`."""
    if term.clip is not None:
        raise RewardError(
            f"reward '{name}' returns token rewards, which `clip` does not cover; remove the clip"
        )
    dense = np.asarray(token_rewards, dtype=np.float64)
    if dense.ndim != 2 or len(dense) != len(batch):
        raise RewardError(
            f"reward '{name}' gave token rewards of shape {dense.shape} for {len(batch)} episodes"
        )
    check_finite(name, dense.sum(axis=1), batch)
    return dense


def _check_batch(batch: RewardBatch) -> None:
    sizes = {
        "completions": len(batch.completions),
        "samples": len(batch.samples),
        "lengths": len(batch.lengths),
        "terminated": len(batch.terminated),
    }
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise RewardError(f"a reward batch has {listed}; the numbers must be equal")


def _check_bounds(place: str, bounds: tuple[float, float] | None) -> None:
    # Negated, so that NaN fails too.
    if bounds is not None and not bounds[0] <= bounds[1]:
        raise RewardError(
            f"{place}: clip is [{bounds[0]:g}, {bounds[1]:g}]; "
            "the first number must not exceed the second"
        )


def _bounds_text(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"|clip:{bounds[0]:g}..{bounds[1]:g}"
