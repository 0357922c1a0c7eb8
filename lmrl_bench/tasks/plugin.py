"""`plugin.py` of a task folder: Python code of a task, loaded only when needed.

It may define `read(spec, split, path) -> Iterator[dict]` (the reader "plugin") and the mappings
`METRICS` and `REWARDS` (name to a function or subclass), whose names may be used in `task.yaml`.
The names are local to the task. Only the task's own folder is searched; YAML never names a Python
path.
"""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lmrl_bench.core.digests import digest, file_digest
from lmrl_bench.core.errors import LmrlBenchError, TaskError
from lmrl_bench.core.paths import bundled
from lmrl_bench.core.registry import Registry
from lmrl_bench.metrics import METRICS, Metric
from lmrl_bench.metrics.building import wrong_kind
from lmrl_bench.metrics.foreign import error_place, first_line, quiet, stops
from lmrl_bench.rewards import REWARDS, RewardFunction
from lmrl_bench.tasks.readers import Row
from lmrl_bench.tasks.spec import Split, TaskSpec

FILE = "plugin.py"
_NAMES = ("METRICS", "REWARDS", "read")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_announced: set[Path] = set()


class Plugin:
    """The loaded `plugin.py` of a task folder.

    Args:
        folder: The task folder.

    Attributes:
        path: The file.
        metrics: Metrics by name: functions or subclasses of `Metric`.
        rewards: Rewards by name: functions or subclasses of `RewardFunction`.

    Raises:
        TaskError: The file is missing, cannot be imported, or does not define anything usable.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        if not self.path.is_file():
            raise TaskError(f"{self.path}: no such file, but the task requires a plug-in")
        self._module = _load(self.path, file_digest(self.path))
        if not any(hasattr(self._module, name) for name in _NAMES):
            defined = {name.upper(): name for name in vars(self._module)}
            near = [defined[n] for n in ("METRIC", "METRICS", "REWARD", "REWARDS") if n in defined]
            raise TaskError(
                f"{self.path}: must define METRICS, REWARDS or the function `read(spec, split, "
                f"path)`; {f'rename {near[0]}' if near else 'define one, or delete the file'}"
            )
        self.metrics = self._named("METRICS", "metric", Metric, METRICS)
        self.rewards = self._named("REWARDS", "reward", RewardFunction, REWARDS)

    def read(self, spec: TaskSpec, split: Split, path: Path) -> Iterator[Row]:
        """Yields the rows that the plug-in reads from a checked data file.

        Raises:
            TaskError: The plug-in has no function `read`, or the function fails.
        """
        function: Callable[[TaskSpec, Split, Path], Iterator[Mapping[str, Any]]] | None
        function = getattr(self._module, "read", None)
        if not callable(function):
            raise TaskError(
                f"{self.path}: data.reader is 'plugin', but the function `read(spec, split, path)` is "
                "missing; define it, or choose another reader"
            )
        try:
            with quiet():
                rows = list(function(spec, split, path))
        except LmrlBenchError:
            raise
        except BaseException as error:
            if stops(error):
                raise
            raise TaskError(
                f"{error_place(error, function)}: read() failed on {path}: {first_line(error)}"
            ) from error
        for number, values in enumerate(rows, start=1):
            place = f"{path} (read by {self.path.name}), row {number}"
            if not isinstance(values, Mapping):
                raise TaskError(
                    f"{place}: read() returned {values!r:.60}; return a mapping from column to value"
                )
            yield Row(place, values)

    def _named(
        self, attribute: str, kind: str, base: type, builtin: Registry[Any]
    ) -> dict[str, Any]:
        """Returns the plug-in's `METRICS` or `REWARDS` after checking them."""
        found = getattr(self._module, attribute, {})
        if not isinstance(found, Mapping):
            raise TaskError(
                f"{self.path}: {attribute} is a {type(found).__name__}; give a mapping from a name "
                "to a function or class, such as {'my-name': my_function}"
            )
        for name, value in found.items():
            place = f"{self.path}: {attribute}[{name!r}]"
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise TaskError(
                    f"{place}: names consist of letters, digits, hyphens, underscores and periods"
                )
            if reason := wrong_kind(kind, value, base):
                raise TaskError(f"{place} {reason}")
            if name in METRICS or name in builtin:
                raise TaskError(
                    f"{self.path}: {attribute} defines '{name}', a name already used by lmrl-bench or "
                    "an installed plug-in; rename it"
                )
        return dict(found)


def announce(folder: Path) -> None:
    """Announces once, on stderr, that code from a folder that is not bundled will run.

    Worker processes leave the announcement to their parent.
    """
    path = folder / FILE
    foreign = path.is_file() and not path.is_relative_to(bundled("tasks").resolve())
    if foreign and path not in _announced and multiprocessing.parent_process() is None:
        _announced.add(path)
        print(f"runs {path}", file=sys.stderr)


@functools.cache
def _load(path: Path, file_sha256: str) -> ModuleType:
    announce(path.parent)
    # Registered in `sys.modules` under a unique name, where dataclasses and pickle look it up.
    name = f"lmrl_bench_plugin_{digest([str(path), file_sha256])[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with quiet():
            spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if stops(error):
            raise
        place = _place(error, path)
        raise TaskError(f"{place}: cannot be imported: {first_line(error)}") from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """Returns the file, with the line that failed if known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else str(path)
