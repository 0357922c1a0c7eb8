"""Plays the sides of a comparison in turn, A B A B, each in a process of its own with one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.gate import disturbance, median_probe
from harness.material import make_material
from harness.settings import passes
from harness.side import Played, Probe, Round
from harness.workloads import Workload
from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.core.paths import PACKAGE

_HERE = Path(__file__).resolve().parent
OURS, OURS_BF16, FLOOR = "ours", "ours-bf16", "floor"
PATIENCE = 3
"""Limit on the rounds played to get the wanted number of undisturbed ones, as a multiple of that number."""
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}

Note = Callable[[str], None]


class PerformanceError(LmrlBenchError):
    """A side of a comparison failed."""


@dataclass(frozen=True)
class Peer:
    """A program that plays rounds too; see `side`.

    Attributes:
        name: in tables.
        python: the interpreter of its environment.
        script: is called with the material's folder, the algorithm and the device.
        algorithms: of ours that it has too.
        workloads: that it can play.
    """

    name: str
    python: Path
    script: Path
    algorithms: tuple[str, ...]
    workloads: tuple[str, ...]


@dataclass
class Contest:
    """One workload and algorithm, played by all sides.

    Attributes:
        passes: how often the algorithm goes over a rollout's episodes.
        device: where all sides compute.
        versions: side to package to version.
        turns: in each turn every side played one round.
        left_out: side to the reason why it could not play.
    """

    workload: Workload
    algorithm: str
    passes: int
    device: str = "cpu"
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    turns: list[dict[str, Round]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def usual(self) -> Probe:
        """Returns the machine's speed in this contest."""
        return median_probe([played for turn in self.turns for played in turn.values()])

    def clean(self, *sides: str) -> list[dict[str, Round]]:
        """Returns the turns in which none of the sides was disturbed."""
        usual = self.usual()
        return [
            turn for turn in self.turns if not any(disturbance(turn[side], usual) for side in sides)
        ]


def compete(
    workload: Workload,
    algorithm: str,
    peers: Sequence[Peer],
    *,
    rounds: int,
    note: Note,
    device: str = "cpu",
    bfloat16: bool = False,
) -> Contest:
    """Plays until `rounds` turns are undisturbed for every side and the floor, or patience ends.

    Args:
        workload: What a round is.
        algorithm: Ours, by name.
        peers: Those that do not have the algorithm or cannot play the workload are passed over.
        rounds: Undisturbed turns wanted; one more is played first and not counted.
        note: Is told what happens.
        device: Where all sides compute.
        bfloat16: Whether ours plays a second time, with its update in bfloat16.

    Raises:
        PerformanceError: Ours or the floor failed, or a peer in the middle of a round.
    """
    contest = Contest(workload, algorithm, passes(algorithm, workload), device)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "material"
        make_material(workload, folder)
        sides = {}
        for name, command in _commands(contest, peers, folder, bfloat16):
            side = stack.enter_context(_started(name, command))
            if side.unavailable and name in (OURS, FLOOR):
                raise PerformanceError(f"the side '{name}' cannot play: {side.unavailable}")
            if side.unavailable:
                contest.left_out[name] = side.unavailable
                note(f"{name} is left out: {side.unavailable}")
                continue
            contest.versions[name] = side.versions
            sides[name] = side
        _play(contest, sides, rounds, note)
    return contest


def _play(contest: Contest, sides: dict[str, Side], rounds: int, note: Note) -> None:
    for side in sides.values():
        side.round()  # the first is slower: caches, lazy imports
    while len(contest.turns) < PATIENCE * rounds:
        contest.turns.append({name: side.round() for name, side in sides.items()})
        clean = min(len(contest.clean(FLOOR, name)) for name in sides)
        played = "  ".join(
            f"{name} {turn.wall_s:.2f} s" for name, turn in contest.turns[-1].items()
        )
        note(f"{contest.workload.name} {contest.algorithm}: {clean} of {rounds} clean; {played}")
        if clean >= rounds:
            return


def _commands(
    contest: Contest, peers: Sequence[Peer], folder: Path, bfloat16: bool
) -> Iterator[tuple[str, list[str]]]:
    own = [sys.executable, "-m", "harness.players", str(folder)]
    asked = [contest.algorithm, contest.device]
    yield FLOOR, [*own, FLOOR, contest.device]
    yield OURS, [*own, *asked]
    if bfloat16:
        yield OURS_BF16, [*own, *asked, "bfloat16"]
    for peer in peers:
        if contest.algorithm not in peer.algorithms or contest.workload.name not in peer.workloads:
            continue
        if peer.python.exists():
            yield peer.name, [str(peer.python), str(peer.script), str(folder), *asked]
        else:
            contest.left_out[peer.name] = f"{peer.python} does not exist"


class Side:
    """A running side.

    Attributes:
        versions: of the packages that it names.
        unavailable: why it cannot play; empty if it can.
    """

    def __init__(self, name: str, process: subprocess.Popen[str], errors: Path) -> None:
        self.name, self._process, self._errors = name, process, errors
        first = self._line()
        self.versions: dict[str, str] = first.get("ready", {})
        self.unavailable: str = first.get("unavailable", "")

    def round(self) -> Round:
        """Plays one round.

        Raises:
            PerformanceError: The process ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        return read_round(self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._errors.read_text(encoding="utf-8", errors="replace").strip()
            raise PerformanceError(f"the side '{self.name}' ended; it said:\n{said[-2000:]}")
        parsed: dict[str, Any] = json.loads(line)
        return parsed


@contextmanager
def _started(name: str, command: Sequence[str]) -> Iterator[Side]:
    """Starts a side, and ends it at the end."""
    roots = [str(PACKAGE.parent), str(_HERE.parent), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, roots))
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]  # the same one for all
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "stderr"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=folder,
                env=os.environ | _ONE_THREAD | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": gpu},
            )
        try:
            yield Side(name, process, errors)
        finally:
            process.terminate()
            process.communicate()


def read_round(line: dict[str, Any]) -> Round:
    """Returns a round from its JSON."""
    parts = {"played": Played(**line["played"])}
    probes = {name: Probe(*line[name]) for name in ("before", "after")}
    return Round(**line | parts | probes)
