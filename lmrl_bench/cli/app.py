"""The root of the command line, and the commands without a group: `run`, `settings`, `doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import lmrl_bench
from lmrl_bench.cli import (
    algorithms,
    downloads,
    leaderboards,
    metrics,
    policies,
    results,
    run,
    tasks,
)
from lmrl_bench.cli.options import JsonOption
from lmrl_bench.cli.output import Commands, note, setting_lines, show, show_version

app = typer.Typer(
    cls=Commands,
    help="Compare reinforcement-learning algorithms for language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich takes longer than all the rest of --help
    context_settings={"max_content_width": 100},
)
app.command()(run.run)
app.add_typer(leaderboards.app, name="leaderboard")
app.add_typer(tasks.app, name="task")
app.add_typer(algorithms.app, name="algorithm")
app.add_typer(metrics.metrics, name="metric")
app.add_typer(metrics.rewards, name="reward")
app.add_typer(policies.app, name="policy")
app.add_typer(downloads.app, name="download")
app.add_typer(results.app, name="results")


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    # No docstring: it would replace the help above.
    pass


@app.command()
def settings(
    part: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Only one setting or group, for example evaluation.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Lists the settings of a run: type, default, meaning.

    `lmrl-bench algorithm show NAME` lists those of one algorithm. Set them with --set or in a run's
    YAML file.
    """
    found = lmrl_bench.list_settings(part)
    if as_json:
        show([setting._asdict() for setting in found], as_json=True)
        return
    for line in setting_lines(found):
        typer.echo(line)
    note("settings of one algorithm: lmrl-bench algorithm show NAME")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Shows versions, threads and folders, for a bug report."""
    show([asdict(finding) for finding in lmrl_bench.doctor()], as_json=as_json)
