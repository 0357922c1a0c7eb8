"""A damaged cell costs that cell: the board is built from the others and names it, and `bench` runs it alone again."""

from __future__ import annotations

import json
import shutil

import pytest
from fixtures.runs import call, make_world
from fixtures.submissions import run_board, small_board


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        make_world(root, patch.setenv)
        folder = small_board(root)
        run_board(folder, root / "results")
        yield root, folder


@pytest.mark.parametrize("name", ["record.json", "curves.jsonl", "samples.parquet"])
def test_a_damaged_cell_costs_that_cell(made, tmp_path, capsys, name):
    root, board = made
    shutil.copytree(root / "results", tmp_path / "results")
    path = tmp_path / "results" / "small" / "toy" / "ppo" / "1" / name
    path.write_bytes(path.read_bytes()[:-3])
    options = ("--results", tmp_path / "results", "--out", tmp_path / "out")
    done = call(capsys, "board", "build", board, *options)
    assert done.code == 0, done.err
    assert "small/toy/ppo/1: damaged: " in done.err
    assert name in done.err
    assert "lmrl-bench bench small runs it again" in done.err
    content = json.loads((tmp_path / "out" / "board.json").read_text())
    row = next(row for row in content["tasks"][0]["rows"] if row["label"] == "ppo")
    assert [run["status"] for run in row["runs"]] == ["completed", "missing", "completed"]
    assert row["runs"][1]["error"].startswith("damaged: ")
    assert str(tmp_path) not in (tmp_path / "out" / "board.json").read_text()
    assert call(capsys, "board", "build", board, *options, "--check").code == 3
    done = call(capsys, "bench", board, *options)
    assert done.code == 0, done.err
    assert call(capsys, "board", "build", board, *options, "--check").code == 0


def test_a_crafted_parquet_hides_no_other_problem(made, tmp_path, capsys):
    root, board = made
    shutil.copytree(root / "results", tmp_path / "results")
    row = tmp_path / "results" / "small" / "toy" / "ppo"
    (row / "1" / "samples.parquet").write_bytes(b"PAR1" + b"\xff" * 64 + b"PAR1")
    (row / "2" / "record.json").write_text('{"a": ' + "9" * 10_000 + "}")
    for command in (("validate", tmp_path / "results" / "small", "--board", board),
                    ("rescore", tmp_path / "results" / "small")):  # fmt: skip
        done = call(capsys, "submission", *command)
        assert done.code == 3, done.err
        assert "ppo/1/samples.parquet: cannot be read (" in done.err
        assert "ppo/2/record.json: corrupt (" in done.err
