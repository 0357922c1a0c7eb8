"""Decoding parameters, shared by rollouts, updates and evaluation. No torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SamplingConfig(BaseModel):
    """Decoding of one phase.

    Truncated sampling (top-k, top-p) is deliberately missing: completions drawn through a filter
    must be scored through it, which only NLPO does, as part of its policy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    temperature: float = Field(
        1.0, gt=0.0, description="divides the logits, in sampling and in scoring"
    )
    greedy: bool = Field(False, description="take the most probable token; rejected in training")
