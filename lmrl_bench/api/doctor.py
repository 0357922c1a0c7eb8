"""Facts about the installation that a user needs before asking for help."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lmrl_bench.downloads import status
from lmrl_bench.downloads.store import cache_root

PACKAGES = ("lmrl-bench", "torch", "transformers", "gymnasium", "stable-baselines3", "evaluate")


@dataclass(frozen=True)
class Finding:
    """One fact about the installation.

    Attributes:
        what: What was looked at.
        value: What was found.
        remark: What to change; empty if nothing.
    """

    what: str
    value: str
    remark: str = ""


def doctor() -> list[Finding]:
    """Returns versions, threads, folders and the state of the downloads."""
    found = [Finding("python", platform.python_version())]
    found += [Finding(name, _version(name)) for name in PACKAGES]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    remark = "" if threads == "1" else "set it to 1: runs use one thread per process"
    found.append(Finding("OMP_NUM_THREADS", threads or "unset", remark))
    found.append(Finding("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "unset")))
    found.append(Finding("cache", str(cache_root())))
    results = Path("results")
    writable = os.access(results if results.exists() else Path(), os.W_OK)
    found.append(Finding("results folder", "writable" if writable else "not writable"))
    return [
        *found,
        *(Finding(f"download {state.download.name}", state.detail) for state in status()),
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
