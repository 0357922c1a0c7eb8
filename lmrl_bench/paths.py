"""Where bundled folders (tasks, leaderboards) lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def bundled(name: str) -> Path:
    """Returns the bundled top-level folder `name` ("tasks" or "leaderboards")."""
    packaged = PACKAGE / "_bundled" / name
    return packaged if packaged.is_dir() else PACKAGE.parent / name
