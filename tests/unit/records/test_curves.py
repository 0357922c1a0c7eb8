"""Curves are appended line by line; a kill costs at most the last line."""

import hashlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.errors import RecordError
from lmrl_bench.records.store import append_curve, read_curves, resume_curves, write_curves

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
    assert resume_curves(folder, iteration) == torn
    assert read_curves(folder) == [line for line in LINES[:whole] if line["iteration"] <= iteration]


def test_resume_without_a_file_is_a_fresh_start_or_an_error(tmp_path):
    assert resume_curves(tmp_path, 0) == 0
    with pytest.raises(RecordError, match=r"curves\.jsonl: missing beside a checkpoint"):
        resume_curves(tmp_path, 3)


def test_a_broken_line_in_the_middle_names_its_number(tmp_path):
    (tmp_path / "curves.jsonl").write_text('{"iteration": 1}\n{bad\n{"iteration": 2}\n')
    with pytest.raises(RecordError, match=r"curves\.jsonl:2: not JSON"):
        resume_curves(tmp_path, 5)
    (tmp_path / "curves.jsonl").write_text("[]\n")
    with pytest.raises(RecordError, match=r"curves\.jsonl:1: not a JSON object"):
        read_curves(tmp_path)


def test_not_finite_is_refused(tmp_path):
    with pytest.raises(RecordError, match="a line cannot be written"):
        append_curve(tmp_path, {"reward": math.nan})
