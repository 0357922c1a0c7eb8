"""A damaged cell costs that cell: the leaderboard is built from the others and names it, and `run` repeats it alone."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.runs import call, make_world
from fixtures.submissions import run_leaderboard, small_leaderboard

from lmrl_bench.core.digests import file_sha256


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        make_world(root, patch.setenv)
        folder = small_leaderboard(root)
        run_leaderboard(folder, root / "results")
        yield root, folder


@pytest.mark.parametrize("name", ["record.json", "curves.jsonl", "samples.parquet"])
def test_a_damaged_cell_costs_that_cell(made, tmp_path, capsys, name):
    root, leaderboard = made
    shutil.copytree(root / "results", tmp_path / "results")
    path = tmp_path / "results" / "small" / "toy" / "ppo" / "1" / name
    path.write_bytes(path.read_bytes()[:-3])
    options = ("--results", tmp_path / "results", "--out", tmp_path / "out")
    done = call(capsys, "leaderboard", "build", leaderboard, *options)
    assert done.code == 0, done.err
    assert "small/toy/ppo/1: damaged: " in done.err
    assert name in done.err
    assert "lmrl-bench leaderboard run small runs it again" in done.err
    content = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    entry = next(entry for entry in content["tasks"][0]["entries"] if entry["entry"] == "ppo")
    assert [run["status"] for run in entry["runs"]] == ["completed", "missing", "completed"]
    assert entry["runs"][1]["error"].startswith("damaged: ")
    assert str(tmp_path) not in (tmp_path / "out" / "leaderboard.json").read_text()
    assert call(capsys, "leaderboard", "check", leaderboard, *options).code == 3
    done = call(capsys, "leaderboard", "run", leaderboard, *options)
    assert done.code == 0, done.err
    assert call(capsys, "leaderboard", "check", leaderboard, *options).code == 0


def test_a_crafted_parquet_hides_no_other_problem(made, tmp_path, capsys):
    root, leaderboard = made
    shutil.copytree(root / "results", tmp_path / "results")
    entry = tmp_path / "results" / "small" / "toy" / "ppo"
    (entry / "1" / "samples.parquet").write_bytes(b"PAR1" + b"\xff" * 64 + b"PAR1")
    (entry / "2" / "record.json").write_text('{"a": ' + "9" * 10_000 + "}")
    for command in (("validate", tmp_path / "results" / "small", "--leaderboard", leaderboard),
                    ("rescore", tmp_path / "results" / "small")):  # fmt: skip
        done = call(capsys, "results", *command)
        assert done.code == 3, done.err
        assert "ppo/1/samples.parquet: cannot be read (" in done.err
        assert "ppo/2/record.json: corrupt (" in done.err


def again(name, values):
    """Exchanges the values of a column."""

    def change(table):
        column = pa.array(values(table[name].to_pylist()), type=table.schema.field(name).type)
        return table.set_column(table.column_names.index(name), name, column)

    return change


def more(name, values):
    return lambda table: table.append_column(name, pa.array(values * table.num_rows))


CRAFTED = {
    "a column twice": more("reward", [1.0]),
    "a column of no known name": more("evil", [1.0]),
    "a column of text": more("metric/evil", ["<b>"]),
    "no column": lambda _: pa.table({}),
    "text that is not UTF-8": lambda table: table.set_column(
        table.column_names.index("completion"),
        "completion",
        pa.array([b"\xff"] * table.num_rows, pa.binary()).view(pa.string()),
    ),
    "a number without bounds": again("reward", lambda values: [float("inf"), *values[1:]]),
    "no number": again("metric/chrf", lambda values: [float("nan"), *values[1:]]),
    "no Parquet": lambda _: b"PAR1" + b"x" * 500 + b"PAR1",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_samples_file_costs_its_cell(made, tmp_path, capsys, monkeypatch, name):
    """Its digest is the record's, so that only reading it tells; nothing is said of the other cells."""
    root, leaderboard = made
    monkeypatch.chdir(root)
    shutil.copytree(root / "results", tmp_path / "results")
    folder = tmp_path / "results" / "small" / "toy" / "ppo" / "0"
    path = folder / "samples.parquet"
    found = CRAFTED[name](pq.read_table(path))
    path.write_bytes(found) if isinstance(found, bytes) else pq.write_table(found, path)
    content = json.loads((folder / "record.json").read_text())
    content["samples"]["sha256"] = file_sha256(path)
    (folder / "record.json").write_text(json.dumps(content))
    options = ("--results", tmp_path / "results", "--out", tmp_path / "out")
    done = call(capsys, "leaderboard", "build", leaderboard, *options)
    assert done.code == 0, done.err
    (line,) = [line for line in done.err.splitlines() if "damaged" in line]
    assert line.startswith("small/toy/ppo/0: damaged: ")
    assert "samples.parquet" in line
    built = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["tasks"][0]
    statuses = [[run["status"] for run in entry["runs"]] for entry in built["entries"]]
    assert sorted(statuses) == [["completed"] * 3, ["missing", "completed", "completed"]]
    for command in (("validate", "--leaderboard", leaderboard), ("rescore",)):
        done = call(capsys, "results", command[0], tmp_path / "results" / "small", *command[1:])
        errors = done.err.partition("error: ")[2]
        assert (done.code, "ppo/0" in errors, "ppo/1" in errors) == (3, True, False), done.err


@pytest.mark.parametrize("name", ["record.json", "curves.jsonl"])
def test_an_export_and_statistics_name_a_damaged_cell(made, tmp_path, capsys, monkeypatch, name):
    root, leaderboard = made
    monkeypatch.chdir(root)
    shutil.copytree(root / "results", tmp_path / "results")
    path = tmp_path / "results" / "small" / "toy" / "ppo" / "1" / name
    path.write_bytes(path.read_bytes()[:-3])
    options = ("--results", tmp_path / "results")
    done = call(
        capsys, "leaderboard", "export", leaderboard, *options, "--out", tmp_path / "all.parquet"
    )
    assert done.code == 0, done.err
    assert "small/toy/ppo/1: damaged: " in done.err
    entries = pq.read_table(tmp_path / "all.parquet").to_pylist()
    of_cell = [entry for entry in entries if (entry["entry"], entry["seed"]) == ("ppo", 1)]
    assert [entry["status"] for entry in of_cell] == ["missing"]
    assert (
        "small/toy/ppo/1: damaged: "
        in call(capsys, "leaderboard", "power", leaderboard, *options).err
    )
