"""Provenance of a run: versions, commit, command and machine, without private folders."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lmrl_bench.core.paths import PACKAGE, without_folders
from lmrl_bench.records.record import LONGEST_COMMAND, Provenance, readable
from lmrl_bench.speedups import speedups_on

PACKAGES = (
    "bert-score",
    "evaluate",
    "gymnasium",
    "numpy",
    "pyarrow",
    "pydantic",
    "rouge-score",
    "sacrebleu",
    "safetensors",
    "scikit-learn",
    "scipy",
    "stable-baselines3",
    "tokenizers",
    "torch",
    "transformers",
)
CHANGED = "provenance_changed"
"""Event in records: sessions that resumed a run elsewhere, or with other code or versions."""
_CODE = ("lmrl_bench", "tasks", "pyproject.toml")


def collect(device: str, threads: int) -> Provenance:
    """Returns the provenance of the current process.

    Args:
        device: Device of the run ("cpu", "cuda:0").
        threads: Number of torch threads.
    """
    commit, dirty = _checkout(PACKAGE.parent)
    libc = " ".join(platform.libc_ver()).strip()
    return Provenance(
        package_version=version("lmrl-bench"),
        commit=commit,
        dirty=dirty,
        command=readable(command_line(sys.argv), LONGEST_COMMAND),
        python=platform.python_version(),
        platform=" ".join(filter(None, (platform.system(), platform.machine(), libc))),
        packages=_versions(PACKAGES),
        device=device,
        threads=threads,
        speedups=speedups_on(),
    )


def changes(first: Provenance, now: Provenance) -> list[str]:
    """Returns the fields, except the command, in which a later session differs from the first."""
    old, new = first.model_dump(exclude={"command"}), now.model_dump(exclude={"command"})
    return [name for name in old if old[name] != new[name]]


def command_line(arguments: Sequence[str]) -> str:
    """Returns the command as typed, without private folders.

    Paths below the working directory become relative, other absolute paths are reduced to their
    last component.
    """
    program = Path(arguments[0]).name if arguments else ""
    if program == "__main__.py":
        program = "lmrl-bench"
    return " ".join([program, *map(_quoted, map(_reduced, arguments[1:]))]).strip()


def format_traceback(error: BaseException) -> str:
    """Returns the traceback with file names only: records must not contain private folders."""
    text = "".join(traceback.format_exception(error))
    return without_folders(re.sub(r'(?<=File ")[^"\n]*[/\\]([^"\n/\\]+)(?=")', r"\1", text))


def _reduced(argument: str) -> str:
    head, separator, value = argument.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return argument
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else Path(path.name)
    return f"{head}{separator}{shown.as_posix()}"


def _quoted(argument: str) -> str:
    plain = argument and not set(argument) & set(" \t\n'\"\\$*?[]{}()<>|&;`#~!")
    return argument if plain else "'" + argument.replace("'", "'\\''") + "'"


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # an optional package
    return found


def _checkout(folder: Path) -> tuple[str | None, bool | None]:
    """Returns commit and whether the code was modified, or (None, None) outside a checkout."""
    if not (folder / ".git").exists():
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", *_CODE)
    return commit or None, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """Returns git's output, or None if git is not installed or fails."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # no lock conflicts between workers
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
