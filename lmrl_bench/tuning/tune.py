"""Chooses a task's settings for the algorithms of a leaderboard: the same number of trials for every algorithm.

A trial is an ordinary run (or one per seed) with a record, on seeds that the leaderboard does not have and
without a test. Optuna proposes the settings, from what the earlier trials of the same task and
algorithm reached; trial 0 is the current settings. All entries do their k-th trial together, so
that neither the number of workers nor the order of the entries changes what is proposed. There is no
state except the records: a tuning that was stopped proposes the same trials again, and finds those that
are done.

The value of a trial is the task's primary metric on the validation split at the end of the run, by which
leaderboards rank, and not the reward, which may be exploited. A trial that failed or diverged is the worst
one there is; it counts, and its record is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrl_bench.algorithms.search import Around, OneOf
from lmrl_bench.config.loading import Located
from lmrl_bench.config.overrides import apply_overrides, merge
from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.core.events import Listener, silent
from lmrl_bench.core.seeding import derive_seed
from lmrl_bench.launchers.grid import run_grid
from lmrl_bench.planning.cells import require_runtime_only
from lmrl_bench.planning.folders import StaleRecordError
from lmrl_bench.planning.plan import RerunPolicy, RunPlan, plan_run
from lmrl_bench.planning.resolve import resolve, settings_file
from lmrl_bench.planning.tuned_settings import write_tuned
from lmrl_bench.records.files import check_writable
from lmrl_bench.records.record import RunRecord
from lmrl_bench.tuning.study import Study, Trial, TuningPlan

if TYPE_CHECKING:
    import optuna

RANDOM_TRIALS = 4
"""First trials that are drawn at random (after the present settings); the sampler learns from then on."""
DIGITS = 3
"""Significant digits of a proposed number, so that people can read the settings."""


def tune(
    plan: TuningPlan,
    out: Path,
    *,
    workers: int,
    overrides: Sequence[str] = (),
    rerun: RerunPolicy,
    progress: Listener = silent,
) -> bool:
    """Runs all trials; what is done already is not run again.

    Args:
        plan: What to tune; its studies get their trials.
        out: Folder of the trials: `<task>/<entry>/<trial>/<seed>` below it.
        workers: Processes.
        overrides: `runtime.*` of all runs.
        rerun: Which records do not count.
        progress: Takes events.

    Returns:
        False if it was interrupted; the same call goes on.

    Raises:
        ConfigError: An override is not of `runtime`.
        RecordError: A folder holds another run's record, or cannot be written.
    """
    require_runtime_only(overrides)
    samplers = [_sampler(study) for study in plan.studies]
    for number in range(plan.protocol.trials):
        asked = [
            sampler.ask(_distributions(study))
            for study, sampler in zip(plan.studies, samplers, strict=True)
        ]
        settings = [_readable(ask.params) if number else dict(ask.params) for ask in asked]
        jobs = [
            [
                _job(study, number, seed, values, out, overrides, rerun)
                for seed in plan.protocol.seeds
            ]
            for study, values in zip(plan.studies, settings, strict=True)
        ]
        outcome = run_grid(
            [job for entry in jobs for job in entry], workers=workers, progress=progress
        )
        if "interrupted" in outcome.statuses.values():
            return False
        for study, sampler, ask, values, entry in zip(
            plan.studies, samplers, asked, settings, jobs, strict=True
        ):
            trial = _judge(study, number, values, [_record(job, outcome.errors) for job in entry])
            study.trials.append(trial)
            sampler.tell(ask, study.worth(trial))
    return True


def write_settings(plan: TuningPlan) -> list[Path]:
    """Writes the best settings of every study into its task's folder; returns the files.

    A study of which every trial failed is left as it is.

    Raises:
        RecordError: A task's folder cannot be written.
    """
    written = []
    for study in plan.studies:
        best = study.best
        if best.value is None:
            continue
        file = settings_file(study.task, study.algorithm, study.policy)
        check_writable(file.parent, option="--write")
        facts = {
            "leaderboard": plan.leaderboard.name,
            "trials": plan.protocol.trials,
            "seeds": plan.protocol.seeds,
            "tokens": study.tokens,
            "validation_samples": plan.protocol.validation_samples,
            "metric": study.metric,
            "best_trial": best.number,
            "value": best.value,
            "value_before": study.trials[0].value,
            "tokens_spent": sum(trial.tokens for trial in study.trials),
        }
        changes = _fields(best.settings)
        write_tuned(file, changes, facts)
        written.append(file)
    return written


def _sampler(study: Study) -> optuna.Study:
    """Returns Optuna's side of a study, which always proposes the same after the same values."""
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tuning needs Optuna, which is not installed; install it: pip install 'lmrl-bench[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = derive_seed(0, "tune", study.task.name, study.algorithm) % 2**32
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS + 1)
    found = optuna.create_study(direction="maximize", sampler=sampler)
    found.enqueue_trial(study.present)
    return found


def _distributions(study: Study) -> dict[str, optuna.distributions.BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    def distribution(what: Around | OneOf, present: Any) -> optuna.distributions.BaseDistribution:
        if isinstance(what, OneOf):
            return CategoricalDistribution(tuple(dict.fromkeys((*what.values, present))))
        return FloatDistribution(present / what.factor, present * what.factor, log=True)

    return {name: distribution(what, study.present[name]) for name, what in study.space.items()}


def _readable(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in settings.items()
    }


def _job(
    study: Study,
    number: int,
    seed: int,
    settings: Mapping[str, Any],
    out: Path,
    overrides: Sequence[str],
    rerun: RerunPolicy,
) -> RunPlan:
    folder = out / study.task.name / study.entry / str(number) / str(seed)
    mine = {
        "seed": seed,
        "entry": f"{study.entry}.{number}",  # tells trials apart in what is shown
        "runtime": {"output": str(folder)},
        **_fields(settings),
    }
    given = merge(study.given, Located.plain(mine, "trial"))
    config = resolve(study.task, given, overrides=overrides)
    return plan_run(study.task, config, rerun=rerun)


def _record(plan: RunPlan, errors: Mapping[str, str]) -> RunRecord:
    """Returns the record of a run that has ended.

    Raises:
        RecordError: It has none: its folder cannot be written, or holds another run's.
    """
    try:
        record = replace(plan, rerun=RerunPolicy.NONE).finished_record()
    except StaleRecordError as error:
        raise RecordError(
            f"{error}; settings, task or initial policy have changed since the earlier trials: give another "
            "--out, or --rerun stale to run them again"
        ) from None
    if record is None:
        raise RecordError(f"{plan.folder}: {errors.get(plan.name, 'there is no record')}")
    return record


def _judge(
    study: Study, number: int, settings: Mapping[str, Any], records: Sequence[RunRecord]
) -> Trial:
    tokens = sum(record.budget.tokens for record in records)
    if any(record.status != "completed" for record in records):
        return Trial(number, settings, None, tokens)
    study.higher_is_better = study.metric not in records[0].task.lower_is_better
    values = [record.results["validation"].metrics[study.metric].value for record in records]
    mean = sum(values) / len(values)
    return Trial(number, settings, mean if isfinite(mean) else None, tokens)


def _fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `{"kl.coefficient": 1}` as a part of a run's configuration."""
    sets = [f"algorithm.{name}={json.dumps(value)}" for name, value in settings.items()]
    fields: dict[str, Any] = apply_overrides({}, sets).data
    return fields
