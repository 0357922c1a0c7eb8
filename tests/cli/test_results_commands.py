"""`leaderboard export | statistics | power` on toy data."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import yaml
from fixtures.leaderboards import fake_spec, write_leaderboard
from fixtures.runs import call

from lmrl_bench.planning.cells import of_leaderboard


@pytest.fixture
def leaderboard(world):
    """A leaderboard of one task with fake records; three seeds, one of which failed."""
    spec = fake_spec(tasks=[{"task": "toy"}])
    folder = world.root / "leaderboards" / "fake"
    folder.mkdir(parents=True)
    (folder / "leaderboard.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    write_leaderboard(
        world.root / "results", spec, {("toy", "a2c", 1): "failed"}, of_leaderboard(spec)
    )
    return folder


def test_export(world, leaderboard, capsys):
    done = call(capsys, "leaderboard", "export", leaderboard, "--out", "out.parquet")
    assert done.code == 0, done.err
    table = pq.read_table(world.root / "out.parquet")
    assert done.err == f"wrote out.parquet: {table.num_rows} rows\n"
    assert set(table["status"].to_pylist()) == {"completed", "failed"}
    wrong = call(capsys, "leaderboard", "export", leaderboard, "--out", "out.csv")
    assert wrong.code == 2
    assert "Traceback" not in wrong.err


def test_statistics(leaderboard, capsys):
    shown = call(capsys, "leaderboard", "stats", leaderboard)
    assert shown.code == 0, shown.err
    assert "ties, best first" in shown.out
    found = call(capsys, "leaderboard", "stats", leaderboard, "--json").json
    rows = {row["entry"]: row for row in found["entries"]}
    assert rows["a2c"]["collapsed"] == 1
    assert rows["sft"]["mean"]["value"] == pytest.approx(1.0)
    assert call(capsys, "leaderboard", "stats", leaderboard).out == shown.out


def test_power(leaderboard, capsys):
    (row,) = call(
        capsys, "leaderboard", "power", leaderboard, "--difference", "0.05", "--json"
    ).json
    assert (row["task"], row["seeds"], row["entries"]) == ("toy", 3, 3)
    assert row["needed"] >= 2
    assert "needed" not in call(capsys, "leaderboard", "power", leaderboard).out
    refused = call(capsys, "leaderboard", "power", leaderboard, "--difference", "0")
    assert refused.code == 2
    assert "error: the difference must be positive" in refused.err
