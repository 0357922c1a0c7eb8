"""Trackers beside curves.jsonl. TensorBoard comes with the extra `trackers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from lmrl_bench.core.errors import ConfigError


class Tracker(Protocol):
    """Takes numbers at a step (generated response tokens)."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of one step."""

    def close(self) -> None:
        """Flushes and closes."""


class NoTracker:
    """Writes nothing; curves.jsonl has everything."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class TensorBoard:
    """Scalars in `<run>/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "runtime.tensorboard needs the extra 'trackers': pip install 'lmrl-bench[trackers]'"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes scalars; wall times included."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def make_tracker(folder: Path, tensorboard: bool) -> Tracker:
    """Returns the configured tracker.

    Raises:
        ConfigError: TensorBoard is asked for but not installed.
    """
    return TensorBoard(folder) if tensorboard else NoTracker()
