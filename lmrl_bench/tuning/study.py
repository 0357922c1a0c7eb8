"""The plan of a tuning: which algorithms on which tasks, which settings may change, the budget of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.search import Around, SearchSpace
from lmrl_bench.config.loading import Located
from lmrl_bench.config.overrides import merge
from lmrl_bench.core.errors import ConfigError, nearest
from lmrl_bench.leaderboards.spec import Cell, LeaderboardSpec, TuningSpec, require_other_seeds
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.planning.tuned_settings import policy_model, trial_tokens, tunable
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task

_NEVER = 10**9


@dataclass(frozen=True)
class Trial:
    """One setting and what it reached.

    Attributes:
        number: from 0; 0 is the settings that were there.
        settings: searched field to its value.
        value: mean primary metric over the seeds; None if a run failed or diverged.
        tokens: completion tokens that its runs generated.
    """

    number: int
    settings: Mapping[str, Any]
    value: float | None
    tokens: int


@dataclass
class Study:
    """The tuning of one algorithm on one task.

    Attributes:
        task, algorithm, entry: what is tuned.
        policy: as the leaderboard names it; None: the task's default.
        given: the leaderboard's configuration of the entry, with a trial's budget and evaluation.
        present: searched field to its current value.
        space: searched field to what may be tried.
        tokens: budget of a run.
        metric: the task's primary metric.
        higher_is_better: its direction; known once a run has completed.
        trials: done so far.
    """

    task: Task
    algorithm: str
    entry: str
    given: Located
    present: dict[str, Any]
    space: SearchSpace
    tokens: int
    metric: str
    higher_is_better: bool = True
    policy: str | None = None
    trials: list[Trial] = field(default_factory=list)

    @property
    def name(self) -> str:
        """task/algorithm, and the policy where it is not the task's default."""
        other = self.policy not in (None, self.task.spec.policy.default)
        return f"{self.task.name}/{self.algorithm}" + (f"/{self.policy}" if other else "")

    def worth(self, trial: Trial) -> float:
        """Returns a number of which more is better; the worst there is for a trial without a value."""
        if trial.value is None:
            return -inf
        return trial.value if self.higher_is_better else -trial.value

    @property
    def best(self) -> Trial:
        """The best trial, of equals the earliest: the present settings stay unless something beats them."""
        return max(self.trials, key=lambda trial: (self.worth(trial), -trial.number))


@dataclass(frozen=True)
class TuningPlan:
    """All studies of a tuning and their common protocol."""

    leaderboard: LeaderboardSpec
    protocol: TuningSpec
    studies: list[Study]

    def lines(self) -> list[str]:
        """Returns the declared budget, in words."""
        protocol, count = self.protocol, len(self.studies)
        runs = protocol.trials * len(protocol.seeds)
        total = sum(study.tokens for study in self.studies) * runs
        return [
            f"{self.leaderboard.name}: {protocol.trials} trials for each of {count} pairs of task and algorithm, "
            f"seeds {', '.join(map(str, protocol.seeds))}: {count * runs} runs, {total:,} tokens",
            *(
                f"{study.name}: {runs} runs of {study.tokens:,} tokens, {study.metric} on "
                f"{protocol.validation_samples} validation prompts; searched: {', '.join(study.space)}"
                for study in self.studies
            ),
        ]


def plan_tuning(
    leaderboard: LeaderboardSpec,
    *,
    trials: int | None = None,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
) -> TuningPlan:
    """Resolves what is to be tuned; nothing runs.

    Args:
        leaderboard: The leaderboard; its `tuning` is the protocol, or the defaults are.
        trials: Trials per task and algorithm instead of the declared number.
        tasks: Only these tasks; none: all.
        algorithms: Only these algorithms; none: all that the leaderboard takes from the tasks.

    Raises:
        ConfigError: The seeds are the leaderboard's, a name is not the leaderboard's, an algorithm declares no
            search space, or a present setting lies outside of it.
    """
    protocol = leaderboard.tuning or TuningSpec()
    if trials is not None:
        protocol = protocol.model_copy(update={"trials": trials})
    try:
        require_other_seeds(protocol, leaderboard.seeds)
    except ValueError as error:
        raise ConfigError(f"leaderboard '{leaderboard.name}': {error}") from None
    found = tunable(leaderboard)
    _require_known("task", tasks, [cell.task for cell in found])
    _require_known("algorithm", algorithms, [_algorithm(cell) for cell in found])
    chosen = [
        cell
        for cell in found
        if (not tasks or cell.task in tasks) and (not algorithms or _algorithm(cell) in algorithms)
    ]
    if not chosen:
        raise ConfigError(
            f"leaderboard '{leaderboard.name}' has no entry whose settings could be tuned"
        )
    return TuningPlan(leaderboard, protocol, [_study(protocol, cell) for cell in chosen])


def _study(protocol: TuningSpec, cell: Cell) -> Study:
    task, algorithm = load_task(cell.task), _algorithm(cell)
    tokens = trial_tokens(protocol, task, cell)
    limits = {
        "budget": {"tokens": tokens},
        "evaluation": {
            "every": _NEVER,  # the untrained policy, and the end
            "validation_samples": protocol.validation_samples,
            "test_samples": 0,
            "greedy": False,
        },
    }
    given = merge(cell.located, Located.plain(limits, "tuning"))
    config = resolve(task, given)
    space = {
        name: what
        for name, what in ALGORITHMS.get(algorithm).config_class.search_space.items()
        if _at(cell.config["algorithm"], name) is None  # else the leaderboard has fixed it
    }
    if not space:
        raise ConfigError(
            f"algorithm '{algorithm}' has nothing to tune: declare `search_space` in its settings' class, "
            f"or leave it out with --algorithm"
        )
    present = {name: _at(config.algorithm.model_dump(mode="json"), name) for name in space}
    for name, what in space.items():
        if isinstance(what, Around) and not present[name] > 0:
            raise ConfigError(
                f"{cell.task}, '{algorithm}': {name} is {present[name]}, and is searched by factors of "
                "what it is; set it above 0, or fix it on the leaderboard"
            )
    metric = task.spec.metrics.primary.key
    return Study(
        task,
        algorithm,
        cell.entry,
        given,
        present,
        space,
        tokens,
        metric,
        policy=policy_model(cell),
    )


def _algorithm(cell: Cell) -> str:
    name: str = cell.config["algorithm"]["name"]
    return name


def _require_known(kind: str, asked: Sequence[str], known: Sequence[str]) -> None:
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"--{kind} {name}: the leaderboard tunes no such {kind}{nearest(name, known)} "
                f"(known: {', '.join(dict.fromkeys(known))})"
            )


def _at(data: Any, name: str) -> Any:
    """Returns the value of a nested field, or None."""
    for key in name.split("."):
        data = data.get(key) if isinstance(data, Mapping) else None
    return data
