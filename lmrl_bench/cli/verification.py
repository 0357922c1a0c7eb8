"""`lmrl-bench results validate | rescore | retrain | bounds`: checks of results that others made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import lmrl_bench
from lmrl_bench.cli.output import note
from lmrl_bench.core.errors import ConfigError, VerificationError

if TYPE_CHECKING:
    from lmrl_bench.verification.retrain import RetrainedRun

WriteOption = Annotated[
    bool,
    typer.Option(
        "--write-verification", help="Write the check into verification.json of each entry."
    ),
]
ByOption = Annotated[
    str | None, typer.Option(help="Who performed the check; goes into verification.json.")
]


def validate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="All results of a leaderboard, or a folder with further entries."
        ),
    ],
    leaderboard: Annotated[
        str | None, typer.Option(help="Leaderboard name or folder; default: the folder's name.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of all earlier results, none of which may change.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Markdown file for a reviewer.")] = None,
) -> None:
    """Checks results before they are added to a leaderboard.

    Exits with 3 and lists all problems if they may not be added.
    """
    found = lmrl_bench.validate(folder, leaderboard=leaderboard, against=against, report=report)
    if report is not None:
        note(f"wrote {report}")
    for flag in found.flags:
        note(f"to review: {flag}")
    if found.problems:
        raise VerificationError("\n".join([*found.problems, "the submission is refused"]))
    note(f"{folder}: {found.records} records may be added to the leaderboard '{found.leaderboard}'")


def rescore(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder of runs, e.g. results/quickstart.")
    ],
    models: Annotated[
        bool, typer.Option(help="Also recompute what needs a model or a plug-in.")
    ] = True,
    write_verification: WriteOption = False,
    by: ByOption = None,
) -> None:
    """Recomputes metrics and rewards from stored completions.

    Exits with 3 if a record says something else.
    """
    from lmrl_bench.verification.completions import TOLERANCE
    from lmrl_bench.verification.rescore import MODEL_TOLERANCE

    done = lmrl_bench.rescore(folder, models=models, verified_by=_who(write_verification, by))
    found = done.found
    note(
        f"{folder}: {len(found.records)} records, {found.numbers} numbers equal to {TOLERANCE:g} "
        f"({MODEL_TOLERANCE:g} for single completions scored by a model); largest difference "
        f"{max(found.largest.values(), default=0.0):.1e}"
    )
    if found.libraries:
        note(f"with other versions of libraries: {', '.join(sorted(found.libraries))}")
    left_out = sorted({key for keys in found.left_out.values() for key in keys})
    if left_out:
        note(f"not recomputed (--no-models): {', '.join(left_out)}")
    for path in done.files:
        note(f"wrote {path}")
    for reason in done.unverified:
        note(reason)


def retrain(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run: results/LEADERBOARD/TASK/ENTRY/SEED.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Keep the new run in this folder; default: it is not kept."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train.")] = "cpu",
    policy: Annotated[
        Path | None,
        typer.Option(help="Folder of the initial model; default: as the leaderboard names it."),
    ] = None,
    write_verification: WriteOption = False,
    by: ByOption = None,
) -> None:
    """Trains one seed again and compares.

    Exits with 3 unless the new run is bit-identical or inside the 95 % prediction interval of the
    entry's other seeds.
    """
    try:
        done = lmrl_bench.retrain(
            run,
            out=out,
            device=device,
            policy=policy,
            verified_by=_who(write_verification, by),
            progress=True,
        )
    except KeyboardInterrupt:
        if out is not None:
            raise
        note("stopped; nothing is kept; to resume a run later, start it with --out FOLDER")
        raise typer.Exit(130) from None
    typer.echo(_agreement(done.found))
    if done.file is not None:
        note(f"wrote {done.file}")


def bounds() -> None:
    """Lists which fields of a record are checked, and how."""
    typer.echo(lmrl_bench.bounds_table())


def _who(write: bool, by: str | None) -> str | None:
    if write and not by:
        raise ConfigError("--write-verification needs --by NAME (who performed the check)")
    return by if write else None


def _agreement(found: RetrainedRun) -> str:
    from lmrl_bench.leaderboards.verification import primary_value

    record = found.record
    if found.interval is None:
        return f"{record.id}: bit-identical: record {record.digest()[:12]}, curves and completions"
    metric, new, old = record.task.primary_metric, *map(primary_value, (found.new, record))
    where = ", ".join(found.elsewhere) or "nothing"
    return (
        f"{record.id}: not bit-identical; {metric} {new:.6g} (recorded {old:.6g}) lies inside the "
        "95 % prediction interval of the entry's other seeds "
        f"[{found.interval.low:.6g}, {found.interval.high:.6g}]\n"
        f"different from the record: {where} (the kind of processor is not recorded)"
    )
