"""Is the cost linear? Fits cost ~ size^exponent for episodes, completion tokens and rewarded completions, and plots it.

`python tests/performance/scaling.py --svg scaling.svg`. Each round in a process of its own, one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from harness.compare import OURS, compete
from harness.workloads import WORKLOADS, Workload
from small import cpu_seconds, reward_batch

from lmrl_bench.metrics import make_metric
from lmrl_bench.rewards.from_metric import MetricReward

Costs = dict[int, float]
BASE = replace(WORKLOADS["W1"], prompt_tokens=(4, 4), completion_tokens=32, episodes=64)


def round_cost(workload: Workload) -> float:
    """Returns the least CPU seconds of one iteration of PPO with one step over all episodes."""
    workload = replace(workload, minibatch_episodes=workload.episodes)
    contest = compete(workload, "ppo", [], rounds=2, note=print)
    return min(turn[OURS].cpu_s for turn in contest.turns)


def by_episodes() -> Costs:
    """From the default on; fewer pay more each, as a step of decoding costs nearly the same for 16 as for 32."""
    return {n: round_cost(replace(BASE, episodes=n)) for n in (64, 96, 128, 192, 256)}


def by_completion_tokens() -> Costs:
    return {n: round_cost(replace(BASE, completion_tokens=n)) for n in (16, 32, 64, 128)}


def by_rewarded_completions() -> Costs:
    reward = MetricReward(make_metric("chrf"))
    costs = {}
    for size in (64, 256, 1024, 4096):
        batch = reward_batch(size, 20, seed=0)
        costs[size] = min(cpu_seconds(lambda batch=batch: reward(batch)) for _ in range(5))
    return costs


def exponent(costs: Costs) -> float:
    """Returns the slope of log cost over log size."""
    return float(np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0])


MEASURES: Mapping[str, Callable[[], Costs]] = {
    "episodes": by_episodes,
    "completion tokens": by_completion_tokens,
    "rewarded completions (chrF)": by_rewarded_completions,
}


def plot(found: Mapping[str, Costs], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4 * len(found), 3.2), layout="constrained")
    for axis, (name, costs) in zip(np.atleast_1d(axes), found.items(), strict=True):
        axis.loglog(list(costs), list(costs.values()), "o-", color="tab:blue")
        axis.set(xlabel=name, ylabel="CPU seconds", title=f"exponent {exponent(costs):.2f}")
        axis.set_xticks(list(costs), list(map(str, costs)))
        axis.set_yticks(list(costs.values()), [f"{cost:.2g}" for cost in costs.values()])
        axis.minorticks_off()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", type=Path, help="file for the plot")
    given = parser.parse_args()
    found = {name: measure() for name, measure in MEASURES.items()}
    for name, costs in found.items():
        points = "  ".join(f"{size}: {cost:.3f} s" for size, cost in costs.items())
        verdict = "" if abs(exponent(costs) - 1) <= 0.1 else "  (asked: within 0.1 of 1)"
        last = exponent(dict(list(costs.items())[-2:]))
        print(
            f"{name}: exponent {exponent(costs):.2f}{verdict}, of the last two {last:.2f}   {points}"
        )
    if given.svg:
        plot(found, given.svg)


if __name__ == "__main__":
    main()
