"""Opens text files from users: UTF-8, plain or gzip; errors name the line."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lmrl_bench.core.errors import DataError

MAX_RATIO: Final = 100
"""Largest expansion factor of a gzip file; text rarely exceeds 20."""

_FREE_BYTES = 64 * 2**20  # expanded size below which the factor does not matter
_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_OTHER_FILES = (
    (b"\x1f\x8b", "it is a gzip file; unpack it, or add .gz to its name once per compression"),
    (b"PAR1", "it is a Parquet file; rename it to .parquet"),
    (b"PK\x03\x04", "it is a zip archive, like .xlsx files; unpack it, or save the table as CSV in UTF-8"),
)  # fmt: skip


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Opens UTF-8 text, through gzip if the name ends in `.gz`; skips a byte-order mark.

    Raises:
        DataError: Missing file, corrupt gzip, another encoding, or a gzip file that expands beyond
            `MAX_RATIO`; may also be raised while reading.
    """
    try:
        with _open_bytes(path) as raw:
            start = raw.peek(4)[:4]
            for mark, what in _OTHER_FILES:
                if start.startswith(mark):
                    raise DataError(f"{path}: not text: {what}")
            if other := _other_encoding(start):
                raise DataError(
                    f"{path}:1: not UTF-8, looks like {other}; convert the file to UTF-8"
                )
            with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:
                yield stream
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: corrupt gzip ({error}); restore the file from its source or build it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open_bytes(path: Path) -> io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(_Bounded(path), 2**16)
    return path.open("rb")


class _Bounded(io.RawIOBase):
    """Reads a gzip file, up to a limit on its expansion: protection against decompression bombs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limit = max(_FREE_BYTES, MAX_RATIO * path.stat().st_size)
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - closed below
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._read += count
        if self._read > self._limit:
            raise DataError(
                f"{self._path}: expands to more than {MAX_RATIO} times its size; if that is intended, "
                "unpack it (gunzip) and name the unpacked file"
            )
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _other_encoding(start: bytes) -> str | None:
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    if len(start) >= 2 and b"\0" in start[:2] and start[:2] != b"\0\0":
        return "UTF-16"
    return None


def _not_utf8(path: Path) -> str:
    """Describes the first line that is not UTF-8, with a guess at its encoding."""
    with _open_bytes(path) as raw:
        for number, line in enumerate(raw, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                found = line[error.start]
                guess = "Windows-1252" if 0x80 <= found < 0xA0 else "Latin-1 or Windows-1252"
                return (
                    f"{path}:{number}: not UTF-8 (byte {found:#04x} at position {error.start + 1}); it "
                    f"looks like {guess}; convert the file to UTF-8"
                )
    return f"{path}: not UTF-8; convert the file to UTF-8"
