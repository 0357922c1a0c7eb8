"""The price of leaving the reference: the coefficient β of the KL charge, fixed or adaptive.

Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences" (arXiv 1909.08593), section 2.2.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from lmrl_bench.algorithms.functional import kl_k1
from lmrl_bench.data.episodes import Episodes

ERROR_LIMIT = 0.2


class KLConfig(BaseModel):
    """The KL charge in the reward: per token, k1, against the reference under the same behavior distribution."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    coefficient: float = Field(
        0.1, ge=0.0, description="β, reward per nat; the start value where a target is set"
    )
    target: float | None = Field(
        None, gt=0.0, description="nats per episode that β is steered to; null keeps β fixed"
    )
    horizon: int = Field(
        640,
        gt=0,
        description="episodes over which an error of 1 would double β; 64 an iteration give the paper's K = 0.1",
    )

    @model_validator(mode="after")
    def _a_target_needs_a_coefficient(self) -> KLConfig:
        if self.target is not None and self.coefficient == 0.0:
            raise ValueError(
                "target: an adaptive coefficient is multiplied, so it must not start at 0"
            )
        return self


class KLController:
    """Holds β and moves it after each batch of episodes.

    `e = clip(KL / target − 1, −0.2, 0.2)`, `β ← β (1 + e · episodes / horizon)`; without a target β stays.
    """

    def __init__(self, config: KLConfig) -> None:
        self.config = config
        self.coefficient = config.coefficient

    def update(self, kl_per_episode: float, episodes: int) -> None:
        """Takes the mean over episodes of the KL summed over tokens (nats), exactly as it was charged."""
        if self.config.target is None:
            return
        error = kl_per_episode / self.config.target - 1.0
        error = min(max(error, -ERROR_LIMIT), ERROR_LIMIT)
        self.coefficient *= 1.0 + error * episodes / self.config.horizon

    def state_dict(self) -> dict[str, float]:
        """Returns what a resumed run needs."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes up a saved state."""
        self.coefficient = float(state["coefficient"])


def reference_kl(episodes: Episodes, *, read: bool) -> Tensor:
    """Returns the KL to the reference policy per token, `(B, T)`, nats, k1; 0 where training does not read it."""
    if not read:
        return torch.zeros_like(episodes.behavior_logprobs)
    kl = kl_k1(episodes.behavior_logprobs, episodes.ref_logprobs)
    return kl.masked_fill(~episodes.mask, 0.0)
