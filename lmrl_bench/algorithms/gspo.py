"""GSPO: group advantages with the importance ratio of whole completions, normalized by their length.

Paper: Zheng et al. 2025, "Group Sequence Policy Optimization" (arXiv 2507.18071), eq. 5 to 7.

    A_i = (R_i − mean R) / (std R + 1e-4)              over the G completions to a prompt
    s_i = (π_θ(y_i | x) / π_old(y_i | x))^(1/|y_i|)    the geometric mean of the tokens' ratios
    L   = −mean_i min(s_i A_i, clip(s_i, 1 − ε, 1 + ε_high) A_i)

ε is small (3e-4 and 4e-4, the paper's), because the mean over a completion moves far less than a single token's ratio.

Deviations from the paper: the standard deviation has G − 1 in the denominator and 1e-4 added; the optimizer is
Adam, the gradient's norm is clipped. With the default of one step per iteration s is 1 and nothing is clipped; choose
`epochs` or `minibatch_episodes` to leave that.

Deviations from TRL (1.16, `importance_sampling_level="sequence"`, `loss_type="grpo"`): none in advantages, loss and
gradient (tests/oracle). The old log-probabilities are the sampler's own; dropout stays off.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor

from lmrl_bench.algorithms.groups import ClippedGroupConfig, GroupAlgorithm
from lmrl_bench.algorithms.interface import AlgorithmConfig


class GSPOConfig(ClippedGroupConfig):
    """Settings of GSPO."""

    clip_range: float = Field(3e-4, gt=0.0, description="ε below 1, of the completion's ratio")
    clip_range_high: float | None = Field(4e-4, gt=0.0, description="ε above 1; null: clip_range")

    @model_validator(mode="after")
    def _only_in_float32(self) -> Self:
        if self.autocast != "none":
            raise ValueError(
                "autocast: bfloat16 rounds a ratio by more than GSPO's clip range; set it to none"
            )
        return self


class GSPO(GroupAlgorithm):
    """Group sequence policy optimization."""

    config_class: ClassVar[type[AlgorithmConfig]] = GSPOConfig
    summary: ClassVar[str] = "GSPO (arXiv 2507.18071): length-normalized ratio of whole completions"
    config: GSPOConfig

    def log_ratio(self, difference: Tensor, mask: Tensor) -> Tensor:
        """Returns log s of the whole completion, at all of its columns."""
        lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
        return (difference.sum(dim=1, keepdim=True) / lengths).expand_as(difference)
