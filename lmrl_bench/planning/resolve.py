"""From what a user names to one resolved configuration: every default written out, every name checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.defaults import with_defaults
from lmrl_bench.config.loading import Located, find_problems, load_yaml, validate
from lmrl_bench.config.overrides import apply_overrides, merge
from lmrl_bench.config.run import RUNS, RunConfig
from lmrl_bench.core.errors import ConfigError, RewardError
from lmrl_bench.core.paths import public_name
from lmrl_bench.rewards.transforms import make_transforms
from lmrl_bench.tasks.task import Task

if TYPE_CHECKING:
    from lmrl_bench.algorithms.interface import Algorithm


def settings_file(task: Task, algorithm: str, policy: str | None = None) -> Path:
    """Returns where a task keeps its settings of an algorithm for a policy, whether or not the file exists.

    `algorithms/<algorithm>.yaml` is for the task's default policy, and for any other policy
    `algorithms/<policy>/<algorithm>.yaml`: a learning rate that suits one model ruins another.

    Args:
        task: The task.
        algorithm: An algorithm's name.
        policy: As in `policy.model`; None: the task's default.
    """
    folder = task.folder / "algorithms"
    if policy not in (None, task.spec.policy.default):
        folder /= public_name(str(policy)).strip("./").replace("/", "--")
    return folder / f"{algorithm}.yaml"


def tuned_settings(task: Task, algorithm: str, policy: str | None = None) -> Path | None:
    """Returns `settings_file` if it exists, else None: then the algorithm's defaults apply."""
    path = settings_file(task, algorithm, policy)
    return path if path.exists() else None


def settings_note(task: Task, config: RunConfig) -> str:
    """Returns one line that says which settings of the algorithm apply below the given ones, and why."""
    name, policy = config.algorithm.name, config.policy.model
    mine, default = settings_file(task, name, policy), settings_file(task, name)
    if mine.exists():
        return f"settings: {_short(task, mine)}, the task's for '{name}' with this policy"
    if mine != default and default.exists():
        return (
            f"settings: the defaults of '{name}'; {_short(task, default)} is for the policy "
            f"'{task.spec.policy.default}' and not for '{public_name(str(policy))}' "
            f"(your own: {_short(task, mine)}, or --set)"
        )
    return f"settings: the defaults of '{name}'; the task has none of its own"


def _short(task: Task, path: Path) -> str:
    return f"{task.name}/{path.relative_to(task.folder)}"


def _policy_model(given: Located) -> str | None:
    policy = given.data.get("policy")
    model = policy.get("model") if isinstance(policy, Mapping) else None
    return model if isinstance(model, str) else None


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
    resolved = _completed(task, validate(RunConfig, merged), {"name": name, **settings})
    _check_transforms(task, resolved, merged)
    return resolved


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
    if any(text.partition("=")[0].strip() == "task" for text in overrides):
        raise ConfigError("--set task: the task is named by --task, or by the run's YAML")
    mine = apply_overrides(mine, overrides)
    name = _algorithm_name(mine)
    if name == "sft":
        mine = _from_the_base(mine)
    tuned = tuned_settings(task, name, _policy_model(mine))
    merged = merge(load_yaml(tuned), mine) if tuned else mine
    if task.spec.data.references is None:
        base = {"policy": {"init": "base"}}
        merged = merge(Located.plain(base, "a task without references"), merged)
    return name, merge(merged, Located.plain({"task": task.name}, "task"))


def _completed(task: Task, config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Writes out the algorithm's settings, the task's default policy and its reward transforms."""
    resolved = config.model_dump(mode="json") | {"algorithm": dict(settings)}
    declared = [transform.model_dump(mode="json") for transform in task.spec.reward.transforms]
    # None where nobody declares any: `[]` is the choice to leave out those of the task.
    chosen = declared if config.reward.transforms is None else resolved["reward"]["transforms"]
    resolved["reward"]["transforms"] = chosen if chosen or declared else None
    resolved["policy"]["model"] = config.policy.model or task.spec.policy.default
    return RunConfig.model_validate(resolved)


def _check_transforms(task: Task, config: RunConfig, merged: Located) -> None:
    """Refuses unknown reward transforms and wrong arguments before anything is loaded.

    Raises:
        ConfigError: With the place of the list.
    """
    try:
        make_transforms(config.reward.transforms or ())
    except (ConfigError, RewardError) as error:
        given = (merged.data.get("reward") or {}).get("transforms") is not None
        place = merged.place(("reward", "transforms")) if given else task.folder / "task.yaml"
        raise ConfigError(f"{place}: reward.transforms: {error}") from None


def _from_the_base(mine: Located) -> Located:
    """SFT learning makes the SFT policy, so it cannot begin there."""
    policy = mine.data.get("policy")
    if isinstance(policy, Mapping) and policy.get("init", "base") != "base":
        place = mine.place(("policy", "init"))
        raise ConfigError(f"{place}: policy.init: 'sft' learns from the base model; use base")
    return merge(mine, Located.plain({"policy": {"init": "base"}}, "algorithm 'sft'"))


def _algorithm_name(given: Located) -> str:
    algorithm = given.data.get("algorithm")
    name = algorithm.get("name") if isinstance(algorithm, Mapping) else algorithm
    if name is not None and not (isinstance(name, str) and isinstance(algorithm, Mapping)):
        raise ConfigError(
            f"{given.place(('algorithm', 'name'))}: algorithm: write {{name: ppo}}, got {algorithm!r:.60}"
        )
    if not isinstance(name, str):
        place = given.place(("algorithm", "name"))
        where = f"{place}: " if place else ""
        raise ConfigError(
            f"{where}names no algorithm; add `algorithm: {{name: ppo}}` or --algorithm ppo"
        )
    return name


def _algorithm(name: str, given: Located) -> type[Algorithm]:
    try:
        return ALGORITHMS.get(name)
    except ConfigError as error:
        place = given.place(("algorithm", "name"))
        raise ConfigError(f"{place}: {error}" if place else str(error)) from None


def own_folder(task: Task, config: RunConfig) -> RunConfig:
    """Returns the configuration of a single run with its folder written out.

    The default configuration of an algorithm on a task goes to results/runs/<task>/<entry>/<seed>. Any other one
    (another policy, any `--set` that can change a result) goes to <entry>-<first 8 digits of its digest> in the same
    folder. So runs with different settings never share a folder, and the same command finds its own run again.
    """
    if config.runtime.output is not None:
        return config
    default = resolve_unchecked(task, {"algorithm": {"name": config.algorithm.name}})
    name = (
        config.entry_name
        if config.digest() == default.digest()
        else f"{config.entry_name}-{config.digest()[:8]}"
    )
    place = RUNS / config.task / name / str(config.seed)
    runtime = config.runtime.model_copy(update={"output": place})
    return config.model_copy(update={"runtime": runtime})
