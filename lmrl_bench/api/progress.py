"""Progress and remarks that the calls of this package show while they work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from lmrl_bench.core.events import Listener, silent

Progress: TypeAlias = bool | Listener
"""True: bars on a terminal, else lines, both on stderr. False: nothing. Or a function of events."""
Say: TypeAlias = Callable[[str], None]
"""Takes one remark for the user, for example `print`."""


def nothing(_text: str) -> None:
    """Says nothing."""


@contextmanager
def shown(progress: Progress, total: int) -> Iterator[Listener]:
    """Yields the listener for `progress` while its display is open.

    Args:
        progress: What the caller asked for.
        total: Number of runs.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield silent
    else:
        from lmrl_bench.launchers.progress import LiveBars, listener  # rich takes long to import

        display = listener(total)
        if isinstance(display, LiveBars):
            with display:
                yield display
        else:
            yield display
