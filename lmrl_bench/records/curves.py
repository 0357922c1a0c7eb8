"""`curves.jsonl`: one JSON object per line, appended during training.

There are two kinds of line: `"kind": "train"`, which training logs (`TrainingPoint`), and `"kind":
"validation"`, which leaderboards plot (`ValidationPoint`). A checkpoint stores the length and
digest of the file, which is flushed to disk before the checkpoint; later lines are dropped on
resume and written again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import from_json

from lmrl_bench.core.digests import canonical_json
from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.files import FolderError, read_whole, remove_file, write_atomic
from lmrl_bench.records.parsing import parse_json, problems_of, require_plain
from lmrl_bench.records.record import Count, FileInfo, Name, NotNegative, Share

CURVES = "curves.jsonl"


class _Line(BaseModel):
    """Fields of every line; others are numbers whose names start as listed in `_FURTHER`."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[Name, FiniteFloat] = Field(init=False)
    _FURTHER: ClassVar[tuple[str, ...]] = ()

    iteration: Count
    tokens: Count = Field(description="generated completion tokens so far")

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.model_extra or {}:
            if not name.startswith(self._FURTHER):
                raise ValueError(
                    f"unknown field {name[:80]!r} (allowed: {', '.join(type(self).model_fields)}, "
                    f"{', '.join(f'{start}…' for start in self._FURTHER)})"
                )
        return self


class ValidationPoint(_Line):
    """One evaluation on the validation split; additional fields are `metric/<name>`."""

    _FURTHER = ("metric/",)

    kind: Literal["validation"] = "validation"
    reward: FiniteFloat = Field(description="mean reward on the validation split")
    kl_to_reference: FiniteFloat | None = Field(
        description="nats per episode; null if no policy wrote the completions"
    )
    mean_length: NotNegative = Field(description="completion tokens")
    truncated_share: Share = Field(description="completions that reached the token limit")


class TrainingPoint(_Line):
    """One iteration of training; additional fields are `rollout/<name>` and `update/<name>`."""

    _FURTHER = ("rollout/", "update/")

    kind: Literal["train"] = "train"
    episodes: Count = Field(description="so far")
    optimizer_steps: Count = Field(description="so far")
    progress: Share = Field(description="share of the budget spent")


def read_points(folder: Path) -> tuple[list[TrainingPoint], list[ValidationPoint]]:
    """Returns the validated lines of a run by kind.

    Raises:
        RecordError: As for `read_curves`; or a line has an unknown kind, a missing or unknown
            field, or a value of the wrong type.
    """
    training, validation = [], []
    for number, line in enumerate(read_curves(folder), start=1):
        try:
            if line.get("kind") == "validation":
                validation.append(ValidationPoint.model_validate(line))
            else:
                training.append(TrainingPoint.model_validate(line))
        except ValidationError as error:
            raise RecordError(
                f"{folder}/{CURVES}:{number}: {problems_of(error)}; restore it or run again with --rerun all"
            ) from error
    return training, validation


def write_curves(folder: Path, lines: Iterable[Mapping[str, Any]]) -> FileInfo:
    """Writes all lines at once, atomically."""
    texts = [_text(folder / CURVES, line) for line in lines]
    write_atomic(folder / CURVES, "".join(texts).encode())
    return file_info(folder / CURVES)


class CurvesMark(NamedTuple):
    """The part of a curves file that a checkpoint refers to."""

    size: int
    sha256: str


class CurvesWriter:
    """Appends to the curves of one run, and detects changes to the file by others.

    Args:
        folder: The folder of the run; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CURVES
        self._digest = hashlib.sha256()
        self._known = (0, 0, 0)

    def begin(self, content: bytes = b"") -> None:
        """Replaces the file by one with this content."""
        if self.path.is_dir():
            remove_file(self.path)
        write_atomic(self.path, content)
        self._digest = hashlib.sha256(content)
        self._known = _identity(self.path.stat())

    def append(self, line: Mapping[str, Any]) -> None:
        """Appends one line with a single write; a line that does not fit on the disk is removed.

        Raises:
            RecordError: A number is not finite, the file cannot be written, or it was changed by
                someone else.
        """
        content = _text(self.path, line).encode()
        with self._opened() as handle:
            written = os.write(handle, content)
            if written < len(content):
                os.ftruncate(handle, os.fstat(handle).st_size - written)
                raise OSError(f"{written} of {len(content)} bytes written; is the disk full?")
            self._known = _identity(os.fstat(handle))
        self._digest.update(content)

    def sync(self) -> CurvesMark:
        """Flushes the file to disk; returns the part that a checkpoint must remember.

        Raises:
            RecordError: The file cannot be flushed, or was changed by someone else.
        """
        with self._opened() as handle:
            os.fsync(handle)
        return CurvesMark(self._known[2], self._digest.hexdigest())

    def info(self) -> FileInfo:
        """Returns name, digest and number of lines of the finished file.

        Raises:
            RecordError: The file is not the one written.
        """
        self.sync()
        found = file_info(self.path)
        if found.sha256 != self._digest.hexdigest():
            raise _changed(self.path)
        return found

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            try:
                # Another device, inode or size means that the file was replaced or appended to.
                if _identity(os.fstat(handle)) != self._known:
                    raise _changed(self.path)
                yield handle
            finally:
                os.close(handle)
        except FileNotFoundError:
            raise _changed(self.path) from None
        except OSError as error:
            raise FolderError(
                f"{self.path}: cannot be written: {error.strerror or error}"
            ) from error


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_size


def _changed(path: Path) -> FolderError:
    return FolderError(
        f"{path}: changed, moved or removed by another program during the run; do not modify "
        "the folder, and run the same command again"
    )


def read_curves(folder: Path | str) -> list[dict[str, Any]]:
    """Returns all lines.

    Raises:
        RecordError: The file is missing, or a line is not a JSON object (with file and line).
    """
    path = f"{folder}/{CURVES}"
    lines, torn = _read(path)
    if torn:
        raise RecordError(f"{path}:{len(lines) + 1}: the last line is incomplete; resume the run")
    return lines


def curves_until(folder: Path, mark: CurvesMark) -> tuple[bytes, int]:
    """Returns the curves that a checkpoint refers to, without lines that a resumed run rewrites.

    Args:
        folder: The folder of the run.
        mark: The part stored in the checkpoint.

    Returns:
        The content, and the number of incomplete lines after it (0 or 1).

    Raises:
        RecordError: The file is missing, or does not start with the part in the checkpoint.
    """
    path = folder / CURVES
    remedy = (
        "restore it or run with --rerun all, or delete the folder of the checkpoint to start again"
    )
    try:
        content = read_whole(str(path))
    except FileNotFoundError:
        raise RecordError(f"{path}: missing, but there is a checkpoint; {remedy}") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}; {remedy}") from error
    known, rest = content[: mark.size], content[mark.size :]
    if hashlib.sha256(known).hexdigest() != mark.sha256:
        raise RecordError(
            f"{path}: not the curves that the checkpoint was written with ({len(known):,} of "
            f"{mark.size:,} bytes exist, sha256 differs); {remedy}"
        )
    return known, int(bool(rest) and not rest.endswith(b"\n"))


def file_info(path: Path) -> FileInfo:
    """Returns name, digest and number of lines of a text file next to the record.

    Raises:
        RecordError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be read ({error.strerror or error}); run again with --rerun all"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    return FileInfo(path=path.name, sha256=digest, rows=content.count(b"\n"))


def _text(path: Path, line: Mapping[str, Any]) -> str:
    try:
        return canonical_json(dict(line)) + "\n"
    except (ValueError, TypeError) as error:
        raise RecordError(f"{path}: a line cannot be written ({error}): {dict(line)!r}") from error


def _read(path: str) -> tuple[list[dict[str, Any]], int]:
    """Returns the complete lines and the number of incomplete ones."""
    try:
        content = read_whole(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    raw = content.split(b"\n")
    torn = 1 if raw.pop() else 0  # after a final line break, the last part is empty
    return _objects(raw) or [_object(path, *line) for line in enumerate(raw, start=1)], torn


def _objects(raw: list[bytes]) -> list[dict[str, Any]]:
    """Parses all lines at once; returns [] on any error, so that the caller can locate it."""
    try:
        lines = [from_json(text, allow_inf_nan=False) for text in raw]
        require_plain(lines, b"".join(raw))
    except ValueError:
        return []
    return lines if all(isinstance(line, dict) for line in lines) else []


def _object(path: str, number: int, text: bytes) -> dict[str, Any]:
    try:
        line = parse_json(text)
    except ValueError as error:
        raise RecordError(
            f"{path}:{number}: not JSON: {error}; run again with --rerun all"
        ) from error
    if not isinstance(line, dict):
        raise RecordError(f"{path}:{number}: not a JSON object; run again with --rerun all")
    return line
