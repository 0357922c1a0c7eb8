"""`lmrl-bench submission rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmrl_bench.cli.output import note

app = typer.Typer(help="Submissions: checks results that others made.", no_args_is_help=True)


@app.callback()
def submission() -> None:
    """Submissions: checks results that others made."""


@app.command()
def rescore(
    folder: Annotated[Path, typer.Argument(help="Results, e.g. results/quickstart.")],
) -> None:
    """Recomputes every text metric from the stored answers; exits with 2 if a record says otherwise."""
    from lmrl_bench.runs.rescore import TOLERANCE
    from lmrl_bench.runs.rescore import rescore as rescore_folder

    found = rescore_folder(folder)
    note(f"{folder}: {found.records} records, {found.numbers} numbers equal to {TOLERANCE:g}")
    if found.left_out:
        note(f"not recomputed, they need a model or plug-in: {', '.join(found.left_out)}")
