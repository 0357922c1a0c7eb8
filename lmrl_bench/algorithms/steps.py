"""How many steps supervised fine-tuning takes; without torch, so that it can be said before anything is loaded."""

from __future__ import annotations

import math


def supervised_steps(samples: int, epochs: int, batch_size: int, max_steps: int | None) -> int:
    """Returns the number of optimizer steps.

    Args:
        samples: Supervised samples of the task.
        epochs: Passes over them.
        batch_size: Samples per step; the last step of a pass may have fewer.
        max_steps: Upper limit, or None.
    """
    steps = epochs * math.ceil(samples / batch_size)
    return steps if max_steps is None else min(steps, max_steps)
