"""From what a user names to one resolved configuration: every default written out, every name checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.defaults import with_defaults
from lmrl_bench.config.loading import Located, find_problems, load_yaml, validate
from lmrl_bench.config.overrides import apply_overrides, merge
from lmrl_bench.config.run import RunConfig
from lmrl_bench.errors import ConfigError
from lmrl_bench.tasks.task import Task

if TYPE_CHECKING:
    from lmrl_bench.algorithms.interface import Algorithm


def tuned_settings(task: Task, algorithm: str) -> Path | None:
    """Returns the task's tuned settings of an algorithm (`algorithms/<name>.yaml`), if it has any."""
    path = task.folder / "algorithms" / f"{algorithm}.yaml"
    return path if path.exists() else None


def resolve(
    task: Task,
    given: Mapping[str, Any] | Located,
    *,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Merges defaults < the task's tuned settings < `given` < `overrides`, and validates the whole.

    Args:
        task: the task of the run; its name replaces `given["task"]`.
        given: the user's part, e.g. `{"algorithm": {"name": "ppo"}, "seed": 1}`.
        overrides: `"a.b=c"` strings.

    Raises:
        ConfigError: All problems together, each with its place.
    """
    name, merged = _merged(task, given, overrides)
    algorithm_class = _algorithm(name, merged)
    fields = merged.sub("algorithm").without("name")
    problems = [
        *find_problems(RunConfig, merged),
        *find_problems(algorithm_class.config_class, fields),
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    settings = validate(algorithm_class.config_class, fields).model_dump(mode="json")
    return _completed(task, validate(RunConfig, merged), {"name": name, **settings})


def resolve_unchecked(task: Task, given: Mapping[str, Any] | Located) -> RunConfig:
    """As `resolve`, but the algorithm's own fields are taken as they are; loads no torch.

    Good for comparing with runs that were checked when they ran.

    Raises:
        ConfigError: The algorithm is unknown, or a field that every run has is wrong.
    """
    name, merged = _merged(task, given, ())
    if name not in ALGORITHMS:
        _algorithm(name, merged)
    fields = merged.sub("algorithm").without("name").data
    return _completed(
        task, validate(RunConfig, merged), {"name": name, **with_defaults(name, fields)}
    )


def _merged(
    task: Task, given: Mapping[str, Any] | Located, overrides: Sequence[str]
) -> tuple[str, Located]:
    """Returns the algorithm's name and the whole configuration as given, defaults left out."""
    mine = given if isinstance(given, Located) else Located.plain(given, "configuration")
    mine = apply_overrides(mine, overrides)
    name = _algorithm_name(mine)
    if name == "supervised":
        mine = _from_the_base(mine)
    tuned = tuned_settings(task, name)
    merged = merge(load_yaml(tuned), mine) if tuned else mine
    return name, merge(merged, Located.plain({"task": task.name}, "task"))


def _completed(task: Task, config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Writes out the algorithm's settings and the task's default policy."""
    resolved = config.model_dump(mode="json") | {"algorithm": dict(settings)}
    resolved["policy"]["model"] = config.policy.model or task.spec.policies.default
    return RunConfig.model_validate(resolved)


def _from_the_base(mine: Located) -> Located:
    """Supervised learning makes the supervised start, so it cannot begin there."""
    policy = mine.data.get("policy")
    if isinstance(policy, Mapping) and policy.get("start", "base") != "base":
        place = mine.place(("policy", "start"))
        raise ConfigError(
            f"{place}: policy.start: 'supervised' learns from the base model; use base"
        )
    return merge(mine, Located.plain({"policy": {"start": "base"}}, "algorithm 'supervised'"))


def _algorithm_name(given: Located) -> str:
    algorithm = given.data.get("algorithm")
    name = algorithm.get("name") if isinstance(algorithm, Mapping) else None
    if not isinstance(name, str):
        raise ConfigError(
            "the configuration names no algorithm; add `algorithm: {name: ppo}` or --algorithm ppo"
        )
    return name


def _algorithm(name: str, given: Located) -> type[Algorithm]:
    try:
        return ALGORITHMS.get(name)
    except ConfigError as error:
        place = given.place(("algorithm", "name"))
        raise ConfigError(f"{place}: {error}" if place else str(error)) from None
