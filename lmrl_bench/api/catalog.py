"""Lists and descriptions of tasks, algorithms, metrics, rewards, settings and downloads."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl_bench import downloads as downloads
from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.peer_names import peer_names
from lmrl_bench.api.progress import Say, nothing
from lmrl_bench.config.reference import Setting, settings_of
from lmrl_bench.config.reference import settings as run_settings
from lmrl_bench.core.errors import ConfigError, LmrlBenchError, RewardError, nearest
from lmrl_bench.core.wording import reason_of
from lmrl_bench.downloads import DownloadStatus
from lmrl_bench.metrics import METRICS
from lmrl_bench.metrics.describe import Description, describe
from lmrl_bench.rewards import REWARDS
from lmrl_bench.tasks.catalog import load_task, names
from lmrl_bench.tasks.lint import Finding
from lmrl_bench.tasks.preview import PreviewRow, preview
from lmrl_bench.tasks.spec import Split
from lmrl_bench.tasks.task import Task


@dataclass(frozen=True)
class TaskSummary:
    """One line of `list_tasks`.

    Attributes:
        name: As `run` takes it.
        version: Of the task's definition.
        policy: The task's default policy.
        primary: The metric that leaderboards rank by.
        summary: One sentence.
    """

    name: str
    version: int
    policy: str
    primary: str
    summary: str


@dataclass(frozen=True)
class AlgorithmSummary:
    """One line of `list_algorithms`."""

    name: str
    summary: str


@dataclass(frozen=True)
class AlgorithmDescription:
    """The result of `describe_algorithm`.

    Attributes:
        name: As `run` takes it.
        doc: Paper, equations, deviations.
        settings: The algorithm's settings by their dotted names, with type, default and meaning.
        peers: What other libraries call a setting, e.g. "SB3 n_epochs, TRL num_iterations".
        search: Settings that tuning may change, and the values it tries.
        schema: JSON schema of the settings.
    """

    name: str
    doc: str
    settings: list[Setting]
    peers: dict[str, str]
    search: dict[str, str]
    schema: dict[str, Any]


def list_tasks() -> list[TaskSummary]:
    """Returns the known tasks: bundled ones, those of `LMRL_BENCH_TASKS`, and those of plug-ins.

    Raises:
        TaskError: A task's definition is wrong.
    """
    specs = [(name, load_task(name).spec) for name in names()]
    return [
        TaskSummary(
            name, spec.version, spec.policy.default, spec.metrics.primary.name, spec.summary
        )
        for name, spec in specs
    ]


def preview_task(
    task: str | Path | Task, *, count: int = 5, split: Split = "train", say: Say = nothing
) -> list[PreviewRow]:
    """Returns samples with the rewards of a good, an empty and a wrong completion.

    Args:
        task: Task name, task folder, or a loaded task.
        count: Samples.
        split: "train", "validation" or "test".
        say: Takes the reason if tokens cannot be counted.

    Raises:
        LmrlBenchError: The task is unknown or broken.
    """
    from lmrl_bench.envs.task_checks import token_counters

    loaded = task if isinstance(task, Task) else load_task(task)
    counters: tuple[Any, Any] = (None, None)
    try:
        counters = token_counters(loaded)
    except (LmrlBenchError, OSError, ValueError) as error:
        say(
            "tokens are not counted: the tokenizer of the default policy cannot be read "
            f"({reason_of(error)})"
        )
    return preview(loaded, count, split, *counters)


def lint_task(task: str | Path) -> list[Finding]:
    """Checks the data, limits, reward and environments of a task; an empty list is good.

    Args:
        task: Task name or folder.

    Raises:
        LmrlBenchError: The task is unknown, or its definition cannot be read.
    """
    from lmrl_bench.envs import task_checks

    return task_checks.lint_task(task)


def list_algorithms() -> list[AlgorithmSummary]:
    """Returns the registered algorithms, plug-ins included."""
    return [AlgorithmSummary(name, ALGORITHMS.get(name).summary) for name in ALGORITHMS]


def describe_algorithm(name: str) -> AlgorithmDescription:
    """Returns an algorithm's paper, deviations and settings.

    Raises:
        ConfigError: There is no such algorithm.
    """
    algorithm = ALGORITHMS.get(name)
    config = algorithm.config_class
    settings = settings_of(config)
    return AlgorithmDescription(
        name=name,
        doc=inspect.getdoc(sys.modules[algorithm.__module__]) or "",
        settings=settings,
        peers={each.name: text for each in settings if (text := peer_names(each.name))},
        search={field: str(values) for field, values in config.search_space.items()},
        schema=config.model_json_schema(),
    )


def list_metrics() -> list[Description]:
    """Returns all metrics; each is also a reward of the same name."""
    return [describe(name, METRICS.get(name), "metrics") for name in METRICS]


def describe_metric(name: str) -> Description:
    """Returns a metric's arguments, bounds, direction and an example.

    Raises:
        ConfigError: There is no such metric.
    """
    return describe(name, METRICS.get(name), "metrics")


def list_rewards() -> list[Description]:
    """Returns the rewards that are not metrics; every metric is a reward, too."""
    return [describe(name, REWARDS.get(name), "reward") for name in REWARDS]


def describe_reward(name: str) -> Description:
    """Returns the arguments of a reward, or of a metric used as one, and an example.

    Raises:
        RewardError: There is neither a reward nor a metric of this name.
    """
    if name in REWARDS:
        return describe(name, REWARDS.get(name), "reward")
    if name in METRICS:
        return describe(name, METRICS.get(name), "reward")
    known = [*REWARDS, *METRICS]
    raise RewardError(
        f"unknown reward or metric '{name}'{nearest(name, known)} (known: {', '.join(known)})"
    )


def list_settings(part: str | None = None) -> list[Setting]:
    """Returns the settings that every run has: name, type, default, meaning.

    Args:
        part: Only one setting, or one group, for example "evaluation"; default: all.

    Raises:
        ConfigError: There is no such setting or group.
    """
    every = run_settings()
    found = [s for s in every if part in (None, s.name, s.name.partition(".")[0])]
    if not found:
        groups = list(dict.fromkeys(s.name.partition(".")[0] for s in every))
        raise ConfigError(
            f"no settings '{part}'{nearest(str(part), groups)} (groups: {', '.join(groups)})"
        )
    return found


def new_task(
    name: str,
    folder: str | Path = "tasks",
    *,
    from_file: str | Path | None = None,
    train: str | Path | None = None,
    validation: str | Path | None = None,
    test: str | Path | None = None,
    prompt_column: str | None = None,
    reference_columns: list[str] | None = None,
    references: bool = True,
    say: Say = nothing,
) -> Path:
    """Writes a task folder that runs at once, and returns it.

    Args:
        name: Lower-case letters, digits and hyphens.
        folder: Where the task folder goes.
        from_file: Rows to start from (.csv, .tsv, .jsonl, .parquet), or a folder written by
            `save_to_disk`; without any file, a toy data set is written.
        train: Rows of the training split, instead of `from_file`.
        validation: Rows of the validation split; default: taken from `train`.
        test: Rows of the test split; default: taken from `train`.
        prompt_column: Column with the prompt; default: guessed from its name.
        reference_columns: Columns with reference texts; default: guessed from their names.
        references: False if the rows have no reference texts.
        say: Takes a line about everything that was left out or changed.

    Raises:
        LmrlBenchError: A bad name, a folder that exists, or rows that cannot be used.
    """
    from lmrl_bench.tasks.scaffold import new_task as write_task

    files: dict[Split, str | Path | None] = {"train": train, "validation": validation, "test": test}
    return write_task(
        name,
        Path(folder),
        from_file=None if from_file is None else Path(from_file),
        prompt_column=prompt_column,
        reference_column=reference_columns,
        references=references,
        splits={split: Path(path) for split, path in files.items() if path is not None},
        say=say,
    )


def list_downloads() -> list[DownloadStatus]:
    """Returns the models and data that can be downloaded, and whether they are installed."""
    return downloads.status()


def install_downloads(
    names: Sequence[str] | None = None, *, say: Say = nothing
) -> list[DownloadStatus]:
    """Downloads, checks and converts what is not installed yet.

    Args:
        names: Which downloads; default: all.
        say: Takes a line about each step.

    Raises:
        DownloadError: An unknown name, no connection, or a file that is not the expected one.
    """
    return downloads.install(list(names) if names else None, progress=say)
