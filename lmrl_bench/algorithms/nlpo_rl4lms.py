"""NLPO as released: what the code of RL4LMs (v0.2.2) does, kept as an ablation of `nlpo`. Do not use it as NLPO.

Paper: the same as `nlpo` (arXiv 2210.01241). Three things in the released code are not in the paper, and are
reproduced here:

1. The mask policy is the initial policy for ever: the sampler keeps the object it was given at construction,
   so the update of the mask every k iterations never reaches it.
2. Masked log-probabilities are not renormalized, so that those of kept tokens equal the unmasked policy's:
   the ratio is PPO's, of a distribution that did not act.
3. The mask keeps at least 100 tokens.

So the algorithm is PPO that draws through a fixed nucleus filter. The sampled and the scored distribution
differ by the logarithm of the kept mass, and the run's fidelity report says so (`max_logprob_difference`).

Deviations from the released code: its entropy mixes renormalized probabilities with log-probabilities that
are not; here the entropy bonus (off by default) is the unmasked policy's. EOS always passes the mask.
Everything else is `ppo`'s.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.nlpo import FilteredPPO, FilteredPPOConfig


class NLPORL4LMsConfig(FilteredPPOConfig):
    """Settings of NLPO as released; `filter_update_iterations` is absent, because it had no effect."""

    min_tokens_to_keep: int = Field(100, gt=0, description="the mask never keeps fewer tokens")


class NLPORL4LMs(FilteredPPO):
    """PPO that draws through the initial policy's top-p filter and is scored without it."""

    config_class: ClassVar[type[AlgorithmConfig]] = NLPORL4LMsConfig
    summary: ClassVar[str] = (
        "NLPO as RL4LMs released it (ablation): fixed mask, ratio of the unmasked policy"
    )
    scores_what_acted: ClassVar[bool] = False
    config: NLPORL4LMsConfig
