"""Resources of a run: wall and CPU time, seconds by activity, and memory, over all of its sittings."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any, Final

from lmrl_bench.records.record import TimeInfo
from lmrl_bench.runs.memory import PeakMemory

ACTIVITIES: Final = ("generate", "reward", "score", "update", "evaluate")


class RunClock:
    """Measures a run from now on, after the earlier sittings of which `restore` is told.

    Args:
        memory: Measures since before the run's parts were loaded.
    """

    def __init__(self, memory: PeakMemory) -> None:
        self._memory = memory
        self._earlier_memory = 0.0
        self._earlier = {"wall_s": 0.0, "cpu_s": 0.0}
        self._began = _processor_and_wall()
        self._started = utc_now()
        self._seconds: dict[str, float] = dict.fromkeys(ACTIVITIES, 0.0)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds to the seconds of activities."""
        for name, value in seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + value

    def state(self) -> dict[str, Any]:
        """Returns what the next sitting needs, as plain data."""
        return {
            "seconds": dict(self._seconds),
            "elapsed": self._elapsed(),
            "memory": self._largest_memory(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Adds the earlier sittings, from `state()`."""
        self._seconds = dict(state["seconds"])
        self._earlier = dict(state["elapsed"])
        self._earlier_memory = float(state["memory"])

    def info(self) -> TimeInfo:
        """Returns the part of the record."""
        return TimeInfo(
            started=self._started,
            finished=utc_now(),
            **self._elapsed(),
            train_s=self._seconds["update"] + self._seconds["score"],
            generate_s=self._seconds["generate"],
            reward_s=self._seconds["reward"],
            evaluate_s=self._seconds["evaluate"],
            peak_memory_mb=self._largest_memory(),
            peak_memory_of=self._memory.scope,
        )

    def _elapsed(self) -> dict[str, float]:
        """Wall and CPU seconds of this run, earlier sittings included."""
        now = _processor_and_wall()
        return {name: self._earlier[name] + now[name] - self._began[name] for name in now}

    def _largest_memory(self) -> float:
        """MiB, earlier sittings included."""
        return max(self._earlier_memory, self._memory.mebibytes())


def _processor_and_wall() -> dict[str, float]:
    return {"wall_s": time.perf_counter(), "cpu_s": time.process_time()}


def utc_now() -> str:
    """Returns the time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
