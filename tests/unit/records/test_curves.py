"""Curves are appended line by line; a kill costs at most the last line."""

import hashlib
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.files import FolderError
from lmrl_bench.records.store import (
    CurvesMark,
    CurvesWriter,
    curves_until,
    file_info,
    read_curves,
    write_curves,
)

LINES = [{"kind": "train", "iteration": i, "reward": i / 3} for i in range(5)]


def begun(folder, lines=LINES):
    """Returns a writer that has written these lines, and what a checkpoint would know of them."""
    writer = CurvesWriter(folder)
    writer.begin()
    for line in lines:
        writer.append(line)
    return writer, writer.sync()


def test_append_and_write_give_the_same_bytes(tmp_path):
    (tmp_path / "b").mkdir()
    writer, mark = begun(tmp_path)
    info = write_curves(tmp_path / "b", LINES)
    content = (tmp_path / "curves.jsonl").read_bytes()
    assert content == (tmp_path / "b" / "curves.jsonl").read_bytes()
    assert (info.path, info.rows) == ("curves.jsonl", 5)
    assert writer.info() == info == file_info(tmp_path / "curves.jsonl")
    digest = hashlib.sha256(content).hexdigest()
    assert mark == (len(content), digest) == (len(content), info.sha256)
    assert read_curves(tmp_path) == LINES


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 300), checkpoint=st.integers(0, 5))
def test_whatever_a_kill_leaves_resume_takes_up_or_refuses(tmp_path_factory, cut, checkpoint):
    folder = tmp_path_factory.mktemp("c")
    known, mark = (write_curves(folder, LINES[:checkpoint]), None)
    mark = CurvesMark((folder / "curves.jsonl").stat().st_size, known.sha256)
    write_curves(folder, LINES)
    path = folder / "curves.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    before = path.read_bytes()
    torn = bool(before) and not before.endswith(b"\n")
    if torn:
        with pytest.raises(RecordError, match="the last line is incomplete"):
            read_curves(folder)
    if cut < mark.size:
        with pytest.raises(
            RecordError, match=rf"{len(before)} of {mark.size} bytes .* --rerun all"
        ):
            curves_until(folder, mark)
    else:
        assert curves_until(folder, mark) == (whole[: mark.size], int(torn and cut > mark.size))
    assert path.read_bytes() == before


def test_a_line_that_a_checkpoint_knows_cannot_change(tmp_path):
    _, mark = begun(tmp_path)
    path = tmp_path / "curves.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"iteration":2', b'"iteration":1'))
    with pytest.raises(RecordError, match=r"not the curves that the checkpoint was written with"):
        curves_until(tmp_path, mark)
    path.write_bytes(content)
    assert curves_until(tmp_path, mark) == (content, 0)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"curves\.jsonl: missing, but there is a checkpoint"):
        curves_until(tmp_path, CurvesMark(3, ""))
    with pytest.raises(RecordError, match=r"curves\.jsonl: cannot be read .* --rerun all"):
        file_info(tmp_path / "curves.jsonl")


def test_a_broken_line_in_the_middle_names_its_number(tmp_path):
    (tmp_path / "curves.jsonl").write_text('{"iteration": 1}\n{bad\n{"iteration": 2}\n')
    with pytest.raises(RecordError, match=r"curves\.jsonl:2: not JSON"):
        read_curves(tmp_path)
    (tmp_path / "curves.jsonl").write_text("[]\n")
    with pytest.raises(RecordError, match=r"curves\.jsonl:1: not a JSON object"):
        read_curves(tmp_path)


def test_a_line_that_the_disk_takes_only_in_part_is_an_error_and_taken_back(tmp_path, monkeypatch):
    writer, _ = begun(tmp_path)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, content: write(handle, content[:7]))
        with pytest.raises(RecordError) as refused:
            writer.append(LINES[0])
    assert "curves.jsonl: cannot be written: 7 of " in str(refused.value)
    assert "is the disk full?" in str(refused.value)
    assert read_curves(tmp_path) == LINES
    writer.append(LINES[0])
    assert read_curves(tmp_path) == [*LINES, LINES[0]]


@pytest.mark.parametrize("change", ["removed", "replaced", "appended", "cut", "folder removed"])
def test_what_another_program_does_to_the_file_is_an_error(tmp_path, change):
    folder = tmp_path / "run"
    folder.mkdir()
    writer, _ = begun(folder)
    path = folder / "curves.jsonl"
    content = path.read_bytes()
    if change in ("removed", "replaced", "folder removed"):
        path.rename(tmp_path / "moved")
    if change == "replaced":
        path.write_bytes(content)
    elif change == "appended":
        path.write_bytes(content + b"{}\n")
    elif change == "cut":
        path.write_bytes(content[:-1])
    elif change == "folder removed":
        folder.rmdir()
    for use in (lambda: writer.append(LINES[0]), writer.sync, writer.info):
        with pytest.raises(FolderError, match=r"changed, moved or removed by another program"):
            use()
    assert path.exists() == (change not in ("removed", "folder removed"))


def test_a_change_within_the_file_is_found_before_the_record_is_written(tmp_path):
    writer, _ = begun(tmp_path)
    with (tmp_path / "curves.jsonl").open("r+b") as stream:
        stream.write(b" ")
    with pytest.raises(FolderError, match="changed"):
        writer.info()


def test_not_finite_is_refused(tmp_path):
    with pytest.raises(RecordError, match="a line cannot be written"):
        begun(tmp_path, [{"reward": math.nan}])
