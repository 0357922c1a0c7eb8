"""Top-p: no training; the initial policy samples through NLPO's token filter.

Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration" (arXiv 1904.09751), with the filter of NLPO (arXiv
2210.01241), which is described in `models/behavior.py`, taken from the initial policy and never moved.

The control of NLPO: what does the filter buy without learning? As for every algorithm that acts through a filter,
`test` is sampled through it and `test-unfiltered` without, which is the initial policy as `no-training` shows it.
`kl_to_reference` compares with the initial policy through the same filter and is 0.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.no_training import NoTraining
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.records.record import Control


class TopPConfig(AlgorithmConfig):
    """Settings of the initial policy through a top-p filter."""

    top_p: float = Field(
        0.9, gt=0.0, le=1.0, description="probability that the filter's set holds; NLPO's default"
    )
    min_tokens_to_keep: int = Field(1, gt=0, description="the filter never keeps fewer tokens")


class TopP(NoTraining):
    """Evaluates the initial policy through a top-p filter, and without it."""

    config_class: ClassVar[type[AlgorithmConfig]] = TopPConfig
    filters_tokens: ClassVar[bool] = True
    control: ClassVar[Control | None] = "policy"
    summary: ClassVar[str] = (
        "top-p (arXiv 1904.09751): no training, the initial policy through NLPO's token filter"
    )
    config: TopPConfig  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.token_filter = TopPFilter(
            self.policy.network,
            self.policy.vocabulary.eos_ids,
            top_p=self.config.top_p,
            min_tokens_to_keep=self.config.min_tokens_to_keep,
        )
