"""Curves are appended line by line; a kill costs at most the last line."""

import hashlib
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.errors import RecordError
from lmrl_bench.records.store import (
    append_curve,
    curves_until,
    file_info,
    read_curves,
    write_curves,
)

LINES = [{"kind": "train", "iteration": i, "reward": i / 3} for i in range(5)]


def test_append_and_write_give_the_same_bytes(tmp_path):
    (tmp_path / "b").mkdir()
    for line in LINES:
        append_curve(tmp_path, line)
    info = write_curves(tmp_path / "b", LINES)
    content = (tmp_path / "curves.jsonl").read_bytes()
    assert content == (tmp_path / "b" / "curves.jsonl").read_bytes()
    assert (info.path, info.rows) == ("curves.jsonl", 5)
    assert info.sha256 == hashlib.sha256(content).hexdigest()
    assert read_curves(tmp_path) == LINES


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 400), iteration=st.integers(0, 6))
def test_whatever_a_kill_leaves_resume_mends(tmp_path_factory, cut, iteration):
    folder = tmp_path_factory.mktemp("c")
    write_curves(folder, LINES)
    path = folder / "curves.jsonl"
    path.write_bytes(path.read_bytes()[:cut])
    whole = path.read_bytes().count(b"\n")
    torn = int(not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0)
    if torn:
        with pytest.raises(RecordError, match="the last line is torn"):
            read_curves(folder)
    before = path.read_bytes()
    known = [line for line in LINES[:whole] if line["iteration"] <= iteration]
    assert curves_until(folder, iteration, 0) == (known, torn)
    assert path.read_bytes() == before


def test_an_evaluation_after_the_checkpoint_is_left_out(tmp_path):
    """The last one comes without an iteration of its own: a kill may fall between it and the next checkpoint."""
    lines = [
        {"kind": "validation", "iteration": 0},
        *({"kind": "train", "iteration": i} for i in (1, 2)),
        {"kind": "validation", "iteration": 2},
        {"kind": "train", "iteration": 3},
    ]
    write_curves(tmp_path, [*lines, {"kind": "validation", "iteration": 3}])
    assert curves_until(tmp_path, 3, 2) == (lines, 0)
    assert curves_until(tmp_path, 3, 3)[0] == read_curves(tmp_path)
    assert curves_until(tmp_path, 2, 0) == (lines[:3], 0)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"curves\.jsonl: missing beside a checkpoint"):
        curves_until(tmp_path, 3, 2)
    with pytest.raises(RecordError, match=r"curves\.jsonl: cannot be read .* --fresh"):
        file_info(tmp_path / "curves.jsonl")


def test_a_broken_line_in_the_middle_names_its_number(tmp_path):
    (tmp_path / "curves.jsonl").write_text('{"iteration": 1}\n{bad\n{"iteration": 2}\n')
    with pytest.raises(RecordError, match=r"curves\.jsonl:2: not JSON"):
        curves_until(tmp_path, 5, 5)
    (tmp_path / "curves.jsonl").write_text("[]\n")
    with pytest.raises(RecordError, match=r"curves\.jsonl:1: not a JSON object"):
        read_curves(tmp_path)


def test_a_line_that_the_disk_takes_only_in_part_is_an_error_and_taken_back(tmp_path, monkeypatch):
    write_curves(tmp_path, LINES)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:7]))
    with pytest.raises(RecordError) as refused:
        append_curve(tmp_path, LINES[0])
    assert "curves.jsonl: cannot be written: 7 of " in str(refused.value)
    assert "is the disk full?" in str(refused.value)
    assert read_curves(tmp_path) == LINES


def test_not_finite_is_refused(tmp_path):
    with pytest.raises(RecordError, match="a line cannot be written"):
        append_curve(tmp_path, {"reward": math.nan})
