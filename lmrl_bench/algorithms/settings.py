"""Settings that every on-policy algorithm has."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lmrl_bench.algorithms.functional import Aggregation
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.kl import KLConfig


class OnPolicyConfig(AlgorithmConfig):
    """Settings that every on-policy algorithm has."""

    episodes_per_iteration: int = Field(64, gt=0, description="episodes collected per iteration")
    group_size: int = Field(
        1, gt=0, description="responses per prompt; divides episodes_per_iteration"
    )
    learning_rate: float = Field(1e-4, gt=0.0, description="of Adam, at the start")
    learning_rate_schedule: Literal["constant", "linear"] = Field(
        "constant",
        description="linear: to 0 over the token budget, by the tokens at the iteration's start",
    )
    adam_epsilon: float = Field(1e-5, gt=0.0, description="ε of the optimiser")
    max_grad_norm: float = Field(1.0, gt=0.0, description="bound of the gradient's joint norm")
    gamma: float = Field(1.0, gt=0.0, le=1.0, description="discount per token")
    gae_lambda: float = Field(0.95, ge=0.0, le=1.0, description="λ of the advantage estimate")
    normalize_advantage: bool = Field(
        True, description="shift and scale advantages over the tokens of each minibatch"
    )
    aggregation: Aggregation = Field(
        "token-mean",
        description="token-mean: every token of a minibatch counts the same; sequence-mean: every episode",
    )
    bootstrap_truncated: bool = Field(
        False,
        description="add the critic's value after the last token of episodes cut at the length cap",
    )
    kl: KLConfig = Field(
        default_factory=lambda: KLConfig(), description="the KL charge in the reward"
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
