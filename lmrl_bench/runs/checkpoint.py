"""Checkpoints of a run: one file, written atomically, holding tensors and plain data only (no code is loaded).

The file ends with the sha256 of what comes before, so that one that was damaged is refused.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from lmrl_bench.core.atomic import atomic_file
from lmrl_bench.core.errors import RecordError
from lmrl_bench.core.wording import reason_of
from lmrl_bench.records.files import remove_file

FORMAT = 4
REMEDY = "start again with --rerun all, or delete the folder of the checkpoint"
_SEAL = b"\nsha256 "
_SEAL_SIZE = len(_SEAL) + 64


class _Hashed:
    """A file whose digest is made as it is written."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.stream.write(content)

    def flush(self) -> None:
        self.stream.flush()


def save_checkpoint(folder: Path, state: dict[str, Any], *, key: str) -> None:
    """Writes `folder/checkpoint/state.pt`, flushed to the disk before it takes the place of the older one.

    Args:
        folder: the run's folder; it must exist.
        state: tensors and plain data.
        key: names the run it belongs to: digests of settings, task and initial policy, and the seed.

    Raises:
        OSError: The folder cannot be written, or is gone.
    """
    target = folder / "checkpoint" / "state.pt"
    target.parent.mkdir(exist_ok=True)
    with atomic_file(target, temporary=target.with_suffix(".tmp")) as stream:
        hashed = _Hashed(stream)
        torch.save({"format": FORMAT, "key": key, "state": state}, cast("BinaryIO", hashed))
        stream.write(_SEAL + hashed.digest.hexdigest().encode())


def load_checkpoint(folder: Path, *, key: str) -> dict[str, Any] | None:
    """Returns the state of the run's checkpoint, or None if there is none.

    Raises:
        RecordError: The file is damaged, or belongs to another run.
    """
    path = folder / "checkpoint" / "state.pt"
    if not os.path.lexists(path):
        return None
    try:
        with _checked(path) as content:
            stored = torch.load(cast("BinaryIO", content), weights_only=True, map_location="cpu")
    except RecordError:
        raise
    except Exception as error:  # whatever a crafted file makes torch raise
        raise RecordError(
            f"{path}: the checkpoint cannot be read ({reason_of(error)}); {REMEDY}"
        ) from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT or stored.get("key") != key:
        raise RecordError(
            f"{path}: the checkpoint belongs to another run configuration (settings, task, start or "
            f"version of the format); {REMEDY}, or choose another --out"
        )
    state: dict[str, Any] = stored["state"]
    return state


@contextmanager
def _checked(path: Path) -> Iterator[mmap.mmap]:
    """Opens what was sealed, without reading it into memory.

    Raises:
        RecordError: The seal is missing or does not fit.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size - _SEAL_SIZE
        stream.seek(max(size, 0))
        seal = stream.read()
        if size <= 0 or not seal.startswith(_SEAL):
            raise RecordError(
                f"{path}: the checkpoint cannot be read (it is damaged, or an older version wrote it: its "
                f"sha256 is missing at the end); {REMEDY}"
            )
        with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as content:
            if seal != _SEAL + hashlib.sha256(content).hexdigest().encode():
                raise RecordError(
                    f"{path}: the checkpoint cannot be read (it is damaged: its sha256 differs); {REMEDY}"
                )
            yield content


def remove_checkpoint(folder: Path) -> None:
    """Removes the checkpoint of a run that is done, and what a kill left of one.

    Raises:
        RecordError: It cannot be removed.
    """
    path = folder / "checkpoint" / "state.pt"
    remove_unfinished(folder)
    remove_file(path)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        remove_file(path.parent)


def remove_unfinished(folder: Path) -> None:
    """Removes a checkpoint whose writer was killed, which is not the run's checkpoint yet."""
    remove_file(folder / "checkpoint" / "state.tmp")
    if not os.path.lexists(folder / "checkpoint" / "state.pt"):
        with suppress(OSError):
            (folder / "checkpoint").rmdir()
