"""Compare reinforcement-learning algorithms for language models.

Importing this package loads neither torch nor transformers; `run` and `load_task` load what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmrl_bench.runs.execute import run as run
    from lmrl_bench.tasks.catalog import load_task as load_task

__version__ = "0.1.0"
__all__ = ["__version__", "load_task", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        from lmrl_bench.runs.execute import run

        return run
    if name == "load_task":
        from lmrl_bench.tasks.catalog import load_task

        return load_task
    raise AttributeError(f"module 'lmrl_bench' has no attribute '{name}'")
