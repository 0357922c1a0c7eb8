"""Search spaces: the settings that `lmrl-bench leaderboard tune` may change, declared next to the settings' class.

Ranges are relative to the current setting, because a learning rate that suits a policy of four million
parameters does not suit a large one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Around:
    """From present / factor to present × factor, on a logarithmic scale."""

    factor: float

    def __str__(self) -> str:
        return f"present / {self.factor:g} to present * {self.factor:g}, logarithmic"


@dataclass(frozen=True)
class OneOf:
    """One of the values, or the present one."""

    values: tuple[int | float | str | bool, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}, or the present one"


SearchSpace = Mapping[str, Around | OneOf]
"""Field, nested ones by dots (`kl.coefficient`), to what may be tried."""
