"""A task's tuned settings (`algorithms/<algorithm>.yaml`) and how they were chosen.

A file that `lmrl-bench leaderboard tune` wrote says so in its head, in one line that is read back (`declared.py`): a
leaderboard that declares a tuning is refused where a file was made otherwise, or was changed since. No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.config.loading import load_yaml
from lmrl_bench.config.overrides import merge
from lmrl_bench.config.yaml_core import dump_yaml
from lmrl_bench.core.digests import digest
from lmrl_bench.leaderboards.spec import Cell, LeaderboardSpec, TuningSpec, cells
from lmrl_bench.planning.resolve import resolve_unchecked
from lmrl_bench.tasks.task import Task

_MARK = "# tuning: "


class TuningFacts(BaseModel):
    """How a file's settings were chosen.

    Attributes:
        leaderboard: whose protocol it was.
        trials: settings that were tried, the first of them those that were there before; those of
            earlier tunings of the file are counted, too.
        seeds: training runs per trial.
        tokens: budget of each run, completion tokens.
        validation_samples: prompts that the value is over.
        metric: the task's primary metric.
        best_trial: whose settings these are, in the last tuning; 0: those that were there.
        value: mean over the seeds, at the end of training.
        value_before: of trial 0; null if it did not complete.
        tokens_spent: by all these trials.
        earlier_trials, earlier_tokens: the part of tunings before the last one in `trials` and `tokens_spent`.
        settings: digest of the file's content without its head.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    leaderboard: str
    trials: int
    seeds: list[int]
    tokens: int
    validation_samples: int
    metric: str
    best_trial: int
    value: float
    value_before: float | None
    tokens_spent: int
    earlier_trials: int = 0
    earlier_tokens: int = 0
    settings: str


def tuned_text(path: Path | None, changes: dict[str, Any], facts: dict[str, Any]) -> str:
    """Returns the content of a tuned file: its head, and the settings with the changes laid over them.

    The trials of earlier tunings of the file are added to those of this one. An earlier tuning with the
    same protocol that kept the settings is not counted separately: this one repeated and continued its trials.

    Args:
        path: The file as it is, or None.
        changes: Fields of a run's configuration.
        facts: `TuningFacts` of this tuning alone, without `settings`.
    """
    data = merge(load_yaml(path) if path else {}, changes).data
    found = TuningFacts(**facts, settings=digest(data))
    earlier = tuning_facts(path) if path else None
    if earlier is not None:
        goes_on = earlier.best_trial == 0 and _protocol(earlier) == _protocol(found)
        trials = earlier.earlier_trials if goes_on else earlier.trials
        tokens = earlier.earlier_tokens if goes_on else earlier.tokens_spent
        found = found.model_copy(
            update={
                "trials": max(earlier.trials, trials + found.trials),
                "tokens_spent": max(earlier.tokens_spent, tokens + found.tokens_spent),
                "earlier_trials": trials,
                "earlier_tokens": tokens,
            }
        )
    return (
        f"# Made by `lmrl-bench leaderboard tune {found.leaderboard} --write`; "
        "the next line is about the settings as they stand here.\n"
        f"{_MARK}{found.model_dump_json()}\n{dump_yaml(data)}"
    )


def tuning_facts(path: Path) -> TuningFacts | None:
    """Returns how the settings of a file were chosen; None if by hand, or if they were changed since."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(_MARK):
            try:
                facts = TuningFacts.model_validate_json(line.removeprefix(_MARK))
            except ValidationError:
                return None
            return facts if facts.settings == digest(load_yaml(path).data) else None
    return None


def has_head(path: Path) -> bool:
    """Returns whether a tuning once wrote this file, even if it was edited since."""
    return any(line.startswith(_MARK) for line in path.read_text(encoding="utf-8").splitlines())


def _protocol(facts: TuningFacts) -> dict[str, Any]:
    """Returns the facts that, with equal initial settings, make two tunings propose and reach the same."""
    return facts.model_dump(
        include={"leaderboard", "seeds", "tokens", "validation_samples", "metric", "value_before"}
    )


def tunable(leaderboard: LeaderboardSpec) -> list[Cell]:
    """Returns one cell (of the first seed) per task and algorithm that uses the task's settings.

    Entries of one algorithm and policy share the task's file; the first that sets no field of the algorithm itself
    stands for it.
    """
    own = {entry.entry for entry in leaderboard.entries if "algorithm" in entry.config}
    found: dict[tuple[str, str, str | None], Cell] = {}
    for cell in cells(leaderboard):
        algorithm = cell.config["algorithm"]["name"]
        if traits_of(algorithm).spends_tokens and cell.entry not in own:
            found.setdefault((cell.task, algorithm, policy_model(cell)), cell)
    return list(found.values())


def policy_model(cell: Cell) -> str | None:
    """Returns the policy that the leaderboard names for a cell; None: the task's default."""
    policy = cell.config.get("policy")
    return policy.get("model") if isinstance(policy, dict) else None


def trial_tokens(protocol: TuningSpec, task: Task, cell: Cell) -> int:
    """Returns the token budget of a trial's run."""
    return max(
        1, round(protocol.budget_share * resolve_unchecked(task, cell.located).budget.tokens)
    )
