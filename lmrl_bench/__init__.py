"""Compare reinforcement-learning algorithms for language models.

Importing this package loads neither torch nor transformers; `run` and `load_task` load what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmrl_bench.metrics import make_metric as make_metric
    from lmrl_bench.rewards import make_reward as make_reward
    from lmrl_bench.runs.execute import run as run
    from lmrl_bench.tasks.catalog import load_task as load_task

__version__ = "0.1.0"
__all__ = ["__version__", "load_task", "make_metric", "make_reward", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        from lmrl_bench.runs.execute import run

        return run
    if name == "load_task":
        from lmrl_bench.tasks.catalog import load_task

        return load_task
    if name == "make_metric":
        from lmrl_bench.metrics import make_metric

        return make_metric
    if name == "make_reward":
        from lmrl_bench.rewards import make_reward

        return make_reward
    raise AttributeError(f"module 'lmrl_bench' has no attribute '{name}'")
