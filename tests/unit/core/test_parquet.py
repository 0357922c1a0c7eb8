"""Files of others are read in another process: a crafted one is a message, and the next file is read all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from lmrl_bench.core import parquet
from lmrl_bench.core.parquet import unreadable


def written(path, table, **options):
    pyarrow.parquet.write_table(table, path, **options)
    return path


def not_utf8():
    offsets, values = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")
    column = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, values])
    return pyarrow.table({"a": column})


def test_every_file_has_its_answer(tmp_path):
    good = written(tmp_path / "good.parquet", pyarrow.table({"a": ["x", None], "b": [[1], []]}))
    text = written(tmp_path / "text.parquet", not_utf8())
    twice = pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, names=["a", "a"])
    twice = written(tmp_path / "twice.parquet", twice)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(good.read_bytes()[:-20])
    found = unreadable([good, text, twice, cut, tmp_path / "missing.parquet", good])
    assert list(found) == [text, twice, cut, tmp_path / "missing.parquet"]
    assert "UTF8" in found[text]
    assert found[twice] == "the column 'a' occurs twice; rename one"


def test_a_file_that_ends_the_process_costs_that_file_alone(tmp_path, monkeypatch):
    """The child is ended as Arrow's C++ code ends it, by a signal, when it comes to the second file."""
    paths = [written(tmp_path / f"{n}.parquet", pyarrow.table({"a": ["x"]})) for n in range(3)]
    script = tmp_path / "child.py"
    script.write_text(
        Path(parquet.__file__)
        .read_text()
        .replace(
            "    row, size = 0, 0\n",
            "    if path.endswith('1.parquet'):\n        import os\n        os.abort()\n    row, size = 0, 0\n",
        )
    )
    monkeypatch.setattr(parquet, "__file__", str(script))
    assert unreadable(paths) == {paths[1]: "the process that read it was killed by SIGABRT"}


def test_values_without_end_are_refused(tmp_path, monkeypatch):
    """A small file can hold the same text a million times."""
    table = pyarrow.table({"a": ["x" * 1000] * 200_000})
    path = written(tmp_path / "bomb.parquet", table)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(parquet, "MAX_BYTES", 2**27)
    assert unreadable([path]) == {path: "more than 0.125 GiB of values; split the file"}


def test_a_file_that_is_read_for_ever_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "pipe.parquet"
    os.mkfifo(path)  # nobody writes into it
    monkeypatch.setattr(parquet, "_SECONDS", 1.0)
    assert unreadable([path]) == {path: "reading it takes longer than 1 s"}


@pytest.mark.parametrize("code", [3, -signal.SIGSEGV])
def test_the_end_is_named(code):
    assert parquet._end(code) in (
        "the process that read it exited with 3",
        "the process that read it was killed by SIGSEGV",
    )
