"""Whether a leaderboard's settings were chosen as its `tuning` declares, and what to do where they were not.

What helps depends on the file: one that was changed by hand is restored or tuned; where the protocol has
changed, the earlier trials still count; and another leaderboard's settings are not tuned away under it. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lmrl_bench.core.errors import ConfigError
from lmrl_bench.leaderboards.spec import Cell, LeaderboardSpec
from lmrl_bench.planning.resolve import settings_file, tuned_settings
from lmrl_bench.planning.tuned_settings import (
    TuningFacts,
    policy_model,
    trial_tokens,
    tunable,
    tuning_facts,
    was_tuned,
)
from lmrl_bench.tasks.catalog import load_task

_TUNE = "{tune}"
"""Stands for the command that tunes exactly the files of a line."""
Pair = tuple[str, str, str]
"""Task, algorithm, and the settings' file as messages name it."""


def require_declared(leaderboard: LeaderboardSpec) -> None:
    """Refuses a leaderboard whose declared tuning is not how its tasks' settings were made.

    Raises:
        ConfigError: Names every file that was made otherwise, and the remedy.
    """
    if lines := undeclared(leaderboard):
        head = f"leaderboard '{leaderboard.name}' declares a tuning by which these settings were not made:"
        raise ConfigError("\n".join([head, *lines, "or remove `tuning` from leaderboard.yaml"]))


def undeclared(leaderboard: LeaderboardSpec) -> list[str]:
    """Returns the settings that were not tuned as the leaderboard declares, each with the remedy."""
    if leaderboard.tuning is None:
        return []
    found: dict[str, list[Pair]] = {}
    grid = tunable(leaderboard)
    for cell in grid:
        reason = _reason(leaderboard, cell)
        if reason is not None:
            task, name = load_task(cell.task), _algorithm(cell)
            file = settings_file(task, name, policy_model(cell)).relative_to(task.folder)
            found.setdefault(reason, []).append((cell.task, name, f"{cell.task}/{file}"))
    return [
        f"{', '.join(file for _task, _name, file in pairs)}: "
        + reason.replace(_TUNE, f"lmrl-bench leaderboard tune {leaderboard.name}{options}")
        for reason, all_pairs in found.items()
        for pairs, options in _parts(all_pairs, whole=len(all_pairs) == len(grid))
    ]


def _parts(pairs: Sequence[Pair], *, whole: bool) -> Iterator[tuple[Sequence[Pair], str]]:
    """The files in parts that one command can name, with its options."""
    if whole:
        yield pairs, ""
        return
    for task in dict.fromkeys(task for task, *_ in pairs):
        its = [pair for pair in pairs if pair[0] == task]
        names = dict.fromkeys(name for _task, name, _file in its)
        yield its, f" --task {task}" + "".join(f" --algorithm {name}" for name in names)


def _reason(leaderboard: LeaderboardSpec, cell: Cell) -> str | None:
    """Returns how one file was made otherwise, and what to do; None if it was made as declared."""
    task = load_task(cell.task)
    path = tuned_settings(task, _algorithm(cell), policy_model(cell))
    facts = tuning_facts(path) if path else None
    assert leaderboard.tuning is not None
    wanted: dict[str, Any] = {
        "trials": leaderboard.tuning.trials,
        "seeds": leaderboard.tuning.seeds,
        "tokens": trial_tokens(leaderboard.tuning, task, cell),
        "validation_samples": leaderboard.tuning.validation_samples,
    }
    if facts is None and path is not None and was_tuned(path):
        return f"changed since they were tuned; restore them, or run {_TUNE} --write"
    if facts is None:
        return f"never tuned; run {_TUNE} --write"
    made = facts.model_dump(include=set(wanted))
    other = [name for name in wanted if made[name] != wanted[name]]
    if not other:
        return None
    how = ", ".join(f"{name} {made[name]} (declared: {wanted[name]})" for name in other)
    return f"{how}; {_remedy(leaderboard.name, facts, wanted, other)}"


def _remedy(
    leaderboard: str, facts: TuningFacts, wanted: dict[str, Any], other: Sequence[str]
) -> str:
    if facts.leaderboard != leaderboard:
        return (
            f"tuned by the leaderboard '{facts.leaderboard}', which takes them, too: declare its tuning, or give the "
            "entry settings of its own (`config: {algorithm: …}`)"
        )
    if list(other) != ["trials"]:
        both = facts.trials + wanted["trials"]
        return (
            f"declare what was done, or run {_TUNE} --write; the {facts.trials} earlier trials count, too, so "
            f"then declare trials: {both}"
        )
    if facts.trials > wanted["trials"]:
        return f"all of them count: declare trials: {facts.trials}"
    # Where the settings stayed, a tuning begins with the same trials again: it goes on.
    done = facts.earlier_trials if facts.best_trial == 0 else facts.trials
    return f"run {_TUNE} --trials {wanted['trials'] - done} --write"


def _algorithm(cell: Cell) -> str:
    name: str = cell.config["algorithm"]["name"]
    return name
