"""`plugin.py` of a task folder: the Python that a task may bring, loaded only when needed.

It may define `read(spec, split, path) -> Iterator[dict]` (the reader named "plugin") and the
mappings `METRICS` and `REWARDS` (name to a class or factory), whose names the task's YAML may then
use. It is read from the task's own folder and nowhere else; YAML never names a Python path.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lmrl_bench.errors import LmrlBenchError, TaskError
from lmrl_bench.registry import Registry
from lmrl_bench.tasks.files import file_digest
from lmrl_bench.tasks.readers import Row
from lmrl_bench.tasks.spec import Split, TaskSpec

FILE = "plugin.py"
_owners: dict[tuple[str, str], Path] = {}  # (kind, name) -> the folder that registered it


class Plugin:
    """The loaded `plugin.py` of one task folder.

    Raises:
        TaskError: There is no such file, or it does not import.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        if not self.path.is_file():
            raise TaskError(f"{self.path}: no such file, but the task needs its plug-in")
        self._module = _load(self.path, file_digest(self.path))

    def read(self, spec: TaskSpec, split: Split, path: Path) -> Iterator[Row]:
        """Yields the rows that the plugin reads from a checked data file.

        Raises:
            TaskError: The plugin has no function `read`, or it fails.
        """
        function: Callable[[TaskSpec, Split, Path], Iterator[Mapping[str, Any]]] | None
        function = getattr(self._module, "read", None)
        if not callable(function):
            raise TaskError(
                f"{self.path}: data.reader is 'plugin', but there is no function `read(spec, "
                "split, path)`; "
                "define it, or name another reader"
            )
        try:
            for number, values in enumerate(function(spec, split, path), start=1):
                yield Row(f"{path} (read by {self.path.name}), row {number}", values)
        except LmrlBenchError:
            raise
        except Exception as error:
            raise TaskError(
                f"{self.path}: read() failed on {path}: {type(error).__name__}: {error}"
            ) from error

    def register(self, attribute: str, registry: Registry[Any]) -> None:
        """Adds the plugin's `METRICS` or `REWARDS` to a registry; a second time it does nothing.

        Raises:
            TaskError: A name is built in, or is another task's.
        """
        for name, value in getattr(self._module, attribute, {}).items():
            owner = _owners.get((attribute, name))
            if owner == self.path.parent:
                continue
            if owner is not None or name in registry:
                raise TaskError(
                    f"{self.path}: {attribute} defines '{name}', which is taken by "
                    f"{owner or 'lmrl-bench itself'}; rename it"
                )
            registry.add(name, value)
            _owners[attribute, name] = self.path.parent


@functools.cache
def _load(path: Path, _digest: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lmrl_bench_plugin_{path.parent.name}", path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise TaskError(f"{path}: does not import: {type(error).__name__}: {error}") from error
    return module
