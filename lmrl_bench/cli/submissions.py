"""`lmrl-bench submission validate | rescore | rerun | bounds`."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmrl_bench.cli.output import OUTPUT, note
from lmrl_bench.core.errors import ConfigError, VerificationError

if TYPE_CHECKING:
    from lmrl_bench.runs.rerun import Rerun
    from lmrl_bench.runs.rescore import Rescored

app = typer.Typer(help="Submissions: checks results that others made.", no_args_is_help=True)

WriteOption = Annotated[
    bool,
    typer.Option("--write-verification", help="Write the check into verification.json of its row."),
]
ByOption = Annotated[str | None, typer.Option(help="Who checks; goes into verification.json.")]


@app.callback()
def submission() -> None:
    """Submissions: checks results that others made."""


@app.command()
def validate(
    folder: Annotated[
        Path, typer.Argument(help="Results of a board, or a folder with further rows for it.")
    ],
    board: Annotated[
        str | None, typer.Option(help="Board name or folder; default: the folder's name.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of all earlier results, which must stay.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Markdown file for a reviewer.")] = None,
) -> None:
    """Checks that results may be added to a board.

    Exits with 3 and lists all problems if they may not.
    """
    from lmrl_bench.leaderboards.spec import load_board
    from lmrl_bench.leaderboards.submission.report import report as text
    from lmrl_bench.records.store import write_text
    from lmrl_bench.runs.validate import validate as validate_folder

    found = validate_folder(load_board(board or folder.resolve().name), folder, against)
    if report is not None:
        write_text(report, text(found))
        note(f"wrote {report}")
    for flag in found.flags:
        note(f"to look at: {flag}")
    if found.problems:
        raise VerificationError("\n".join([*found.problems, "the submission is refused"]))
    note(f"{folder}: {found.records} records may stand on the board '{found.board}'")


@app.command()
def rescore(
    folder: Annotated[Path, typer.Argument(help="Results, e.g. results/quickstart.")],
    models: Annotated[
        bool, typer.Option(help="Also metrics and rewards that need a model or a plug-in.")
    ] = True,
    write_verification: WriteOption = False,
    by: ByOption = None,
) -> None:
    """Recomputes metrics and rewards from the stored answers.

    Exits with 3 if a record has other numbers.
    """
    from lmrl_bench.runs.answers import TOLERANCE
    from lmrl_bench.runs.rescore import MODEL_TOLERANCE
    from lmrl_bench.runs.rescore import rescore as rescore_folder

    name = _who(write_verification, by)
    found = rescore_folder(folder, models=models)
    note(
        f"{folder}: {len(found.records)} records, {found.numbers} numbers equal to {TOLERANCE:g} "
        f"({MODEL_TOLERANCE:g} for single answers under a model); largest difference "
        f"{max(found.largest.values(), default=0.0):.1e}"
    )
    if found.libraries:
        note(f"with other versions of libraries: {', '.join(sorted(found.libraries))}")
    left_out = sorted({key for keys in found.left_out.values() for key in keys})
    if left_out:
        note(f"not recomputed (--no-models): {', '.join(left_out)}")
    if name is not None:
        _write_rescored(found, name)


@app.command()
def rerun(
    run: Annotated[Path, typer.Argument(help="A run: results/<board>/<task>/<row>/<seed>.")],
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help="Keep the new run here; default: it is thrown away."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train.")] = "cpu",
    policy: Annotated[
        Path | None,
        typer.Option(help="Folder of the policy; default: where the board's file says it is."),
    ] = None,
    write_verification: WriteOption = False,
    by: ByOption = None,
) -> None:
    """Trains one seed again and compares.

    Exits with 3 if neither the bits nor the other seeds of the row agree.
    """
    from lmrl_bench.runs.progress import LiveBars, listener
    from lmrl_bench.runs.rerun import rerun as rerun_folder

    name = _who(write_verification, by)
    shown = listener(1)
    with (
        tempfile.TemporaryDirectory() as temporary,
        shown if isinstance(shown, LiveBars) else contextlib.nullcontext(),
    ):
        place = output or Path(temporary) / "run"
        try:
            found = rerun_folder(run, place, device=device, policy=policy, progress=shown)
        except KeyboardInterrupt:
            if output is not None:
                raise
            note("stopped; nothing is kept; a run that is to be resumed needs a folder: --output")
            raise typer.Exit(130) from None
    typer.echo(_rerun_text(found))
    if name is not None:
        from lmrl_bench.runs.verify import write_rerun

        note(f"wrote {write_rerun(run, found, name)}")


@app.command()
def bounds() -> None:
    """Lists which fields are checked and which are believed."""
    from lmrl_bench.leaderboards.submission.bounds import table

    typer.echo(table())


def _who(write: bool, by: str | None) -> str | None:
    if write and not by:
        raise ConfigError("--write-verification needs --by NAME: a check is somebody's")
    if write:
        from pydantic import TypeAdapter, ValidationError

        from lmrl_bench.records.record import Name

        try:
            TypeAdapter(Name).validate_python(by)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise ConfigError(f"--by: {reason}; give one line of at most 200 characters") from error
    return by if write else None


def _write_rescored(found: Rescored, by: str) -> None:
    from lmrl_bench.runs.verify import write_rescored

    files, reasons = write_rescored(found, by)
    for path in files:
        note(f"wrote {path}")
    for reason in reasons:
        note(reason)


def _rerun_text(found: Rerun) -> str:
    from lmrl_bench.leaderboards.verification import primary_value

    record = found.record
    if found.interval is None:
        return f"{record.id}: bitwise the same: record {record.digest()[:12]}, curves and answers"
    metric, new, old = record.task.primary_metric, *map(primary_value, (found.new, record))
    where = ", ".join(found.elsewhere) or "nothing"
    return (
        f"{record.id}: not the same bits; {metric} {new:.6g} (recorded {old:.6g}) lies inside the "
        "95 % prediction interval of the row's other seeds "
        f"[{found.interval.low:.6g}, {found.interval.high:.6g}]\n"
        f"different from the record: {where} (it does not name the kind of processor)"
    )
