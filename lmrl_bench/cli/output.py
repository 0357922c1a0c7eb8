"""Printing: data on stdout (a table for people, JSON on request), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lmrl_bench import __version__

OUTPUT = ("--output", "--out")
"""Both spellings, for every command that writes a folder or a file of the user's choice."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OnlyTask = Annotated[
    list[str] | None, typer.Option(metavar="<str>", help="Only this task; may be repeated.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override any field; may be repeated."),
]


class Commands(TyperGroup):
    """The group of all commands: Ctrl-C ends each with a message and 130; typer alone would say nothing."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command.

        Raises:
            typer.Exit: The user stopped it.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            again = " without --fresh" if "--fresh" in sys.argv else ""
            note(f"stopped; run the same command again{again} to resume")
            raise typer.Exit(130) from None


def show_version(wanted: bool) -> None:
    """Prints the version and ends, if it is asked for.

    Raises:
        typer.Exit: It was.
    """
    if wanted:
        typer.echo(f"lmrl-bench {__version__}")
        raise typer.Exit


def note(text: str) -> None:
    """Prints a remark on stderr."""
    typer.echo(text, err=True)


def results_lines(results: Mapping[str, Any], *, kl: bool = True) -> list[str]:
    """Returns one line for each split of a run's results: reward, KL to the start, metrics."""
    lines = []
    for split, result in results.items():
        numbers = "  ".join(f"{name} {value.value:.4f}" for name, value in result.metrics.items())
        drift = f"KL {result.kl_to_reference:.2f} nats  " if kl else ""
        lines.append(f"{split:14} reward {result.reward:.4f}  {drift}{numbers}")
    return lines


def show(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Prints rows as JSON or as an aligned table of their columns."""
    if as_json:
        typer.echo(json.dumps(list(rows), indent=2, ensure_ascii=False))
        return
    if not rows:
        return
    columns = list(rows[0])
    lines = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        typer.echo(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )


def show_settings(settings: Sequence[Any], *, as_json: bool) -> None:
    """Prints settings (name, type, default, description): one line each, and the meaning below it."""
    if as_json:
        show([setting._asdict() for setting in settings], as_json=True)
        return
    for name, kind, default, words in settings:
        typer.echo(f"{name} = {default or '(must be given)'}  ({kind})")
        if words:
            typer.echo(f"    {words}")
    note("an algorithm's own settings: lmrl-bench algorithm show NAME")


def show_one(value: Any, *, as_json: bool, text: str) -> None:
    """Prints one thing as JSON or as prepared text."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
