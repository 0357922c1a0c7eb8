"""Best-of-n: no training; of n completions to each prompt, the one that the reward likes best is the answer.

Used since Stiennon et al. 2020, "Learning to Summarize from Human Feedback" (arXiv 2009.01325), section 4.3, and Nakano
et al. 2021, "WebGPT" (arXiv 2112.09332), section 3.3, as the control of RL: what does the reward buy without learning?

    y* = argmax_i r(x, y_i),   y_1 … y_n ~ π(· | x)        the first of equals

In evaluations under the task's decoding every prompt gets n completions and the best is scored by all metrics.
**Where the reward reads the references, this is an oracle**: it sees the solution, so nobody could use it, and
leaderboards say so. With a reward of 0 or 1 its mean reward is then pass@n, the share of prompts to which at least one
of n completions is right. Leaderboards show best-of-n without a rank.

The choice is at most log n − (n − 1)/n nats per completion from the policy (Hilton and Gao 2022); `kl_to_reference`
is that of the policy itself, 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lmrl_bench.algorithms.controls import Selection
from lmrl_bench.records.record import Control


class BestOfN(Selection):
    """Samples n completions per prompt in evaluations and keeps the best."""

    control: ClassVar[Control | None] = "reward"
    summary: ClassVar[str] = (
        "best-of-n (arXiv 2009.01325): no training, the reward picks of n completions; an oracle (pass@n) where it "
        "reads the references"
    )

    def choose(self, rewards: Tensor, texts: Sequence[str]) -> int:
        """Returns the first completion with the largest reward."""
        del texts
        return int(rewards.argmax())
