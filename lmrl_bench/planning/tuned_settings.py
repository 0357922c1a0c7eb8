"""A task's tuned settings (`algorithms/<name>.yaml`), and how they were chosen (`algorithms/<name>.tuning.json`).

`lmrl-bench leaderboard tune --write` writes both. A leaderboard that declares a tuning is refused if the settings of a
task were tuned in another way, or were changed since (`tuning_protocol.py`). No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from lmrl_bench.records.files import write_atomic
from lmrl_bench.tasks.task import Task


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
        settings: digest of the settings.
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


def write_tuned(path: Path, changes: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes the settings of a file with the changes laid over them, and how they were chosen.

    The trials of earlier tunings of the file are added to those of this one. An earlier tuning with the
    same protocol that kept the settings is not counted separately: this one repeated and continued its trials.

    Args:
        path: `algorithms/<algorithm>.yaml`; it need not exist.
        changes: Fields of a run's configuration.
        facts: `TuningFacts` of this tuning alone, without `settings`.
    """
    exists = path.exists()
    data = merge(load_yaml(path) if exists else {}, changes).data
    found = TuningFacts(**facts, settings=digest(data))
    earlier = tuning_facts(path) if exists else None
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
    # Killed between the two, the settings and the facts disagree, which `tuning_facts` reports.
    write_atomic(facts_file(path), (found.model_dump_json(indent=1) + "\n").encode())
    write_atomic(path, dump_yaml(data).encode())


def facts_file(path: Path) -> Path:
    """Returns the file that says how the settings of a file were chosen."""
    return path.with_suffix(".tuning.json")


def tuning_facts(path: Path) -> TuningFacts | None:
    """Returns how the settings of a file were chosen; None if by hand, or if they were changed since."""
    try:
        facts = TuningFacts.model_validate_json(facts_file(path).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return facts if facts.settings == digest(load_yaml(path).data) else None


def was_tuned(path: Path) -> bool:
    """Returns whether a tuning once wrote this file, even if it was edited since."""
    return facts_file(path).exists()


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
