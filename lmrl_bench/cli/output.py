"""Printing: data on stdout (a table for people, JSON on request), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from lmrl_bench import __version__

ORDER = (
    "run", "leaderboard", "task", "algorithm", "metric", "reward", "policy", "download", "results",
    "settings", "doctor",
)  # fmt: skip
"""The commands as `--help` lists them, most used first."""


class Commands(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the commands in the order of the help; typer would list single commands last."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; Ctrl-C ends it with a message and exit code 130.

        Raises:
            typer.Exit: The user stopped it.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # Typer checks values with pydantic, whose messages begin so.
            error.message = error.message.replace("Value error, ", "")
            raise
        except KeyboardInterrupt:  # typer alone would say nothing
            again = " without --rerun" if "--rerun" in sys.argv else ""
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
    """Returns one line for each split of a run's results: reward, KL, metrics."""
    lines = []
    for split, result in results.items():
        numbers = "  ".join(f"{name} {value.value:.4f}" for name, value in result.metrics.items())
        known = kl and result.kl_to_reference is not None
        drift = f"KL {result.kl_to_reference:.2f} nats  " if known else ""
        lines.append(f"{split:14} reward {result.reward:.4f}  {drift}{numbers}")
    return lines


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool = False) -> None:
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


def show_one(value: Any, *, as_json: bool, text: str) -> None:
    """Prints one thing as JSON or as prepared text."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text)


def setting_lines(settings: Sequence[Any], peers: Mapping[str, str] | None = None) -> list[str]:
    """Returns lines for each setting: `name = default  (type)`, its meaning, its names elsewhere."""
    lines = []
    for setting in settings:
        default = setting.default or "(must be given)"
        lines.append(f"{setting.name} = {default}  ({setting.type})")
        lines += [f"    {setting.description}"] if setting.description else []
        if elsewhere := (peers or {}).get(setting.name):
            lines.append(f"    elsewhere: {elsewhere}")
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
