"""Runs many planned runs: launchers behind one protocol, the grid of a leaderboard, and progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lmrl_bench.core.registry import Registry

if TYPE_CHECKING:
    from lmrl_bench.launchers.base import Launcher

LAUNCHERS: Registry[Callable[[int], Launcher]] = Registry(
    "launcher",
    {"local": "lmrl_bench.launchers.local:LocalLauncher"},
    group="lmrl_bench.launchers",
)
"""Names to what makes a launcher for a number of workers."""
