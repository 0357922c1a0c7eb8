"""The texts of a record, of a failed run too: plain names, and free text without control characters."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lmrl_bench.records.curves import read_points
from lmrl_bench.records.record import (
    LONGEST_COMMAND,
    LONGEST_ERROR,
    RunRecord,
    control_character,
)

_FIELD: Final = re.compile(r"[A-Za-z0-9_./-]{1,200}")
_NEEDED: Final = ("numpy", "tokenizers", "torch", "transformers")
_VERSION: Final = re.compile(r"[0-9]+(\.[0-9a-z]+)*([.+-][0-9a-zA-Z.+-]+)?")
_PACKAGE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_PYTHON: Final = re.compile(r"3\.[0-9]+\.[0-9]+[a-z0-9+]*")
_DEVICE: Final = re.compile(r"[a-z]+(:[0-9]+)?")
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII
)
_OFFSETS: Final = (datetime.timedelta(hours=-12), datetime.timedelta(hours=14))
_FREE: Final = ("provenance.command",)


def check(folder: Path, record: RunRecord) -> Iterator[str]:
    """Yields what cannot be.

    Raises:
        RecordError: The curves cannot be read.
    """
    yield from _error(record)
    yield from _plain(record)
    yield from _provenance(record)
    yield from _times(record)
    if record.curves is not None:
        yield from _fields(folder)


def _error(record: RunRecord) -> Iterator[str]:
    if record.error is None:
        return
    kind = record.error.type
    if len(kind) > 200 or not all(part.isidentifier() for part in kind.split(".")):
        yield f"error.type is {kind[:80]!r}, which is not the name of an exception"
    for name in ("message", "traceback"):
        text = getattr(record.error, name) or ""
        if len(text) > LONGEST_ERROR:
            yield f"error.{name} has {len(text):,} characters; at most {LONGEST_ERROR:,} are allowed"
        found = control_character(text.replace("\n", "").replace("\t", ""))
        if found is not None:
            yield f"error.{name} holds the control character {found!a}"


def _plain(record: RunRecord) -> Iterator[str]:
    """Names, versions and signatures hold no markup; the configuration is compared with the leaderboard's elsewhere."""
    parts = ("task", "policy", "results", "events", "provenance")
    content = record.model_dump(mode="json", include=set(parts))
    for place, text in _texts(content):
        if place not in _FREE and set(text) & set("<>"):
            yield f"{place[:200]} holds {text[:80]!r}; names and versions have no < or >"


def _texts(content: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in plain data with its place, and every key with the place of its mapping."""
    if isinstance(content, str):
        yield place, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield place, key
            yield from _texts(value, f"{place}.{key}" if place else key)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, place)


def _provenance(record: RunRecord) -> Iterator[str]:
    source = record.provenance
    for name, text, pattern in (
        ("python", source.python, _PYTHON),
        ("device", source.device, _DEVICE),
        ("package_version", source.package_version, _VERSION),
        *((f"packages.{name}", version, _VERSION) for name, version in source.packages.items()),
        *(("packages", name, _PACKAGE) for name in source.packages),
    ):
        if not pattern.fullmatch(text):
            yield f"provenance.{name}: {text!r} is not a version, a device or the name of a package"
    missing = [name for name in _NEEDED if name not in source.packages]
    if missing:
        yield f"provenance.packages lacks {', '.join(missing)}, without which nothing runs"
    if len(source.command) > LONGEST_COMMAND:
        yield f"provenance.command has {len(source.command):,} characters; at most {LONGEST_COMMAND:,} are allowed"
    if (found := control_character(source.command)) is not None:
        yield f"provenance.command holds the control character {found!a}"
    if source.threads > 4096:
        yield f"provenance.threads is {source.threads}; at most 4096 are plausible"


def _times(record: RunRecord) -> Iterator[str]:
    moments = []
    for name in ("started", "finished"):
        text = getattr(record.time, name)
        moment = datetime.datetime.fromisoformat(text)
        moments.append(moment)
        offset = moment.utcoffset()
        if not _MOMENT.fullmatch(text) or offset is None:
            yield f"time.{name} is {text!r}; write it like 2026-01-31T12:00:00+00:00"
        elif not _OFFSETS[0] <= offset <= _OFFSETS[1]:
            yield f"time.{name} is {text!r}; no place on Earth has this offset"
    if moments[0] > moments[1]:
        yield f"time: started {record.time.started} after it finished, {record.time.finished}"


def _fields(folder: Path) -> Iterator[str]:
    """The names of further fields of the curves."""
    training, validation = read_points(folder)
    names = {name for point in (*training, *validation) for name in point.model_extra or {}}
    for name in sorted(names):
        if not _FIELD.fullmatch(name):
            yield (
                f"curves.jsonl: the name of the field {name[:80]!r} is not plain (letters, digits, _ . / - only)"
            )
