"""One run: planned (`plan_run`), then trained and tested (`run`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmrl_bench.api.progress import Progress, shown
from lmrl_bench.config.loading import Located
from lmrl_bench.config.overrides import merge
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError, TaskError, nearest
from lmrl_bench.planning import plan as planning
from lmrl_bench.planning.plan import RerunPolicy, RunPlan
from lmrl_bench.planning.resolve import own_folder, resolve
from lmrl_bench.records.record import RunRecord
from lmrl_bench.runs.execute import execute
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task

RERUN = ("all", "failed", "stale")


def plan_run(
    task: str | Path | Task | None = None,
    algorithm: str | None = None,
    *,
    seed: int | None = None,
    config: Mapping[str, Any] | RunConfig | Located | None = None,
) -> RunPlan:
    """Resolves a run without starting it.

    Args:
        task: Task name, task folder, or a loaded task; may be left out if `config` names it.
        algorithm: Name of a registered algorithm; may be left out if `config` names it.
        seed: Root seed of the run; default: the seed in `config`, or 0.
        config: Settings of the run, nested as in a run's YAML file, e.g.
            `{"budget": {"tokens": 2000}, "policy": {"model": "nano-causal"}}`. The task's tuned
            settings and the defaults apply below it. Of a `RunConfig`, the fields that were set
            count. Settings of another algorithm than the argument's are left out.

    Raises:
        ConfigError: A setting is unknown or out of bounds, or there is no task or algorithm.
        TaskError: The task is unknown or broken.
    """
    given = _located(config, algorithm)
    arguments = {
        **({} if task is None else {"task": task.name if isinstance(task, Task) else str(task)}),
        **({} if algorithm is None else {"algorithm": {"name": algorithm}}),
        **({} if seed is None else {"seed": seed}),
    }
    given = merge(given, Located.plain(arguments, "arguments"))
    loaded = task if isinstance(task, Task) else _load(given, task)
    resolved = own_folder(loaded, resolve(loaded, given))
    return planning.plan_run(loaded, resolved)


def run(
    task: str | Path | Task | RunPlan | None = None,
    algorithm: str | None = None,
    *,
    seed: int | None = None,
    config: Mapping[str, Any] | RunConfig | Located | None = None,
    rerun: str | Sequence[str] = (),
    progress: Progress = False,
) -> RunRecord:
    """Trains one algorithm on one task and returns the record of the run.

    A run that is already complete is not repeated: its record is returned. An interrupted or failed
    run continues from its checkpoint.

    Args:
        task: As in `plan_run`; or the plan that it returned, which replaces the other arguments.
        algorithm: As in `plan_run`.
        seed: As in `plan_run`.
        config: As in `plan_run`.
        rerun: "all" discards the checkpoint and the record; "stale" only those recorded with other
            settings, another task version or another initial policy.
        progress: True shows progress on stderr; or a function that takes the events.

    Raises:
        LmrlBenchError: The run cannot start. A run that fails later returns a record that says so.
    """
    plan = task
    if not isinstance(plan, RunPlan):
        plan = plan_run(plan, algorithm, seed=seed, config=config)
    # A single run that failed is always tried again.
    again = rerun_policy(rerun) | RerunPolicy.FAILED
    with shown(progress, 1) as listener:
        return execute(replace(plan, rerun=again), progress=listener)


def rerun_policy(names: str | Sequence[str]) -> RerunPolicy:
    """Returns which records do not count, from "all", "failed" and "stale".

    Raises:
        ConfigError: Another word.
    """
    words = [names] if isinstance(names, str) else list(names)
    for word in words:
        if word not in RERUN:
            raise ConfigError(
                f"rerun: unknown value {word!r:.60}{nearest(str(word), RERUN)} "
                f"(allowed: {', '.join(RERUN)})"
            )
    return RerunPolicy.of(*words)


def _located(
    config: Mapping[str, Any] | RunConfig | Located | None, algorithm: str | None
) -> Located:
    if isinstance(config, Located):  # the command line knows the lines of a file
        return config
    if isinstance(config, RunConfig):
        # A default that nobody set must not hide the task's tuned value.
        config = config.model_dump(mode="json", exclude_unset=True)
    data = dict(config or {})
    section = data.get("algorithm")
    if isinstance(section, Mapping) and algorithm not in (None, section.get("name", algorithm)):
        del data["algorithm"]
    return Located.plain(data, "config")


def _load(given: Located, argument: str | Path | None) -> Task:
    name = argument if argument is not None else given.data.get("task")
    if name is None:
        raise ConfigError("no task named; add --task NAME (see `lmrl-bench task list`)")
    if not isinstance(name, str | Path):
        raise ConfigError(f"{given.place(('task',))}: task: expected text, got {name!r:.60}")
    try:
        return load_task(name)
    except TaskError as error:
        place = given.place(("task",))
        raise TaskError(f"{place}: {error}" if place and place.line else str(error)) from None
