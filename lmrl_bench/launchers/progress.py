"""Shows the events of runs: as live bars in a terminal, or as plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from lmrl_bench.core.events import RESUMED, Event, Listener
from lmrl_bench.core.wording import duration

_MOVES = ("step", "iteration")
"""Kinds of events that say how far a run is."""


class TimeLeft:
    """Estimates how long runs will still train, from the share of the budget that they have used in this sitting."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, float]] = {}

    def words(self, event: Event, now: float) -> str:
        """Returns "12 % done, about 6 min left", without the time while nothing can be said of it."""
        if event.kind == "started" and event.text != RESUMED:
            self._first[event.run] = (now, 0.0)
        if event.kind not in _MOVES:
            return ""
        began, share = self._first.setdefault(event.run, (now, event.done))
        words = f"{100 * event.done:.0f} % done"
        gained = event.done - share
        if gained <= 0 or now <= began:
            return words
        return f"{words}, about {duration((now - began) * (1 - event.done) / gained)} left"


class PlainLines:
    """One line per event on stderr, at most one iteration line per run every `every` seconds."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.every = every
        self._last: dict[str, float] = {}
        self._left = TimeLeft()

    def __call__(self, event: Event) -> None:
        """Writes the event's line."""
        now = time.monotonic()
        left = self._left.words(event, now)
        if event.kind in _MOVES:
            if now - self._last.get(event.run, now - self.every) < self.every:
                return
            self._last[event.run] = now
        with suppress(OSError):  # whoever read the lines is gone, or the disk full: the run goes on
            line = f"{event.line()} ({left})" if left else event.line()
            print(line, file=self.stream, flush=True)


class LiveBars:
    """A live display on a terminal: one bar per running cell and one for the whole grid."""

    def __init__(self, total_runs: int) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.whole = self.progress.add_task("all runs", total=float(total_runs), numbers="")
        self.bars: dict[str, TaskID] = {}
        self.finished: set[str] = set()
        self.uncounted: set[str] = set()

    def __enter__(self) -> LiveBars:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Moves the bars."""
        if event.kind == "finished":
            self._finish(event)
            return
        if event.kind == "note":
            self.progress.console.print(event.line(), markup=False)
            return
        if not event.counted:
            self.uncounted.add(event.run)
        if event.run not in self.bars:
            self.bars[event.run] = self.progress.add_task(event.run, total=1.0, numbers="")
        shown = ("reward", "kl", "tokens_per_s")
        numbers = "  ".join(f"{k} {event.values[k]:.3g}" for k in shown if k in event.values)
        numbers = "  ".join(part for part in (event.text, numbers) if part)
        if event.kind in _MOVES:
            self.progress.update(self.bars[event.run], completed=event.done, numbers=numbers)
        self._move_whole()

    def _finish(self, event: Event) -> None:
        bar = self.bars.pop(event.run, None)
        if bar is not None:
            self.progress.remove_task(bar)
        if event.counted:
            self.finished.add(event.run)
        self.progress.console.print(event.line(), markup=False)  # "[run]" would be read as markup
        self._move_whole()

    def _move_whole(self) -> None:
        running = [bar for name, bar in self.bars.items() if name not in self.uncounted]
        done = sum(self.progress.tasks[self._index(bar)].completed for bar in running)
        n_finished = len(self.finished)
        self.progress.update(self.whole, completed=n_finished + done, numbers=f"{n_finished} done")

    def _index(self, bar: TaskID) -> int:
        return next(i for i, task in enumerate(self.progress.tasks) if task.id == bar)


class GridProgress:
    """Adds to the events of a grid which cell of how many it is, what runs, and how long the rest will take.

    Args:
        total: Cells of the grid, those included that are done already.
        show: Takes the events.
        weights: Work of each cell, in any unit; 1 where nothing is said.
    """

    def __init__(
        self, total: int, show: Listener, weights: Mapping[str, float] | None = None
    ) -> None:
        self.total = total
        self.show = show
        self.weights = weights or {}
        self.tokens = 0.0
        self._began = time.monotonic()
        self._before: set[str] = set()
        self._finished: set[str] = set()
        self._running: dict[str, float] = {}
        self._first: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Passes the event on."""
        if event.counted:
            event = self._noted(event)
        self.show(event)

    def _noted(self, event: Event) -> Event:
        if event.kind in ("started", *_MOVES):
            self._running[event.run] = event.done
            if event.kind in _MOVES or event.text != RESUMED:
                # A resumed cell did a part of its work in an earlier sitting.
                self._first.setdefault(event.run, event.done)
            return event
        if event.kind != "finished":
            return event
        self._running.pop(event.run, None)
        old = event.text.startswith("already")
        (self._before if old else self._finished).add(event.run)
        self.tokens += 0.0 if old else event.values.get("tokens", 0.0)
        return replace(event, text=f"{event.text} ({self._words(old)})")

    def _words(self, old: bool) -> str:
        done = len(self._before | self._finished)
        parts = [f"{done} of {self.total}"]
        if not old:
            parts += [f"{len(self._running)} running"] if self._running else []
            parts += [f"{self.tokens:,.0f} tokens"] if self.tokens else []
            left = self._left(done)
            parts += [f"about {duration(left)} left"] if left is not None else []
        return ", ".join(parts)

    def _left(self, done: int) -> float | None:
        """Seconds until all cells are done, at the speed of this sitting; None when nothing is left."""
        if done >= self.total:
            return None
        shares = self._running | dict.fromkeys(self._finished, 1.0)
        ours = sum(
            self._weight(name) * (share - self._first.get(name, 0.0))
            for name, share in shares.items()
        )
        left = sum(self.weights.values()) if self.weights else float(self.total)
        left -= sum(self._weight(name) for name in self._before)
        left -= sum(self._weight(name) * share for name, share in shares.items())
        if ours <= 0:
            return None
        return (time.monotonic() - self._began) * max(left, 0.0) / ours

    def _weight(self, name: str) -> float:
        return self.weights.get(name, 1.0)


def listener(total_runs: int) -> LiveBars | PlainLines:
    """Returns live bars on a terminal, else plain lines."""
    return LiveBars(total_runs) if sys.stderr.isatty() else PlainLines()
