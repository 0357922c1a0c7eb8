"""`lmrl-bench algorithm list | show`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import lmrl_bench
from lmrl_bench.cli.options import JsonOption
from lmrl_bench.cli.output import setting_lines, show, show_one

app = typer.Typer(help="Algorithms: papers, deviations, settings.", no_args_is_help=True)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists the algorithms."""
    show([asdict(found) for found in lmrl_bench.list_algorithms()], as_json=as_json)


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Algorithm name.")],
    as_json: JsonOption = False,
) -> None:
    """Shows the paper, deviations and settings of an algorithm.

    Settings are printed as --set takes them: --set algorithm.kl.coefficient=0.1
    """
    found = lmrl_bench.describe_algorithm(name)
    lines = [found.doc, "", "settings (--set algorithm.NAME=VALUE):"]
    lines += [f"  {line}" for line in setting_lines(found.settings, found.peers)]
    lines += ["", "searched by `lmrl-bench leaderboard tune`:"] if found.search else []
    lines += [f"  {field}: {values}" for field, values in found.search.items()]
    content = {"name": name, "doc": found.doc, "schema": found.schema, "peers": found.peers}
    show_one(content, as_json=as_json, text="\n".join(lines))
