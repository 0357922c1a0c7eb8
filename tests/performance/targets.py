"""Targets for the speed and the measured values: `targets.py FILE`, which `make perf PERF='--json FILE'` wrote."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from harness.compare import FLOOR, OURS, Contest, Round
from harness.report import contests_of, passes_s

Turn = dict[str, Round]
TRL, TRL_112, BFLOAT16 = "trl", "trl-1.12", "ours-bf16"
UPDATE_BOUND = 1.15


@dataclass(frozen=True)
class Target:
    """One thing that was asked.

    Attributes:
        what: in words.
        asked: the bound.
        at_least: whether it is a lower one.
        clean, every: the figure in each undisturbed turn, and in each turn.
    """

    what: str
    asked: float
    at_least: bool
    clean: list[float]
    every: list[float]

    def row(self) -> str:
        """Returns a row of the table; `at the edge`: met by one of the two medians."""
        met = [self._met(median(found)) for found in (self.clean, self.every) if found]
        verdict = "met" if all(met) else "at the edge" if any(met) else "missed"
        sign = "≥" if self.at_least else "≤"
        figures = [
            f"{median(found):.2f} ({len(found)})" if found else ""
            for found in (self.clean, self.every)
        ]
        return f"| {self.what} | {sign} {self.asked:g} | {' | '.join(figures)} | {verdict} |"

    def _met(self, found: float) -> bool:
        return found >= self.asked if self.at_least else found <= self.asked


Contests = dict[tuple[str, str], Contest]


def targets(contests: Contests) -> Iterator[Target]:
    """Yields everything that was asked."""
    yield compared(contests["W1", "grpo"], "TRL 1.16", TRL, OURS, 1.4)
    yield compared(contests["W1x4", "ppo"], "TRL 1.12", TRL_112, OURS, 2.5)
    yield compared(contests["W1x4", "ppo"], "TRL 1.12, ours in bfloat16", TRL_112, BFLOAT16, 4.0)
    yield compared(contests["W3", "ppo"], "TRL 1.12", TRL_112, OURS, 2.0)
    memory = [turn[OURS].peak_mib * 2**20 / 1e9 for turn in contests["W3", "ppo"].turns]
    yield Target("W3 PPO: largest memory of all turns, GB", 3.0, False, [], [max(memory)])
    for workload, rl4lms, asked in (("S", 33.0, 20.0), ("M1", 8.5, 45.0)):
        contest = contests[workload, "ppo"]
        what = f"{workload} PPO: tokens/s compared with RL4LMs' {rl4lms:g}, of another machine"
        yield target(
            contest,
            what,
            asked,
            True,
            lambda turn, c=contest, r=rl4lms: c.workload.tokens / turn[OURS].wall_s / r,
            OURS,
        )
    yield from updates(contests)
    for algorithm, asked in (("a2c", 0.25), ("trpo", 6.0)):
        yield from compared_with_ppo(contests, algorithm, asked)


def compared(contest: Contest, words: str, peer: str, ours: str, asked: float) -> Target:
    what = f"{contest.workload.name} {contest.algorithm.upper()}: time compared with {words}"
    return target(
        contest, what, asked, True, lambda turn: turn[peer].wall_s / turn[ours].wall_s, peer, ours
    )


def updates(contests: Contests) -> Iterator[Target]:
    """Yields PPO's updates compared with the floor's, and those of others that miss the bound."""
    for (workload, algorithm), contest in contests.items():
        what = f"{workload} {algorithm}: update compared with the floor's forwards and backwards"
        found = target(
            contest,
            what,
            UPDATE_BOUND,
            False,
            lambda turn, c=contest: turn[OURS].played.update_s / passes_s(c, turn[FLOOR]),
            OURS,
            FLOOR,
        )
        if algorithm == "ppo" or (algorithm != "trpo" and not found.row().endswith("| met |")):
            yield found


def compared_with_ppo(contests: Contests, algorithm: str, asked: float) -> Iterator[Target]:
    """Yields an update on W1 compared with PPO's on W1x4: two contests, which were not played in turn."""
    one, four = contests["W1", algorithm], contests["W1x4", "ppo"]
    ppo = target(four, "", 0.0, False, update_s, OURS)
    found = target(one, "", 0.0, False, update_s, OURS)
    pairs = [(found.clean, ppo.clean), (found.every, ppo.every)]
    clean, every = ([a / median(b) for a in mine] for mine, b in pairs)
    yield Target(
        f"W1 {algorithm}: update compared with W1x4 PPO's, of four epochs",
        asked,
        False,
        clean,
        every,
    )


def update_s(turn: Turn) -> float:
    seconds = turn[OURS].played.update_s
    assert seconds is not None
    return seconds


def target(
    contest: Contest,
    what: str,
    asked: float,
    at_least: bool,
    figure: Callable[[Turn], float],
    *sides: str,
) -> Target:
    clean = [figure(turn) for turn in contest.clean(*sides)]
    return Target(what, asked, at_least, clean, [figure(turn) for turn in contest.turns])


def table(contests: Sequence[Contest]) -> str:
    """Returns the Markdown table of all targets."""
    known = {(contest.workload.name, contest.algorithm): contest for contest in contests}
    head = (
        "| | asked | undisturbed turns (number) | all turns | |\n| --- | ---: | ---: | ---: | --- |"
    )
    return "\n".join([head, *(one.row() for one in targets(known))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    print(table(contests_of(json.loads(given.file.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
