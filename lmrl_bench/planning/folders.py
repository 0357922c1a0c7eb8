"""Where a run is written, and what it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmrl_bench.config.run import RunConfig

if TYPE_CHECKING:
    from lmrl_bench.tasks.task import Task

RUNS = Path("results") / "runs"


def run_folder(config: RunConfig) -> Path:
    """Returns the folder of a run: as configured, or results/runs/<task>/<row>/<seed>."""
    return config.runtime.output or RUNS / config.task / config.row / str(config.seed)


def own_folder(task: Task, config: RunConfig) -> RunConfig:
    """Returns the configuration of a single run with its folder written out.

    The default configuration of an algorithm on a task lies in results/runs/<task>/<row>/<seed>. Any other one (another
    policy, any `--set` that can change a result) lies next to it, in <row>-<first 8 digits of its digest>, so that
    trying settings never meets the record of other settings, and the same command finds its own run again.
    """
    from lmrl_bench.planning.resolve import resolve_unchecked

    if config.runtime.output is not None:
        return config
    default = resolve_unchecked(task, {"algorithm": {"name": config.algorithm.name}})
    row = (
        config.row if config.digest() == default.digest() else f"{config.row}-{config.digest()[:8]}"
    )
    place = RUNS / config.task / row / str(config.seed)
    runtime = config.runtime.model_copy(update={"output": place})
    return config.model_copy(update={"runtime": runtime})


def run_name(config: RunConfig) -> str:
    """Returns <task>/<row>/<seed>, the run's name in events and lists."""
    return f"{config.task}/{config.row}/{config.seed}"
