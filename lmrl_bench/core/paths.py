"""Where bundled folders (tasks, leaderboards) lie, and how paths are named where others read them."""

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
"""An absolute path in a text; URLs, shares of two words (and/or) and relative paths are none."""


def bundled(name: str) -> Path:
    """Returns the bundled top-level folder `name` ("tasks" or "leaderboards").

    In a checkout it lies beside the package, in a wheel inside it.
    """
    packaged = PACKAGE / "_bundled" / name
    return packaged if packaged.is_dir() else PACKAGE.parent / name


@lru_cache(maxsize=1024)
def public_name(name: str) -> str:
    """Returns the name of a model or folder as it is published: without a folder of the user's.

    Names and relative paths stay; an absolute path, one below a home folder and one that climbs
    (`..`) become their last part. Only the text decides, so that digests are the same everywhere.
    """
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        if path.is_absolute() or path.drive or ".." in path.parts or name.startswith("~"):
            return path.name if path.name.strip("~.") and path.name[0] != "~" else "model"
    return name


def is_plain_name(name: str) -> bool:
    """True if a text names something inside a folder, and nothing above or below it."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def without_folders(text: str) -> str:
    """Returns a text that others may read: paths relative to the work or reduced to their last part.

    Paths below the working folder and below the checkout become relative; of any other absolute
    path the last part stays.
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
    home_of_somebody = len(parts) == 3 and parts[1] in ("home", "Users")
    return "~" if home_of_somebody else parts[-1]
