"""Settings that every on-policy algorithm has."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.kl import KLConfig
from lmrl_bench.algorithms.search import Around, SearchSpace
from lmrl_bench.speedups.kernels import Autocast


class OnPolicyConfig(AlgorithmConfig):
    """Settings that every on-policy algorithm has."""

    search_space: ClassVar[SearchSpace] = {
        "learning_rate": Around(4.0),
        "kl.coefficient": Around(10.0),
    }

    episodes_per_iteration: int = Field(64, gt=0, description="episodes collected per iteration")
    group_size: int = Field(
        1, gt=0, description="completions per prompt; divides episodes_per_iteration"
    )
    learning_rate: float = Field(1e-4, gt=0.0, description="of Adam, at the start")
    learning_rate_schedule: Literal["constant", "linear"] = Field(
        "constant",
        description="linear: to 0 over the token budget, by the tokens at the iteration's start",
    )
    adam_epsilon: float = Field(1e-5, gt=0.0, description="ε of the optimizer")
    max_grad_norm: float = Field(1.0, gt=0.0, description="bound of the gradient's joint norm")
    kl: KLConfig = Field(
        default_factory=lambda: KLConfig(), description="the KL charge in the reward"
    )
    autocast: Autocast = Field(
        "none",
        description="precision of the update's forward, weights and sums stay float32. In bfloat16, for devices that "
        "multiply it natively, ratios start near 1, not at 1, and the record is marked",
    )
    micro_batch_tokens: int = Field(
        8192,
        gt=0,
        description="padded tokens computed at once; bounds memory, never changes the gradient",
    )

    @model_validator(mode="after")
    def _groups_fill_an_iteration(self) -> Self:
        if self.episodes_per_iteration % self.group_size:
            raise ValueError(
                f"group_size ({self.group_size}) must divide episodes_per_iteration ({self.episodes_per_iteration})"
            )
        return self
