"""Events of a run, and the listeners that take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

RESUMED = "resumed"
"""Text of the event "started" of a run that goes on from a checkpoint."""


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        run: the run's name, task/row/seed.
        kind: started, step (of supervised fine-tuning, many in an iteration), iteration, evaluation, note, or finished.
        done: share of the budget used, 0 to 1.
        values: numbers of that kind (reward, kl, tokens_per_s, …).
        text: a status for people.
        counted: whether the run is one of those that were asked for; a start that is trained for
            them is not.
    """

    run: str
    kind: str
    done: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    text: str = ""
    counted: bool = True

    def line(self) -> str:
        """One line for a log."""
        numbers = " ".join(f"{name}={_short(value)}" for name, value in self.values.items())
        return " ".join(part for part in (f"[{self.run}]", self.text or self.kind, numbers) if part)


def _short(value: float) -> str:
    whole = abs(value) >= 10_000 and value == int(value)  # tokens
    return f"{value:,.0f}" if whole else f"{value:.4g}"


Listener = Callable[[Event], None]
"""Takes events: shows or forwards them."""


def silent(event: Event) -> None:
    """Shows nothing."""


def of_an_sft_policy(progress: Listener) -> Listener:
    """Returns a listener for the training of a start: shown under a name of its own, not counted."""

    def listen(event: Event) -> None:
        progress(replace(event, run=f"{event.run} (start)", counted=False))

    return listen
