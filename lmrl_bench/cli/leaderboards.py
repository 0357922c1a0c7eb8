"""`lmrl-bench leaderboard run | tune | build | check | export | stats | power | list | show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lmrl_bench
from lmrl_bench.cli.options import (
    AlgorithmsOption,
    EntriesOption,
    JobsOption,
    JsonOption,
    RerunOption,
    ResultsOption,
    RuntimeSetOption,
    SeedsOption,
    TasksOption,
    rerun_names,
    runtime_settings,
)
from lmrl_bench.cli.output import note, show, show_one
from lmrl_bench.core.wording import counted

if TYPE_CHECKING:
    from lmrl_bench.launchers.grid import GridResult
    from lmrl_bench.tuning.study import Study

app = typer.Typer(
    help="Leaderboards: run missing cells, build pages, compare.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Leaderboard name or folder.")]
PagesOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the pages; default: the leaderboard's own.")
]


@app.command()
def run(
    leaderboard: NameArgument,
    jobs: JobsOption = 1,
    task: TasksOption = None,
    entry: EntriesOption = None,
    seed: SeedsOption = None,
    results: ResultsOption = Path("results"),
    out: PagesOption = None,
    overrides: RuntimeSetOption = None,
    rerun: RerunOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the state of every cell and what the rest costs."),
    ] = False,
) -> None:
    """Runs missing cells, resumes interrupted ones, builds the pages.

    A cell is one task, entry and seed. Exits with 1 if a cell failed or was interrupted.

    Example: lmrl-bench leaderboard run quickstart --jobs 2
    """
    selected: dict[str, Any] = {
        "tasks": task or (),
        "entries": entry or (),
        "seeds": seed or (),
        "jobs": jobs,
        "results": results,
        "runtime": runtime_settings(overrides),
        "rerun": rerun_names(rerun),
        "say": note,
    }
    if dry_run:
        plan = lmrl_bench.plan_leaderboard(leaderboard, **selected)
        show([_state(cell) for cell in plan.cells])
        for line in plan.remarks:
            note(line)
        return
    done = lmrl_bench.run_leaderboard(leaderboard, out=out, progress=True, **selected)
    _report(done.outcome, rerun=bool(rerun))
    show(done.summary)
    if done.unbuilt:
        note(done.unbuilt)
    for path in done.files:
        note(f"wrote {path}")
    if not done.outcome.ok:
        raise typer.Exit(1)


@app.command()
def tune(
    leaderboard: NameArgument,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Per task and algorithm; default: as declared, or 6.")
    ] = None,
    jobs: JobsOption = 1,
    task: TasksOption = None,
    algorithm: AlgorithmsOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the trials; default: results/tuning/NAME."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the best settings into the tasks' folders.")
    ] = False,
    overrides: RuntimeSetOption = None,
    rerun: RerunOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the budget and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Searches settings for each algorithm, with equal trials for all.

    Trials use the validation split and seeds of their own. Trial 0 is the current configuration. Run
    the same command again to resume.
    """
    chosen: dict[str, Any] = {
        "trials": trials, "tasks": task or (), "algorithms": algorithm or (),
    }  # fmt: skip
    if dry_run:
        for line in lmrl_bench.plan_tuning(leaderboard, **chosen).lines():
            note(line)
        return
    found = lmrl_bench.tune_leaderboard(
        leaderboard,
        **chosen,
        jobs=jobs,
        out=out,
        write=write,
        runtime=runtime_settings(overrides),
        rerun=rerun_names(rerun),
        progress=True,
        say=note,
    )
    if not found.complete:
        note("interrupted; run the same command again to resume")
        raise typer.Exit(1)
    show([_study_row(study) for study in found.studies], as_json=as_json)
    for path in found.files:
        note(f"wrote {path}")
    for line in found.undeclared:
        note(f"not as the leaderboard declares: {line}")
    if any(study.best.value is None for study in found.studies):
        note("every trial of one algorithm failed; its settings stay as they are")
        raise typer.Exit(1)


@app.command()
def build(
    leaderboard: NameArgument,
    results: ResultsOption = Path("results"),
    out: PagesOption = None,
) -> None:
    """Builds the pages, tables and plots from the records."""
    for path in lmrl_bench.build_leaderboard(leaderboard, results=results, out=out, say=note):
        note(f"wrote {path}")


@app.command()
def check(
    leaderboard: NameArgument,
    results: ResultsOption = Path("results"),
    out: PagesOption = None,
) -> None:
    """Checks that the pages are what the records say.

    Exits with 3 if they are stale.
    """
    lmrl_bench.check_leaderboard(leaderboard, results=results, out=out)
    note(f"{leaderboard}: the files are up to date")


@app.command()
def export(
    leaderboard: NameArgument,
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Writes every number into one Parquet file.

    It has one row per record and metric.
    """
    rows = lmrl_bench.export_leaderboard(leaderboard, out, results=results, say=note)
    note(f"wrote {out}: {counted(rows, 'row')}")


@app.command()
def stats(
    leaderboard: NameArgument,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compares the entries over all tasks, with confidence intervals.

    Prints IQM, optimality gap, ranks, ties and tests.
    """
    from lmrl_bench.leaderboards.render.overview import overview_text

    found = lmrl_bench.leaderboard_stats(leaderboard, results=results, say=note)
    show_one(found.model_dump(mode="json"), as_json=as_json, text=overview_text(found))


@app.command()
def power(
    leaderboard: NameArgument,
    difference: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Also print how many seeds this difference needs; in units of the metric."
        ),
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Prints the smallest difference that the seeds can detect.

    This is at 80 % power, now and with more seeds.
    """
    found = lmrl_bench.leaderboard_power(
        leaderboard, difference=difference, results=results, say=note
    )
    show([task.line() for task in found], as_json=as_json)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists the leaderboards."""
    show([asdict(found) for found in lmrl_bench.list_leaderboards()], as_json=as_json)


@app.command("show")
def show_(
    leaderboard: NameArgument,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Shows what a leaderboard compares, and its results.

    Results are the primary metric of every entry and task: means ± half of the 95 % interval over
    seeds.
    """
    from lmrl_bench.leaderboards.render.overview import definition_lines, standings

    spec = lmrl_bench.load_leaderboard(leaderboard)
    table = None
    if (results / spec.name).is_dir():
        table = lmrl_bench.leaderboard_table(spec, results=results, say=note)
    if as_json:
        content = {
            "definition": spec.definition,
            "table": table.model_dump(mode="json") if table else None,
        }
        show_one(content, as_json=True, text="")
        return
    for line in definition_lines(spec):
        typer.echo(line)
    if table is None:
        note(f"no results in {results / spec.name} yet: lmrl-bench leaderboard run {leaderboard}")
        return
    typer.echo()
    show(standings(table))


def _state(cell: Any) -> dict[str, Any]:
    return {
        "cell": cell.plan.name,
        "digest": cell.plan.config.digest()[:8],
        "state": cell.state,
        "runs": "yes" if cell.runs else "no",
        "detail": cell.detail,
    }


def _report(outcome: GridResult, *, rerun: bool) -> None:
    bad = {name: status for name, status in outcome.statuses.items() if status != "completed"}
    for name, status in bad.items():
        note(f"{status}: {name}{': ' + outcome.errors[name] if name in outcome.errors else ''}")
    if "interrupted" in bad.values():
        without = " without --rerun" if rerun else ""
        note(f"interrupted cells resume when the same command is called again{without}")
    if outcome.errors or "failed" in bad.values():
        note("failed cells: fix the cause, then call the same command with --rerun failed")


def _study_row(study: Study) -> dict[str, Any]:
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
