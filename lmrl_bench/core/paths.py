"""Locations of bundled folders (tasks, leaderboards), and paths in published files."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

PACKAGE = Path(__file__).resolve().parents[1]
_STEP = r"(?:/|\\{1,2})[^\s'\"`<>|()\[\]{},;/\\:]+"
_PATH = re.compile(
    rf"(?<![\w./\\~-])(?:~[\w.-]*(?:{_STEP})+|(?:[A-Za-z]:)?(?:{_STEP}){{2,}})[/\\]*"
)
"""An absolute path in a text, but not a URL, a pair of words (and/or), or a relative path."""


def bundled(name: str) -> Path:
    """Returns the bundled top-level folder `name` ("tasks" or "leaderboards").

    In a checkout it is next to the package, in a wheel inside it.
    """
    packaged = PACKAGE / "_bundled" / name
    return packaged if packaged.is_dir() else PACKAGE.parent / name


@lru_cache(maxsize=1024)
def public_name(name: str) -> str:
    """Returns the published name of a model or folder, without a private folder.

    Names and relative paths stay. Absolute paths, paths in a home folder and paths that climb
    (`..`) are reduced to their last component. The result depends only on the text, so that digests
    are the same on every machine.
    """
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        if path.is_absolute() or path.drive or ".." in path.parts or name.startswith("~"):
            return path.name if path.name.strip("~.") and path.name[0] != "~" else "model"
    return name


def is_plain_name(name: str) -> bool:
    """Returns whether a text names something directly inside a folder."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def without_folders(text: str) -> str:
    """Removes private folders from a text that will be published.

    Paths below the working directory and below the checkout become relative; other absolute paths
    are reduced to their last component.
    """
    text = text.replace("file:///", "/")
    roots = dict.fromkeys([Path.cwd(), PACKAGE.parent])
    for root in sorted(map(str, roots), key=len, reverse=True):
        if len(Path(root).parts) > 1:
            text = re.sub(rf"(?<![\w.-]){re.escape(root)}{re.escape(os.sep)}", "", text)
            text = re.sub(rf"(?<![\w.-]){re.escape(root)}(?![\w.-])", ".", text)
    home = str(Path.home())
    if len(Path(home).parts) > 1:
        text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text)
    return _PATH.sub(_last_part, text)


def _last_part(found: re.Match[str]) -> str:
    parts = re.split(r"[/\\]+", found[0].rstrip("/\\"))
    home_of_user = len(parts) == 3 and parts[1] in ("home", "Users")
    return "~" if home_of_user else parts[-1]
