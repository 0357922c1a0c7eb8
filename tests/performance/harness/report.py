"""From rounds to figures: medians with their range, ratios to the floor, a table and JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from harness.compare import FLOOR, OURS, Contest, PerformanceError, read_round
from harness.gate import disturbance
from harness.side import Round
from harness.workloads import Workload

SCHEMA = 2
COLUMNS = (
    "workload", "algorithm", "side", "seconds", "min-max", "CPU s", "tokens/s sampling",
    "tokens/s", "steps", "peak MiB", "x ours", "x floor", "x floor CPU", "update x floor", "clean", "foreign",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """Time and memory of a side for one rollout and update; None where no round was undisturbed.

    Attributes:
        wall_s: seconds, median of the undisturbed rounds.
        wall_range: smallest and largest of them.
        cpu_s: CPU seconds, median of all rounds: waiting for a core does not count in them.
        generate_s: of which sampling.
        sampling_tokens_per_s, tokens_per_s: while sampling, and of the whole round.
        steps: gradient steps per round.
        peak_mib: largest memory of a round (`Round.peak_mib`), the largest of all rounds.
        ours_ratio: to ours, median over the turns in which both were undisturbed.
        ratio: to the floor, median over the turns in which both were undisturbed.
        cpu_ratio: of CPU seconds, over all turns.
        update_ratio: of the update alone, to the floor's forwards and backwards, as `ratio`.
        clean, played: rounds undisturbed, and in all.
        foreign_share: share of the machine's cores that others used, median over all rounds.
    """

    wall_s: float | None
    wall_range: tuple[float, float] | None
    cpu_s: float
    generate_s: float | None
    sampling_tokens_per_s: float | None
    tokens_per_s: float | None
    steps: int
    peak_mib: float
    ours_ratio: float | None
    ratio: float | None
    cpu_ratio: float
    update_ratio: float | None
    clean: int
    played: int
    foreign_share: float | None


def figures(contest: Contest, side: str) -> Figures:
    """Returns a side's figures."""
    played = [turn[side] for turn in contest.turns]
    clean = [turn[side] for turn in contest.clean(side)]
    walls = [_wall(contest, side, one) for one in clean]
    wall = _median(walls)
    generate = _median([one.played.generate_s for one in clean])
    tokens = contest.workload.tokens
    foreign = [one.foreign_share for one in played if one.foreign_share is not None]
    return Figures(
        wall_s=wall,
        wall_range=(min(walls), max(walls)) if walls else None,
        cpu_s=median(_cpu(contest, side, one) for one in played),
        generate_s=generate,
        sampling_tokens_per_s=tokens / generate if generate else None,
        tokens_per_s=tokens / wall if wall else None,
        steps=played[0].played.steps,
        peak_mib=max(one.peak_mib for one in played),
        ours_ratio=_ratio(contest, side, OURS, _wall, contest.clean(side, OURS)),
        ratio=_ratio(contest, side, FLOOR, _wall, contest.clean(side, FLOOR)),
        cpu_ratio=_ratio(contest, side, FLOOR, _cpu, contest.turns) or 0.0,
        update_ratio=_update_ratio(contest, side),
        clean=len(clean),
        played=len(played),
        foreign_share=_median(foreign),
    )


def table(contests: Sequence[Contest]) -> str:
    """Returns all figures as a Markdown table."""
    lines = [COLUMNS, ["---"] * 3 + ["---:"] * (len(COLUMNS) - 3)]
    for contest in contests:
        for side in contest.versions:
            lines.append(_row(contest, side))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(contests: Sequence[Contest]) -> dict[str, Any]:
    """Returns everything that was measured, as plain data."""
    return {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(gpu=any(contest.device == "cuda" for contest in contests)),
        "threads": 1,
        "contests": [_contest(contest) for contest in contests],
    }


def contests_of(document: dict[str, Any]) -> list[Contest]:
    """Returns what `document` was made of.

    Raises:
        PerformanceError: Something else.
    """
    if document.get("schema") != SCHEMA:
        raise PerformanceError(
            f"this is not a measurement of schema {SCHEMA}; write one with `make perf PERF='--json FILE'`"
        )
    return [_read_contest(stored) for stored in document["contests"]]


def _read_contest(stored: dict[str, Any]) -> Contest:
    workload = stored["workload"] | {"prompt_tokens": tuple(stored["workload"]["prompt_tokens"])}
    sides = stored["sides"]
    rounds = {
        side: [
            read_round({name: part for name, part in one.items() if name != "disturbance"})
            for one in found["rounds"]
        ]
        for side, found in sides.items()
    }
    return Contest(
        Workload(**workload),
        stored["algorithm"],
        stored["passes"],
        stored["device"],
        {side: found["versions"] for side, found in sides.items()},
        [dict(zip(rounds, turn, strict=True)) for turn in zip(*rounds.values(), strict=True)],
        stored["left_out"],
    )


def machine(*, gpu: bool) -> dict[str, Any]:
    """Returns what the figures were measured on; `gpu`: whether on a GPU too."""
    import torch

    return ({"gpu": torch.cuda.get_device_name()} if gpu else {}) | {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _contest(contest: Contest) -> dict[str, Any]:
    usual = contest.usual()
    return {
        "workload": asdict(contest.workload),
        "algorithm": contest.algorithm,
        "passes": contest.passes,
        "device": contest.device,
        "usual_probe": usual._asdict(),
        "left_out": contest.left_out,
        "sides": {
            side: {
                "versions": versions,
                "figures": asdict(figures(contest, side)),
                "rounds": [
                    asdict(turn[side]) | {"disturbance": disturbance(turn[side], usual)}
                    for turn in contest.turns
                ],
            }
            for side, versions in contest.versions.items()
        },
    }


def _wall(contest: Contest, side: str, played: Round) -> float:
    """Seconds of a round; the floor's with as many passes as the algorithm makes."""
    if side != FLOOR:
        return played.wall_s
    return played.played.generate_s + passes_s(contest, played)


def passes_s(contest: Contest, floor: Round) -> float:
    """Seconds of as many of the floor's forwards and backwards as the algorithm makes."""
    seconds = floor.played.pass_s
    return contest.passes * sum(seconds) / len(seconds)


def _cpu(contest: Contest, side: str, played: Round) -> float:
    """CPU seconds of a round; the floor's in the proportion of its seconds."""
    return played.cpu_s * _wall(contest, side, played) / played.wall_s


def _ratio(
    contest: Contest,
    side: str,
    base: str,
    measure: Callable[[Contest, str, Round], float],
    turns: Sequence[dict[str, Round]],
) -> float | None:
    return _median(
        [measure(contest, side, turn[side]) / measure(contest, base, turn[base]) for turn in turns]
    )


def _update_ratio(contest: Contest, side: str) -> float | None:
    played = ((turn[side].played.update_s, turn[FLOOR]) for turn in contest.clean(side, FLOOR))
    return _median(
        [update / passes_s(contest, floor) for update, floor in played if update is not None]
    )


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _row(contest: Contest, side: str) -> list[str]:
    found = figures(contest, side)
    low, high = found.wall_range or (None, None)
    return [
        contest.workload.name + ("" if contest.device == "cpu" else f" on {contest.device}"),
        contest.algorithm,
        side,
        _number(found.wall_s, 2),
        f"{_number(low, 2)}-{_number(high, 2)}",
        _number(found.cpu_s, 2),
        _number(found.sampling_tokens_per_s, 0),
        _number(found.tokens_per_s, 0),
        str(found.steps),
        _number(found.peak_mib, 0),
        _number(found.ours_ratio, 2),
        _number(found.ratio, 2),
        _number(found.cpu_ratio, 2),
        _number(found.update_ratio, 2),
        f"{found.clean} of {found.played}",
        "" if found.foreign_share is None else f"{found.foreign_share:.0%}",
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines: Iterator[str] = iter(info.read_text().splitlines() if info.exists() else [])
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
