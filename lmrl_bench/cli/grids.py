"""`lmrl-bench bench`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmrl_bench.cli import boards
from lmrl_bench.cli.output import OUTPUT, OnlyTask, SetOption, note, show

if TYPE_CHECKING:
    from lmrl_bench.leaderboards.spec import BoardSpec
    from lmrl_bench.runs.bench import CellJob, GridResult


def bench(
    board: Annotated[str, typer.Argument(help="Board name or folder.")],
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes, one thread each.")] = 1,
    task: OnlyTask = None,
    row: Annotated[
        list[str] | None, typer.Option(metavar="<str>", help="Only this row; may be repeated.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(metavar="<int>", help="Only this seed; may be repeated.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of all results.")] = Path("results"),
    out: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help="Where to write the board; default: the board's folder."),
    ] = None,
    overrides: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run all cells again.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run cells again that failed.")
    ] = False,
    replace_stale: Annotated[
        bool,
        typer.Option(
            "--replace-stale",
            help="Run cells again whose record is of other settings, task or start.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is done, what is missing and what it costs.")
    ] = False,
) -> None:
    """Runs the missing cells of a board, then builds it.

    Interrupted cells are resumed. Cells that completed or diverged are done.
    Exits with 1 if a cell failed or was interrupted.
    """
    from lmrl_bench.leaderboards.spec import load_board
    from lmrl_bench.records.store import check_writable
    from lmrl_bench.runs.bench import Rerun, lacks_records, plan, run_grid
    from lmrl_bench.runs.outlook import closing_rows, select, settings_lines, weights
    from lmrl_bench.runs.pool import start_server
    from lmrl_bench.runs.progress import GridProgress, LiveBars, listener
    from lmrl_bench.speedups.garbage import collector_off

    spec = load_board(board)
    rerun = Rerun(fresh, failed=retry_failed, stale=replace_stale)
    if not dry_run and (rerun != Rerun() or lacks_records(spec, results)):
        start_server()
    with collector_off():  # it imports torch and Transformers
        every = plan(spec, results, overrides=overrides or [], rerun=rerun)
    cells = select(every, task or (), row or (), seed or ())
    for line in settings_lines(cells):
        note(line)
    if dry_run:
        _show_outlook(cells, jobs)
        return
    check_writable(results, option="--results")
    check_writable(out or boards.board_folder(spec), option="--output")
    _announce_plugins({cell.config.task for cell in cells})
    shown = listener(len(cells))
    progress = GridProgress(len(cells), shown, weights(cells))
    with shown if isinstance(shown, LiveBars) else contextlib.nullcontext():
        outcome = run_grid(cells, workers=jobs, progress=progress)
    _report(outcome, fresh=fresh)
    show(closing_rows(cells), as_json=False)
    _build(spec, every, results, out, whole=len(cells) == len(every))
    if not outcome.ok:
        raise typer.Exit(1)


def _announce_plugins(tasks: set[str]) -> None:
    """Says which foreign code the workers will run, which do not say so themselves."""
    from lmrl_bench.tasks.catalog import load_task
    from lmrl_bench.tasks.plugin import announce

    for task in sorted(tasks):
        announce(load_task(task).folder)


def _show_outlook(cells: list[CellJob], workers: int) -> None:
    from lmrl_bench.runs.outlook import outlook

    states, lines = outlook(cells, workers)
    show(
        [
            {
                "cell": found.job.name,
                "digest": found.job.config.digest()[:8],
                "state": found.state,
                "runs": "yes" if found.runs else "no",
                "detail": found.detail,
            }
            for found in states
        ],
        as_json=False,
    )
    for line in lines:
        note(line)


def _report(outcome: GridResult, *, fresh: bool) -> None:
    bad = {name: status for name, status in outcome.statuses.items() if status != "completed"}
    for name, status in bad.items():
        note(f"{status}: {name}{': ' + outcome.errors[name] if name in outcome.errors else ''}")
    if "interrupted" in bad.values():
        again = " without --fresh" if fresh else ""
        note(f"interrupted cells go on when the same command is called again{again}")
    if outcome.errors or "failed" in bad.values():
        note("failed cells: fix the cause, then call the same command with --retry-failed")


def _build(
    spec: BoardSpec, every: list[CellJob], results: Path, out: Path | None, *, whole: bool
) -> None:
    """Builds the board; after a part of it was run, only if nothing else is missing."""
    from lmrl_bench.runs.outlook import cell_state

    if not whole:
        lacking = [job.name for job in every if cell_state(job).state not in ("done", "diverged")]
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            note(
                f"the board was not built: {len(lacking)} of {len(every)} cells are not done "
                f"({', '.join(lacking[:3])}{more}); lmrl-bench bench without --task, --row and --seed runs them, "
                f"lmrl-bench board build {spec.name} builds it from what is there"
            )
            return
    for path in boards.build_files(spec, results, out):
        note(f"wrote {path}")
