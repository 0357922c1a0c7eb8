"""Selects the valid rounds: those in which the process had its core and the machine ran as fast as in the others."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from harness.side import Probe, Round

LEAST_CPU_SHARE = 0.96
"""CPU seconds per second of a side that has a core for itself."""
SLOWEST_PROBE = 1.25
"""Times the median of all probes of a comparison."""


def median_probe(rounds: Sequence[Round]) -> Probe:
    """Returns the medians of all probes around the rounds."""
    probes = [probe for played in rounds for probe in (played.before, played.after)]
    return Probe(median(p.matmul_ms for p in probes), median(p.add_ms for p in probes))


def disturbance(played: Round, usual: Probe) -> str | None:
    """Returns why a round does not count, or None if it does.

    Args:
        played: The round.
        usual: The machine's speed in this comparison.
    """
    share = played.cpu_s / played.wall_s
    if share < LEAST_CPU_SHARE:
        return f"had {share:.0%} of a core"
    for name, found, expected in (
        ("matmul", max(played.before.matmul_ms, played.after.matmul_ms), usual.matmul_ms),
        ("add", max(played.before.add_ms, played.after.add_ms), usual.add_ms),
    ):
        if found > SLOWEST_PROBE * expected:
            return f"the {name} probe took {found:.1f} ms, usually {expected:.1f}"
    return None
