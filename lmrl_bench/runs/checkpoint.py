"""Checkpoints of a run: one file, written atomically, holding tensors and plain data only (no code is loaded)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from lmrl_bench.errors import RecordError
from lmrl_bench.records.files import sync_folder

FORMAT = 3


def save_checkpoint(folder: Path, state: dict[str, Any], *, key: str) -> None:
    """Writes `folder/checkpoint/state.pt`, flushed to the disk before it takes the place of the older one.

    Args:
        folder: the run's folder.
        state: tensors and plain data.
        key: names the run it belongs to: digests of settings, task and start, and the seed.
    """
    target = folder / "checkpoint" / "state.pt"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save({"format": FORMAT, "key": key, "state": state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # half a state on a full disk would keep it full
    sync_folder(target.parent)


def load_checkpoint(folder: Path, *, key: str) -> dict[str, Any] | None:
    """Returns the state of the run's checkpoint, or None if there is none.

    Raises:
        RecordError: The file is corrupt, or belongs to another run.
    """
    path = folder / "checkpoint" / "state.pt"
    if not path.exists():
        return None
    remedy = "start again with --fresh, or choose another --output"
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise RecordError(f"{path}: the checkpoint cannot be read ({error}); {remedy}") from error
    if stored.get("format") != FORMAT or stored.get("key") != key:
        raise RecordError(
            f"{path}: the checkpoint belongs to another run configuration (settings, task, start or "
            f"version of the format); {remedy}"
        )
    state: dict[str, Any] = stored["state"]
    return state


def remove_checkpoint(folder: Path) -> None:
    """Removes the checkpoint of a run that is done."""
    path = folder / "checkpoint" / "state.pt"
    path.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
