"""`lmrl-bench tune`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmrl_bench.cli.output import OUTPUT, JsonOption, OnlyTask, SetOption, note, show

if TYPE_CHECKING:
    from lmrl_bench.runs.tuning_plan import Study


def tune(
    board: Annotated[str, typer.Argument(help="Board name or folder.")],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Per task and algorithm; default: as declared, or 6.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 1,
    task: OnlyTask = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(metavar="<str>", help="Only this algorithm; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help="Folder of the trials; default: results/tuning/<board>."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the best settings into the tasks' folders.")
    ] = False,
    overrides: SetOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials again that failed.")
    ] = False,
    replace_stale: Annotated[
        bool,
        typer.Option(
            "--replace-stale", help="Run trials again whose record is of other settings or tasks."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the budget and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tunes the algorithms of a board with equal trials.

    Trials use the validation split and seeds of their own. The present settings are the first trial.
    Called again, it goes on where it was stopped.
    """
    from lmrl_bench.leaderboards.spec import load_board
    from lmrl_bench.records.store import check_writable
    from lmrl_bench.runs.bench import Rerun
    from lmrl_bench.runs.declared import undeclared
    from lmrl_bench.runs.pool import start_server
    from lmrl_bench.runs.progress import GridProgress, LiveBars, listener
    from lmrl_bench.runs.tune import tune as run_trials
    from lmrl_bench.runs.tune import write_settings
    from lmrl_bench.runs.tuning_plan import plan_tuning

    spec = load_board(board)
    if not dry_run:
        start_server()
    plan = plan_tuning(spec, trials=trials, tasks=task or (), algorithms=algorithm or ())
    for line in plan.lines():
        note(line)
    if dry_run:
        return
    folder = out or Path("results") / "tuning" / spec.name
    check_writable(folder, option="--output")
    total = len(plan.studies) * plan.protocol.trials * len(plan.protocol.seeds)
    shown = listener(total)
    with shown if isinstance(shown, LiveBars) else contextlib.nullcontext():
        complete = run_trials(
            plan,
            folder,
            workers=jobs,
            overrides=overrides or [],
            rerun=Rerun(failed=retry_failed, stale=replace_stale),
            progress=GridProgress(total, shown),
        )
    if not complete:
        note("interrupted; it goes on when the same command is called again")
        raise typer.Exit(1)
    show([_line(study) for study in plan.studies], as_json=as_json)
    for path in write_settings(plan) if write else []:
        note(f"wrote {path}")
    for line in undeclared(spec) if write else []:
        note(f"not as '{spec.name}' declares: {line}")
    if any(study.best.value is None for study in plan.studies):
        note("every trial of a row failed; its settings are left as they are")
        raise typer.Exit(1)


def _line(study: Study) -> dict[str, Any]:
    best = study.best
    return {
        "task": study.task.name,
        "algorithm": study.algorithm,
        "metric": study.metric,
        "before": study.trials[0].value,
        "best": best.value,
        "trial": best.number,
        "failed": sum(trial.value is None for trial in study.trials),
        "tokens": sum(trial.tokens for trial in study.trials),
        "settings": json.dumps(dict(best.settings)),
    }
