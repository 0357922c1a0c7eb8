"""`curves.jsonl`: one JSON object per line, appended while a run learns.

Two kinds of line: `"kind": "train"` (what training logs, `TrainingPoint`) and `"kind": "validation"`, which boards
draw (`ValidationPoint`).
A last line that a kill has torn is dropped, and counted, on resume.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import from_json

from lmrl_bench.digests import canonical_json
from lmrl_bench.errors import RecordError
from lmrl_bench.records.files import read_whole, write_atomic
from lmrl_bench.records.parsing import parse_json, problems_of, require_plain
from lmrl_bench.records.record import Count, FileInfo, Name, NotNegative, Share

CURVES = "curves.jsonl"


class _Line(BaseModel):
    """What every line has; its further fields are numbers, and their names begin as `_FURTHER` says."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[Name, FiniteFloat] = Field(init=False)
    _FURTHER: ClassVar[tuple[str, ...]] = ()

    iteration: Count
    tokens: Count = Field(description="generated response tokens so far")

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
    """One evaluation on the validation split; further fields are `metric/<name>`."""

    _FURTHER = ("metric/",)

    kind: Literal["validation"] = "validation"
    reward: FiniteFloat = Field(description="mean reward on the validation split")
    kl_to_reference: FiniteFloat = Field(description="nats per episode")
    mean_length: NotNegative = Field(description="response tokens")
    truncated_share: Share = Field(description="responses that met the limit of tokens")


class TrainingPoint(_Line):
    """One iteration of training; further fields are `rollout/<name>` and `update/<name>`."""

    _FURTHER = ("rollout/", "update/")

    kind: Literal["train"] = "train"
    episodes: Count = Field(description="so far")
    optimiser_steps: Count = Field(description="so far")
    progress: Share = Field(description="share of the budget that is spent")


def read_points(folder: Path) -> tuple[list[TrainingPoint], list[ValidationPoint]]:
    """Returns the lines of a run by their kind, each with the fields and types of its kind.

    Raises:
        RecordError: As `read_curves`; or a line has an unknown kind, a missing or unknown field, or a value of another
            type.
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
                f"{folder}/{CURVES}:{number}: {problems_of(error)}; restore it or run again with --fresh"
            ) from error
    return training, validation


def write_curves(folder: Path, lines: Iterable[Mapping[str, Any]]) -> FileInfo:
    """Writes all lines at once, atomically."""
    texts = [_text(folder / CURVES, line) for line in lines]
    write_atomic(folder / CURVES, "".join(texts).encode())
    return file_info(folder / CURVES)


def append_curve(folder: Path, line: Mapping[str, Any]) -> None:
    """Appends one line with a single write; of a line that does not fit on the disk nothing stays.

    Raises:
        RecordError: A number is not finite, or the file cannot be written.
    """
    path = folder / CURVES
    content = _text(path, line).encode()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            written = os.write(handle, content)
            if written < len(content):
                os.ftruncate(handle, os.fstat(handle).st_size - written)
                raise OSError(f"{written} of {len(content)} bytes written; is the disk full?")
        finally:
            os.close(handle)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_curves(folder: Path | str) -> list[dict[str, Any]]:
    """Returns all lines.

    Raises:
        RecordError: The file is missing, or a line is not a JSON object (names file and line).
    """
    path = f"{folder}/{CURVES}"
    lines, torn = _read(path)
    if torn:
        raise RecordError(f"{path}:{len(lines) + 1}: the last line is torn; resume the run")
    return lines


def curves_until(folder: Path, iteration: int, validated: int) -> tuple[list[dict[str, Any]], int]:
    """Returns the lines that a checkpoint knows of, without those that a resumed run writes again.

    Args:
        folder: The folder of the run.
        iteration: The last iteration that the checkpoint holds.
        validated: The last iteration whose evaluation it holds; 0 is the evaluation before training.

    Returns:
        The lines, and how many torn ones were left out (0 or 1).

    Raises:
        RecordError: A line before the last one is not a JSON object, or the file is missing.
    """
    path = folder / CURVES
    if not path.exists():
        raise RecordError(f"{path}: missing beside a checkpoint; restore it or run with --fresh")
    lines, torn = _read(str(path))
    limits = [validated if line.get("kind") == "validation" else iteration for line in lines]
    known = [
        line for line, last in zip(lines, limits, strict=True) if line.get("iteration", 0) <= last
    ]
    return known, torn


def file_info(path: Path) -> FileInfo:
    """Returns name, digest and number of lines of a text file beside the record.

    Raises:
        RecordError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be read ({error.strerror or error}); run again with --fresh"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    return FileInfo(path=path.name, sha256=digest, rows=content.count(b"\n"))


def _text(path: Path, line: Mapping[str, Any]) -> str:
    try:
        return canonical_json(dict(line)) + "\n"
    except (ValueError, TypeError) as error:
        raise RecordError(f"{path}: a line cannot be written ({error}): {dict(line)!r}") from error


def _read(path: str) -> tuple[list[dict[str, Any]], int]:
    """Returns the whole lines and the number of torn ones."""
    try:
        content = read_whole(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    raw = content.split(b"\n")
    torn = 1 if raw.pop() else 0  # a whole file ends with a line break, so the last part is empty
    return _objects(raw) or [_object(path, *line) for line in enumerate(raw, start=1)], torn


def _objects(raw: list[bytes]) -> list[dict[str, Any]]:
    """Returns all lines; none if one of them is wrong, which is then to be looked for."""
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
        raise RecordError(f"{path}:{number}: not JSON: {error}; run again with --fresh") from error
    if not isinstance(line, dict):
        raise RecordError(f"{path}:{number}: not a JSON object; run again with --fresh")
    return line
