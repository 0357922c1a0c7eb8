"""Files and folders that a reader sees whole or not at all: written next to their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` when the block ends, flushed to the disk; on an error it goes.

    Args:
        path: The file; its folder must exist.
        temporary: Where it is written first, in the same folder; default: `.<name>.unfinished`.

    Raises:
        OSError: The folder cannot be written.
    """
    place = temporary or path.with_name(f".{path.name}.unfinished")
    try:
        with place.open("wb") as stream:
            yield stream
            stream.flush()
            # Without it a power cut can leave the new name with no content.
            os.fsync(stream.fileno())
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)  # half a file on a full disk would keep it full
    sync_folder(path.parent)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes a folder in a temporary place and then moves it, replacing an existing one.

    Args:
        folder: The folder.
        write: Fills the temporary folder that it is given.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write(place)
        place.chmod(0o755)
        for file in place.iterdir():
            if file.is_file():
                file.chmod(0o644)  # safetensors creates files readable only by their owner
        if folder.exists():
            old = place.with_name(f"{place.name}-old")
            folder.replace(old)
            place.replace(folder)
            shutil.rmtree(old)
        else:
            place.replace(folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flushes the folder's entries, so that a renaming in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
