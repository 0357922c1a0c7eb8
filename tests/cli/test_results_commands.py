"""`leaderboard export | statistics | power` on toy data."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import yaml
from fixtures.boards import fake_spec, write_board
from fixtures.runs import call

from lmrl_bench.planning.cells import of_board


@pytest.fixture
def board(world):
    """A board of one task with fake records; three seeds, one of which failed."""
    spec = fake_spec(tasks=[{"task": "toy"}])
    folder = world.root / "boards" / "fake"
    folder.mkdir(parents=True)
    (folder / "leaderboard.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    write_board(world.root / "results", spec, {("toy", "a2c", 1): "failed"}, of_board(spec))
    return folder


def test_export(world, board, capsys):
    done = call(capsys, "leaderboard", "export", board, "--out", "out.parquet")
    assert done.code == 0, done.err
    table = pq.read_table(world.root / "out.parquet")
    assert done.err == f"wrote out.parquet: {table.num_rows} rows\n"
    assert set(table["status"].to_pylist()) == {"completed", "failed"}
    wrong = call(capsys, "leaderboard", "export", board, "--out", "out.csv")
    assert wrong.code == 2
    assert "Traceback" not in wrong.err


def test_statistics(board, capsys):
    shown = call(capsys, "leaderboard", "stats", board)
    assert shown.code == 0, shown.err
    assert "ties, best first" in shown.out
    found = call(capsys, "leaderboard", "stats", board, "--json").json
    rows = {row["row"]: row for row in found["rows"]}
    assert rows["a2c"]["collapsed"] == 1
    assert rows["supervised"]["mean"]["value"] == pytest.approx(1.0)
    assert call(capsys, "leaderboard", "stats", board).out == shown.out


def test_power(board, capsys):
    (row,) = call(capsys, "leaderboard", "power", board, "--difference", "0.05", "--json").json
    assert (row["task"], row["seeds"], row["rows"]) == ("toy", 3, 3)
    assert row["needed"] >= 2
    assert "needed" not in call(capsys, "leaderboard", "power", board).out
    refused = call(capsys, "leaderboard", "power", board, "--difference", "0")
    assert refused.code == 2
    assert "error: the difference must be positive" in refused.err
