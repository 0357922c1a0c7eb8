"""The reader `hf-datasets`: Hugging Face `datasets`, local or from the hub at a pinned revision.

`datasets` is the optional dependency `data`. It is imported only by tasks that use it, and honors
HF_HUB_OFFLINE.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmrl_bench.core.errors import DataError, nearest
from lmrl_bench.tasks.readers import Row
from lmrl_bench.tasks.spec import DataSpec, Split

_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")


def read_dataset(folder: Path, data: DataSpec, split: Split) -> Iterator[Row]:
    """Yields the rows of one split of a `datasets` data set.

    Args:
        folder: The task folder; local paths are relative to it.
        data: `dataset` is a folder written by `save_to_disk`, a folder of csv, json or parquet
            files, or a hub id with `revision`.
        split: The task's split; `data.<split>.split` names the split of the data set.

    Raises:
        DataError: `datasets` is not installed, the revision is missing, the data set cannot be
            loaded, or it has no such split.
    """
    _require_package(str(data.dataset))
    splits = _load(folder, data)
    name = str(data.file(split).split)
    if name not in splits:
        found = [str(key) for key in splits]
        raise DataError(
            f"data set '{data.dataset}' has no split '{name}'{nearest(name, found)} "
            f"(it has: {', '.join(found)}); change data.{split}.split"
        )
    yield from _rows_of(splits[name], f"{data.dataset}[{name}]")


def read_folder(folder: Path) -> dict[str, Iterator[Row]]:
    """Returns the rows of each split in a `save_to_disk` folder, or `{"": rows}` without splits.

    Raises:
        DataError: `datasets` is not installed, or the folder is not a data set.
    """
    _require_package(str(folder))
    if not any((folder / name).is_file() for name in _SAVED):
        raise DataError(
            f"{folder}: not a folder written by `save_to_disk` of `datasets`; give a file, or such a "
            "folder"
        )
    saved = _from_disk(folder)
    splits = saved if isinstance(saved, dict) else {"": saved}
    return {str(name): _rows_of(split, f"{folder}[{name}]") for name, split in splits.items()}


def _from_disk(folder: Path) -> Any:
    import datasets

    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # datasets raises a dozen unrelated exception types
        raise DataError(f"{folder} cannot be loaded ({type(error).__name__}: {error})") from error


def _rows_of(split: Any, place: str) -> Iterator[Row]:
    try:
        for number, values in enumerate(split, start=1):
            yield Row(f"{place}, row {number}", values)
    except (
        Exception
    ) as error:  # a damaged Arrow file raises what its decoder meets, SystemError too
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{place}: cannot read a row ({reason}); a file of the data set is damaged, copy it again"
        ) from error


def _require_package(name: str) -> None:
    if importlib.util.find_spec("datasets") is None:
        raise DataError(
            f"data set '{name}': the reader hf-datasets requires the package `datasets`; "
            "install it with: pip install 'lmrl-bench[data]'"
        )


def _load(folder: Path, data: DataSpec) -> Any:
    """Loads all splits of a data set, by name."""
    import datasets

    local = folder / str(data.dataset)
    try:
        if local.is_dir() and any((local / name).is_file() for name in _SAVED):
            saved = datasets.load_from_disk(str(local))
            return saved if isinstance(saved, dict) else {"train": saved}
        if local.is_dir():
            return datasets.load_dataset(str(local))
        if str(data.dataset).startswith((".", "/", "~")):
            raise DataError(f"{local}: no such folder (data.dataset)")
        if data.revision is None:
            raise DataError(
                f"data set '{data.dataset}': a hub id requires data.revision, a commit (40 hex "
                f"digits); there is no local folder {local}"
            )
        return datasets.load_dataset(str(data.dataset), revision=data.revision)
    except DataError:
        raise
    except Exception as error:  # datasets raises a dozen unrelated exception types
        raise DataError(
            f"data set '{data.dataset}' cannot be loaded ({type(error).__name__}: {error}); without a "
            "network (or with HF_HUB_OFFLINE), save it elsewhere with `save_to_disk` and name that "
            "folder in data.dataset"
        ) from error
