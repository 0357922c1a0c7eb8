"""Learning rates and numbers of steps; without torch, so that a run can be announced before anything is loaded."""

from __future__ import annotations

import math


def linear(initial: float, progress: float) -> float:
    """Returns a rate that falls from `initial` to 0 as `progress` goes from 0 to 1."""
    if progress > 1.0:
        return 0.0
    # In this order, because Stable-Baselines3's LinearSchedule rounds like this and updates must equal its own.
    remaining = 1.0 - progress
    return initial + (1.0 - remaining) * (0.0 - initial)


def warmup_cosine(peak: float, step: int, total_steps: int, warmup_share: float) -> float:
    """Returns the rate of a step, counted from 0: linear warm-up, then a cosine to 0."""
    warmup = math.ceil(warmup_share * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(total_steps - warmup, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * done))


def sft_steps(samples: int, epochs: int, batch_size: int, max_steps: int | None) -> int:
    """Returns the number of optimizer steps of supervised fine-tuning.

    Args:
        samples: The task's samples to learn from.
        epochs: Passes over them.
        batch_size: Samples per step; the last step of a pass may have fewer.
        max_steps: Upper limit, or None.
    """
    steps = epochs * math.ceil(samples / batch_size)
    return steps if max_steps is None else min(steps, max_steps)
