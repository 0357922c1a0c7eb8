"""Experiment trackers: they show a run's numbers as it goes, next to curves.jsonl, which has them all.

`TRACKERS` names them; `runtime.trackers` of a run chooses any of them. Plug-ins come in through the
entry-point group `lmrl_bench.trackers`.

A tracker changes nothing of a run: it takes no part in the configuration's digest. None needs a
network: TensorBoard and W&B write files in the run's folder, trackio into its local database.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

from lmrl_bench.core.errors import ConfigError
from lmrl_bench.core.registry import Registry

PROJECT: Final = "lmrl-bench"
"""The project under which trackio and W&B list the runs."""


class Tracker(Protocol):
    """Takes numbers at a step."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of one step, counted in generated completion tokens."""

    def close(self) -> None:
        """Flushes and closes."""


TrackerFactory = Callable[[Path, str, Mapping[str, Any]], Tracker]
"""Makes a tracker from the run's folder, its name and its configuration."""


class TensorBoard:
    """Scalars in `<run>/tensorboard`; the configuration is not written."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        del name, config
        tensorboard = _import("torch.utils.tensorboard", "tensorboard", "trackers")
        self._writer = tensorboard.SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes scalars; wall times included."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class LoggedRun:
    """A run of a library with W&B's interface: the functions `init`, `log` and `finish`.

    Each sitting of a resumed run is a run of its own there, under the same name.

    Args:
        library: The imported module.
        name: The run's name.
        config: The run's configuration.
        options: Further arguments of its `init`.
    """

    def __init__(
        self, library: ModuleType, name: str, config: Mapping[str, Any], **options: Any
    ) -> None:
        self._library = library
        with redirect_stdout(sys.stderr):  # they greet on stdout, which holds results
            library.init(project=PROJECT, name=name, config=dict(config), **options)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Logs the numbers of one step."""
        self._library.log(dict(numbers), step=step)

    def close(self) -> None:
        """Finishes the run."""
        with redirect_stdout(sys.stderr):
            self._library.finish()  # of the run alone, trackio would finish again at exit


def trackio(folder: Path, name: str, config: Mapping[str, Any]) -> LoggedRun:
    """Logs to trackio's local database (`TRACKIO_DIR`), where `trackio show` finds the run."""
    del folder
    library = _import("trackio", "trackio", "trackio")
    return LoggedRun(library, name, config, embed=False)  # `embed` is for notebooks


def wandb(folder: Path, name: str, config: Mapping[str, Any]) -> LoggedRun:
    """Writes `<run>/wandb`, offline unless `WANDB_MODE` says otherwise; `wandb sync` uploads it."""
    library = _import("wandb", "wandb", "wandb")
    folder.mkdir(parents=True, exist_ok=True)  # W&B writes elsewhere if its folder is missing
    # W&B's own default is online: it would ask for an account, or wait for a network.
    mode = os.environ.get("WANDB_MODE", "offline")
    return LoggedRun(library, name, config, dir=str(folder), mode=mode)


class Trackers:
    """Any number of trackers as one; none writes nothing."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of one step to each of them."""
        for tracker in self._trackers:
            tracker.write(step, numbers)

    def close(self) -> None:
        """Closes each of them."""
        for tracker in self._trackers:
            tracker.close()


_HERE = "lmrl_bench.runs.trackers"

TRACKERS: Registry[TrackerFactory] = Registry(
    "tracker",
    {
        "tensorboard": f"{_HERE}:TensorBoard",
        "trackio": f"{_HERE}:trackio",
        "wandb": f"{_HERE}:wandb",
    },
    group="lmrl_bench.trackers",
)


def make_trackers(
    names: Sequence[str], folder: Path, name: str, config: Mapping[str, Any]
) -> Trackers:
    """Opens the trackers of a run.

    Args:
        names: Registered names, `runtime.trackers`.
        folder: The run's folder.
        name: The run's name.
        config: Its configuration.

    Raises:
        ConfigError: A name is unknown, or the library of one is not installed.
    """
    factories = [TRACKERS.get(tracker) for tracker in dict.fromkeys(names)]
    return Trackers([factory(folder, name, config) for factory in factories])


def _import(module: str, tracker: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"runtime.trackers: '{tracker}' needs the extra '{extra}': "
            f"pip install 'lmrl-bench[{extra}]' ({error})"
        ) from error
