"""`lmrl-bench metric list | show` and `lmrl-bench reward list | show`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmrl_bench.cli.output import JsonOption, show, show_one

metrics = typer.Typer(help="Metrics: what they are and their arguments.", no_args_is_help=True)
rewards = typer.Typer(help="Rewards: what they are and their arguments.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of a metric or reward.")]
_SCALE = """
As a reward its value is scaled to 0 to 1. `args` then also takes:
  scale = true  (true or false or [number, number])
      true: by its bounds; false: the value as it is; [low, high]: the range that counts"""


@metrics.command("list")
def list_metrics(as_json: JsonOption = False) -> None:
    """Lists the metrics; every one of them is a reward by its name."""
    from lmrl_bench.metrics import METRICS
    from lmrl_bench.metrics.describe import describe

    found = [describe(name, METRICS.get(name), "metrics") for name in METRICS]
    show([_row(each) for each in found], as_json=as_json)


@metrics.command("show")
def show_metric(name: NameArgument, as_json: JsonOption = False) -> None:
    """Shows a metric's arguments, bounds, direction and an example."""
    from lmrl_bench.metrics import METRICS
    from lmrl_bench.metrics.describe import describe

    found = describe(name, METRICS.get(name), "metrics")
    show_one(found.as_dict(), as_json=as_json, text=_text(found, _metric_lines(found)))


@rewards.command("list")
def list_rewards(as_json: JsonOption = False) -> None:
    """Lists the rewards that are not metrics.

    Every metric is a reward, too: see `metric list`.
    """
    from lmrl_bench.metrics.describe import describe
    from lmrl_bench.rewards import REWARDS

    found = [describe(name, REWARDS.get(name), "reward") for name in REWARDS]
    show([_row(each) for each in found], as_json=as_json)


@rewards.command("show")
def show_reward(name: NameArgument, as_json: JsonOption = False) -> None:
    """Shows the arguments of a reward and an example.

    The reward may be a metric.
    """
    from lmrl_bench.core.errors import RewardError, nearest
    from lmrl_bench.metrics import METRICS
    from lmrl_bench.metrics.describe import describe
    from lmrl_bench.rewards import REWARDS

    if name in REWARDS:
        found = describe(name, REWARDS.get(name), "reward")
        show_one(found.as_dict(), as_json=as_json, text=_text(found, [_reads(found)]))
        return
    if name not in METRICS:
        known = [*REWARDS, *METRICS]
        raise RewardError(
            f"unknown reward or metric '{name}'{nearest(name, known)} (known: {', '.join(known)})"
        )
    found = describe(name, METRICS.get(name), "reward")
    lines = [*_metric_lines(found), _SCALE]
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
