"""Where a run is written, and what it is called."""

from __future__ import annotations

from pathlib import Path

from lmrl_bench.config.run import RunConfig


def run_folder(config: RunConfig) -> Path:
    """Returns the folder of a run: as configured, or results/runs/<task>/<row>/<seed>."""
    default = Path("results") / "runs" / config.task / config.row / str(config.seed)
    return config.runtime.output or default


def run_name(config: RunConfig) -> str:
    """Returns <task>/<row>/<seed>, the run's name in events and lists."""
    return f"{config.task}/{config.row}/{config.seed}"
