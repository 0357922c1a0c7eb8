"""`lmrl-bench metric list | show` and `lmrl-bench reward list | show`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import lmrl_bench
from lmrl_bench.cli.options import JsonOption
from lmrl_bench.cli.output import show, show_one

metrics = typer.Typer(help="Metrics: what they measure, and their arguments.", no_args_is_help=True)
rewards = typer.Typer(help="Rewards: what they pay for, and their arguments.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a metric or reward.")]
_SCALE = """
As a reward its value is scaled to 0 to 1. `args` then also takes:
  scale = true  (true or false or [number, number])
      true: by its bounds; false: the value as it is; [low, high]: the range that counts"""


@metrics.command("list")
def list_metrics(as_json: JsonOption = False) -> None:
    """Lists the metrics; each is also a reward of the same name."""
    show([_row(found) for found in lmrl_bench.list_metrics()], as_json=as_json)


@metrics.command("show")
def show_metric(name: NameArgument, as_json: JsonOption = False) -> None:
    """Shows a metric's arguments, bounds, direction and an example."""
    found = lmrl_bench.describe_metric(name)
    show_one(found.as_dict(), as_json=as_json, text=_text(found, _metric_lines(found)))


@rewards.command("list")
def list_rewards(as_json: JsonOption = False) -> None:
    """Lists the rewards that are not metrics.

    Every metric is a reward, too: see `lmrl-bench metric list`.
    """
    show([_row(found) for found in lmrl_bench.list_rewards()], as_json=as_json)


@rewards.command("show")
def show_reward(name: NameArgument, as_json: JsonOption = False) -> None:
    """Shows the arguments of a reward or metric, and an example."""
    from lmrl_bench.rewards import REWARDS

    found = lmrl_bench.describe_reward(name)
    # A metric that serves as a reward has a direction and is scaled by its bounds.
    lines = [_reads(found)] if name in REWARDS else [*_metric_lines(found), _SCALE]
    show_one(found.as_dict(), as_json=as_json, text=_text(found, lines))


def _row(found: Any) -> dict[str, Any]:
    names = [argument.name for argument in found.arguments]
    return {"name": found.name, "arguments": ", ".join(names), "summary": found.summary}


def _metric_lines(found: Any) -> list[str]:
    better = {True: "higher is better", False: "lower is better", None: "neither is better"}
    bounds = "set by its arguments"
    if found.bounds is not None:
        bounds = f"{found.bounds[0]:g} to {found.bounds[1]:g}"
    return [f"values: {bounds}, {better[found.higher_is_better]}", _reads(found)]


def _reads(found: Any) -> str:
    return f"reads of a sample: {', '.join(found.needs) or 'nothing'}"


def _text(found: Any, facts: list[str]) -> str:
    lines = [found.doc, "", *facts, "", "arguments:" if found.arguments else "arguments: none"]
    for argument in found.arguments:
        default = "required" if argument.required else argument.default
        lines.append(f"  {argument.name} = {default}  ({argument.type})")
        lines += [f"      {argument.description}"] if argument.description else []
    return "\n".join([*lines, "", "in task.yaml:", found.example.rstrip()])
