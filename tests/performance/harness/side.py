"""One side of a comparison: a process that plays a round when a line on stdin asks for it.

The protocol is a line of JSON each way: first `{"ready": versions}` or `{"unavailable": reason}`, then for every
`round` on stdin a `Round`; any other line, or the end of stdin, ends it. Needs the standard library and torch only,
so that a peer can live in a virtual environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from lmrl_bench.runs.memory import PeakMemory

_STAT = Path("/proc/stat")
_TICKS = 100  # of /proc/stat per second (USER_HZ)
_IDLE = (3, 4)  # idle, iowait


class Probe(NamedTuple):
    """How fast the machine is at the moment; medians, milliseconds.

    Attributes:
        matmul_ms: a product of two 1024 × 1024 matrices, fp32.
        add_ms: a sum over 32 MiB that is read and 32 MiB that is written.
    """

    matmul_ms: float
    add_ms: float


@dataclass(frozen=True)
class Played:
    """A side's report on the round that it played.

    Attributes:
        generate_s: seconds of sampling.
        tokens: generated tokens.
        steps: gradient steps.
        pass_s: seconds of each forward and backward; the floor's alone.
        update_s: seconds of the whole update, after sampling, rewards and the reference; None where a side does not
            tell them apart.
    """

    generate_s: float
    tokens: int
    steps: int
    pass_s: list[float] = field(default_factory=list)
    update_s: float | None = None


@dataclass(frozen=True)
class Round:
    """The measurements of one round.

    Attributes:
        played: what the side says of it.
        wall_s, cpu_s: seconds, and CPU seconds of this process.
        foreign_share: share of the machine's cores that others used; None where the system does not say.
        peak_mib: largest resident memory, MiB; on a GPU, of its memory what torch took.
        before, after: probes around the round.
    """

    played: Played
    wall_s: float
    cpu_s: float
    foreign_share: float | None
    peak_mib: float
    before: Probe
    after: Probe


class Stopwatch:
    """Measures one round at a time: `start`, play, `stop`.

    Args:
        device: Where the side computes.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def start(self) -> None:
        """Probes the machine, then starts the clocks."""
        self._before = probe()
        self._memory = _peak_memory(self._device)
        finish(self._device)
        self._busy = busy_seconds()
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(self, played: Played) -> Round:
        """Waits for the device, stops the clocks, then probes the machine again."""
        finish(self._device)
        wall = time.perf_counter() - self._wall
        cpu = time.process_time() - self._cpu
        foreign = foreign_share(wall, cpu, self._busy, busy_seconds())
        peak = self._memory()
        return Round(played, wall, cpu, foreign, peak, self._before, probe())


class Channel:
    """The lines of JSON; what the process prints besides goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def ready(self, *packages: str) -> None:
        """Says that rounds can be asked for, and with which versions."""
        self._send({"ready": {name: _version(name) for name in packages}})

    def unavailable(self, reason: str) -> None:
        """Says that this side cannot play here."""
        self._send({"unavailable": reason})

    def next(self) -> bool:
        """Waits until a round is asked for; false: the comparison is over."""
        return sys.stdin.readline().strip() == "round"

    def report(self, measured: Round) -> None:
        """Sends what was measured."""
        self._send(asdict(measured))

    def _send(self, line: Mapping[str, object]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def serve(channel: Channel, play: Callable[[], Played], device: str) -> None:
    """Plays and reports rounds until no more are asked for."""
    watch = Stopwatch(device)
    while channel.next():
        watch.start()
        channel.report(watch.stop(play()))


def finish(device: torch.device) -> None:
    """Waits until a GPU has done what it was told to; a processor has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def probe(repetitions: int = 7) -> Probe:
    """Returns how fast the machine's processor is now."""
    square = torch.ones(1024, 1024)
    long = torch.ones(2**23)
    out = torch.empty_like(long)
    return Probe(
        _median_ms(lambda: torch.mm(square, square), repetitions),
        _median_ms(lambda: torch.add(long, 1.0, out=out), repetitions),
    )


def busy_seconds() -> float | None:
    """Returns the CPU seconds that the whole machine has used since its start; None where it is not said."""
    try:
        fields = [int(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    return sum(value for place, value in enumerate(fields) if place not in _IDLE) / _TICKS


def foreign_share(
    wall: float, cpu: float, busy_before: float | None, busy_after: float | None
) -> float | None:
    """Returns the share of the machine's cores that other processes used during `wall` seconds."""
    if busy_before is None or busy_after is None:
        return None
    return max(0.0, busy_after - busy_before - cpu) / (wall * (os.cpu_count() or 1))


def _peak_memory(device: torch.device) -> Callable[[], float]:
    """Begins to watch the memory; what it returns says how much was needed since, MiB."""
    if device.type != "cuda":
        return PeakMemory().mebibytes
    torch.cuda.reset_peak_memory_stats(device)
    return lambda: torch.cuda.max_memory_allocated(device) / 2**20


def _median_ms(action: Callable[[], object], repetitions: int) -> float:
    action()
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return 1000 * sorted(seconds)[repetitions // 2]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
