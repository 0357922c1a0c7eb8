"""What `lmrl-bench run` was told, from a YAML file and flags, as one configuration with places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmrl_bench.config.loading import Located, load_yaml
from lmrl_bench.config.overrides import merge
from lmrl_bench.core.errors import ConfigError, TaskError
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task


def given_run(path: Path | None, flags: Mapping[str, Any]) -> tuple[Task, Located]:
    """Returns the task and the user's part of the configuration.

    Args:
        path: a run's YAML, or None.
        flags: task, algorithm, policy, seed, output; None where not given.

    Raises:
        ConfigError: Neither the file nor the flags name a task.
        TaskError: The task is unknown.
    """
    given = load_yaml(path) if path else Located.plain({}, "command line")
    given = merge(given, Located.plain(_from_flags(flags), "command line"))
    name = given.data.get("task")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{given.place(('task',))}: task: expected text, got {name!r:.60}")
    if name is None:
        raise ConfigError("no task named; add --task NAME (see `lmrl-bench task list`)")
    try:
        return load_task(name), given
    except TaskError as error:
        place = given.place(("task",))
        raise TaskError(f"{place}: {error}" if place and place.line else str(error)) from None


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    places = {
        "task": ("task",),
        "algorithm": ("algorithm", "name"),
        "policy": ("policy", "model"),
        "seed": ("seed",),
        "output": ("runtime", "output"),
    }
    found: dict[str, Any] = {}
    for flag, (first, *rest) in places.items():
        value = flags.get(flag)
        if value is not None:
            value = str(value) if isinstance(value, Path) else value
            found[first] = {rest[0]: value} if rest else value
    return found
