"""`lmrl-bench algorithm list | show`."""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, Any

import typer

from lmrl_bench.cli.output import JsonOption, show, show_one

app = typer.Typer(help="Algorithms: what they are and their fields.", no_args_is_help=True)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists the algorithms."""
    from lmrl_bench.algorithms import ALGORITHMS

    rows = [{"name": name, "summary": ALGORITHMS.get(name).summary} for name in ALGORITHMS]
    show(rows, as_json=as_json)


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="Algorithm name.")], as_json: JsonOption = False
) -> None:
    """Shows an algorithm's paper, deviations, fields and defaults."""
    from lmrl_bench.algorithms import ALGORITHMS
    from lmrl_bench.config.reference import settings_of

    algorithm = ALGORITHMS.get(name)
    schema: dict[str, Any] = algorithm.config_class.model_json_schema()
    words = inspect.getdoc(sys.modules[algorithm.__module__]) or ""
    lines = [words, "", "fields:"]
    groups = {
        field: facts.description for field, facts in algorithm.config_class.model_fields.items()
    }
    for field, _, default, meaning in settings_of(algorithm.config_class):
        group = field.partition(".")[0]
        if group != field and group in groups:
            lines.append(
                f"  {group} = (the settings {group}.*)  {groups.pop(group) or ''}".rstrip()
            )
        lines.append(f"  {field} = {default}  {meaning}".rstrip())
    searched = algorithm.config_class.search_space
    lines += ["", "searched by `tune`:"] if searched else []
    lines += [f"  {field}: {values}" for field, values in searched.items()]
    show_one({"name": name, "doc": words, "schema": schema}, as_json=as_json, text="\n".join(lines))
