"""Finds tasks: bundled ones, those in the folders of `LMRL_BENCH_TASKS`, and those of packages.

A package provides tasks with an entry point in the group `lmrl_bench.tasks` that names a folder of
task folders: `my_tasks = "my_package:TASKS_DIR"`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from lmrl_bench.core.errors import TaskError, nearest
from lmrl_bench.core.paths import bundled
from lmrl_bench.tasks.task import Task

VARIABLE = "LMRL_BENCH_TASKS"
GROUP = "lmrl_bench.tasks"

_log = logging.getLogger(__name__)


def names() -> list[str]:
    """Returns the sorted names of all known tasks, without parsing any `task.yaml`.

    Raises:
        TaskError: Two folders have the same name, or a folder in `LMRL_BENCH_TASKS` is missing.
    """
    return sorted(folders())


def folders() -> dict[str, Path]:
    """Returns the folders of all known tasks by name.

    Raises:
        TaskError: Two folders have the same name, or a folder in `LMRL_BENCH_TASKS` is missing.
    """
    found: dict[str, Path] = {}
    for root in _roots():
        for file in sorted(_definitions(root)):
            folder = file.parent.resolve()
            other = found.setdefault(folder.name, folder)
            if other != folder:
                raise TaskError(
                    f"two tasks are named '{folder.name}': {other} and {folder}; rename one of them"
                )
    return found


def load_task(name: str | Path) -> Task:
    """Loads a task by name or by folder path.

    Known names take precedence. Otherwise a string with a path separator, or an existing folder, is
    a path, and anything else is a name.

    Raises:
        TaskError: Unknown name, or the folder has no `task.yaml`.
        ConfigError: `task.yaml` is invalid.
    """
    text = str(name)
    known = folders()
    if isinstance(name, str) and name in known:
        return Task(known[name])
    try:
        path = Path(name).expanduser()
        if (path / "task.yaml").is_file():
            return Task(path)
        is_path = isinstance(name, Path) or "/" in text or os.sep in text or path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # such as a too long name, or ~nobody
        reason = getattr(error, "strerror", None) or error
        raise TaskError(f"{text[:80]!r} is not a task or a folder ({reason})") from error
    if is_path:
        raise TaskError(
            f"{path}: not a task folder (it has no task.yaml); create one with: lmrl-bench task "
            f"new {path.name}"
        )
    raise TaskError(
        f"unknown task {text[:80]!r}{nearest(text, known)} (known: "
        f"{', '.join(sorted(known)) or 'none'}); refer to your own task by the path of its "
        f"folder, or set {VARIABLE}{_without_definition(text)}{_failures()}"
    )


def _without_definition(name: str) -> str:
    """Describes folders with the right name that lack a readable `task.yaml`."""
    found = [root / name for root in _roots() if (root / name).is_dir()]
    return "".join(
        f"\nskipped: {folder} has no readable file task.yaml; restore {folder / 'task.yaml'}"
        for folder in found
    )


def _definitions(root: Path) -> Iterator[Path]:
    """Yields the `task.yaml` files under a root; broken links too, so that they are reported."""
    for entry in root.iterdir():
        if os.path.lexists(entry / "task.yaml"):
            yield entry / "task.yaml"


def _roots() -> list[Path]:
    roots = [bundled("tasks")]
    for part in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        root = Path(part).expanduser()
        if not root.is_dir():
            raise TaskError(f"{VARIABLE} names {root}, which is not a folder; correct the variable")
        roots.append(root)
    for entry in entry_points(group=GROUP):
        root_or_reason = _entry_root(entry)
        if isinstance(root_or_reason, Path):
            roots.append(root_or_reason)
        else:
            _log.warning("%s; skipped", root_or_reason)
    return roots


def _entry_root(entry: EntryPoint) -> Path | str:
    """Returns the folder that an entry point names, or why it is unusable."""
    distribution = entry.dist.name if entry.dist else "an unknown distribution"
    place = f"the task folder '{entry.name}' of {distribution} ({entry.value})"
    try:
        root = Path(entry.load())
    except Exception as error:  # importing a plug-in runs arbitrary code
        return f"{place} cannot be imported: {type(error).__name__}: {error}"
    return root if root.is_dir() else f"{place} is not a folder: {root}"


def _failures() -> str:
    reasons = [
        reason
        for entry in entry_points(group=GROUP)
        if isinstance(reason := _entry_root(entry), str)
    ]
    return "".join(f"\nskipped: {reason}" for reason in reasons)
