"""What a user needs to know of the installation before asking for help."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lmrl_bench.downloads import status
from lmrl_bench.downloads.store import cache_root

PACKAGES = ("lmrl-bench", "torch", "transformers", "gymnasium", "stable-baselines3", "evaluate")


def examine() -> list[dict[str, Any]]:
    """Returns one row per finding: what, value, remark."""
    rows = [_row("python", platform.python_version())]
    rows += [_row(name, _version(name)) for name in PACKAGES]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    rows.append(
        _row("OMP_NUM_THREADS", threads or "unset", "" if threads == "1" else "set it to 1")
    )
    rows.append(_row("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "unset")))
    rows.append(_row("cache", str(cache_root())))
    results = Path("results")
    writable = os.access(results if results.exists() else Path(), os.W_OK)
    rows.append(_row("results folder", "writable" if writable else "not writable"))
    rows += [_row(f"asset {state.asset.name}", state.detail) for state in status()]
    return rows


def _row(what: str, value: str, remark: str = "") -> dict[str, Any]:
    return {"what": what, "value": value, "remark": remark}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
