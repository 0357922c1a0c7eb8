"""Dynamic sampling: draws further prompts until every group has unequal scores.

Yu et al. 2025, "DAPO" (arXiv 2503.14476), section 3.2. A group of equal scores has no advantage and no gradient.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lmrl_bench.envs.core import Outcome
from lmrl_bench.rollouts.collectors import Clock, Collection, OnPolicyCollector
from lmrl_bench.rollouts.draws import Draw, joined


class DynamicSamplingCollector:
    """Samples until an iteration is filled with groups of unequal scores.

    Args:
        collector: Samples and scores.
        max_rounds: Draws per iteration. After the last one, groups of equal scores fill what is missing, so that an
            iteration always has its episodes.
    """

    def __init__(self, collector: OnPolicyCollector, max_rounds: int) -> None:
        self.collector = collector
        self.max_rounds = max_rounds

    @torch.no_grad()
    def collect(self) -> Collection:
        """Returns the iteration's episodes; `n_tokens` and `n_episodes` count the dropped ones too."""
        size = self.collector.plan.group_size
        wanted = self.collector.plan.episodes // size
        clock, kept, spare = Clock(), list[Draw](), list[Draw]()
        n_tokens = n_groups = 0
        total = 0.0
        for _ in range(self.max_rounds):
            missing = wanted - sum(len(part.prompts) for part in kept) // size
            if missing == 0:
                break
            draw = Draw(*self.collector.sample(missing, clock))
            n_groups += missing
            n_tokens += int(draw.completions.lengths.sum())
            total += float(draw.outcome.scores.double().sum())
            unequal = _unequal(draw.outcome, size)
            kept.append(draw.select(unequal.nonzero().squeeze(1)))
            spare.append(draw.select((~unequal).nonzero().squeeze(1)))
        have = sum(len(part.prompts) for part in kept)
        whole = joined([*kept, *spare], size, self.collector.policy.network.pad_id)
        whole = whole.select(torch.arange(wanted * size))
        collection = self.collector.scored(whole.prompts, whole.completions, whole.outcome, clock)
        return replace(
            collection,
            n_tokens=n_tokens,
            n_episodes=n_groups * size,
            # The remaining scores do not measure the policy: solved and hopeless prompts are missing.
            info={
                "kept_share": have / (n_groups * size),
                "sampled_score": total / (n_groups * size),
            },
        )


def _unequal(outcome: Outcome, size: int) -> Tensor:
    """Returns `(B,)` bool: whether the scores of an episode's group, `size` rows next to each other, differ."""
    groups = outcome.totals.view(-1, size)
    return (groups != groups[:, :1]).any(dim=1).repeat_interleave(size)
