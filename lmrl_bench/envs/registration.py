"""Registers both views of every task with Gymnasium.

`LMRL/<task>-v<version>` is the token view, `LMRL/<task>-completion-v<version>` the completion view;
the version is the task's. Only `task.yaml` files are read here; data, tokenizers and rewards are
loaded when an environment is created.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium

from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.tasks.catalog import folders, load_task
from lmrl_bench.tasks.task import Task

_VIEWS = {
    "": (
        "lmrl_bench.envs.token_env:TextGenerationEnv",
        "lmrl_bench.envs.vector:TextGenerationVectorEnv",
    ),
    "-completion": (
        "lmrl_bench.envs.completion_env:CompletionEnv",
        "lmrl_bench.envs.vector:CompletionVectorEnv",
    ),
}


def register_tasks() -> list[str]:
    """Registers the tasks of the catalog that are not registered yet; returns the new ids.

    A task with an invalid definition is skipped with a warning, so that the other tasks stay
    usable.
    """
    try:
        known = folders()
    except LmrlBenchError as error:
        warnings.warn(f"no task is registered with Gymnasium: {error}", stacklevel=2)
        return []
    new: list[str] = []
    for name, folder in known.items():
        try:
            version = Task(folder).spec.version
        except LmrlBenchError as error:
            warnings.warn(f"task '{name}' is not registered: {error}", stacklevel=2)
            continue
        new += register_task(name, version)
    return new


def register_task(task: str | Path, version: int | None = None) -> list[str]:
    """Registers the two views of one task; returns the new ids.

    Args:
        task: Name of a task in the catalog, or a task folder.
        version: The task's version, if known. Then `task` must be a name, and no file is read.

    Raises:
        LmrlBenchError: The task does not exist, or its definition is invalid.
    """
    new = []
    name, source = str(task), str(task)
    if version is None:
        opened = load_task(task)
        name, version, source = opened.name, opened.spec.version, str(opened.folder)
    for suffix, (entry_point, vector_entry_point) in _VIEWS.items():
        identifier = f"LMRL/{name}{suffix}-v{version}"
        if identifier not in gymnasium.registry:  # registering twice would warn on each import
            gymnasium.register(
                identifier,
                entry_point=entry_point,
                vector_entry_point=vector_entry_point,
                kwargs={"task": source},  # a text, so that the spec can be written as JSON
            )
            new.append(identifier)
    return new
