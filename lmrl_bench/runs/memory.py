"""The largest memory that a run needed, though its process may have done other runs before."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path
from typing import Literal

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Largest resident memory of this process since the object was made.

    Linux can reset the counter (proc(5), `clear_refs`); elsewhere only the peak of the
    process's whole life is known, and `scope` says so. What earlier runs left in the process counts
    as long as it stays.

    Attributes:
        scope: what the number is of.
    """

    def __init__(self) -> None:
        self.scope: Literal["run", "process"] = "run" if _reset() else "process"

    def mebibytes(self) -> float:
        """Returns the largest resident memory so far, MiB."""
        if self.scope == "run":
            return _kibibytes() / 1024
        unit = 1024 if sys.platform != "darwin" else 1024 * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _reset() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK)
        _kibibytes()
    except (OSError, ValueError):
        return False
    return True


def _kibibytes() -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{_STATUS} has no VmHWM")
    return int(found[1])
