"""Locates a task's data files and checks their digests."""

from __future__ import annotations

from pathlib import Path

from lmrl_bench.core.digests import file_digest
from lmrl_bench.core.errors import DataError
from lmrl_bench.downloads import download_path
from lmrl_bench.tasks.spec import DataSpec, Split


def data_file(folder: Path, data: DataSpec, split: Split) -> Path:
    """Returns the checked file of a split.

    Args:
        folder: The task folder; paths are relative to it, or to the download that the task names.
        data: The task's data section.
        split: The split.

    Raises:
        DownloadError: The download is not installed.
        DataError: The file is missing or its sha256 differs.
    """
    file = data.file(split)
    root = download_path(data.download) if data.download else folder
    path = root / str(file.path)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file (data.{split}.path of {folder / 'task.yaml'}); " + _remedy(data)
        )
    if file.sha256 is not None and (found := file_digest(path)) != file.sha256:
        raise DataError(
            f"{path}: sha256 is {found}, expected {file.sha256} (data.{split}.sha256 of "
            f"{folder / 'task.yaml'}); "
            + _remedy(data)
            + "; after an intended change, increase the task's version and update the sha256"
        )
    return path


def _remedy(data: DataSpec) -> str:
    if data.download:
        return f"install it again: lmrl-bench download install {data.download}"
    return "restore it (git checkout, or reinstall lmrl-bench), or run the task's build.py"
