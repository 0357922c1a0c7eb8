"""The examples of the READMEs work as printed."""

import re
from pathlib import Path

import pytest
from fixtures.boards import fake_expected, fake_spec, write_board

from lmrl_bench.config.yaml_core import parse_yaml
from lmrl_bench.leaderboards.build import build
from lmrl_bench.leaderboards.export import export
from lmrl_bench.leaderboards.spec import BoardSpec, cells

ROOT = Path(__file__).resolve().parents[3]
SPEC = fake_spec(name="quickstart", tasks=[{"task": "debian-synopsis"}])


def blocks(name, language):
    text = (ROOT / name).read_text()
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["results/README.md", "leaderboards/README.md"])
def test_python_examples(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    write_board(tmp_path / "results", SPEC, {})
    build(SPEC, tmp_path / "results", tmp_path / "leaderboards" / "quickstart", fake_expected)
    export(SPEC, tmp_path / "results", tmp_path / "quickstart.parquet", fake_expected)
    monkeypatch.chdir(tmp_path)
    for code in blocks(name, "python"):
        exec(compile(code, name, "exec"), {})
    printed = capsys.readouterr().out
    assert "supervised" in printed
    assert "Empty" not in printed


def test_sql_examples(tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    write_board(tmp_path / "results", SPEC, {("debian-synopsis", "ppo", 1): "diverged"})
    export(SPEC, tmp_path / "results", tmp_path / "quickstart.parquet", fake_expected)
    monkeypatch.chdir(tmp_path)
    means, gains, failures, drift = (
        duckdb.sql(query).fetchall() for query in blocks("results/README.md", "sql")
    )
    labels = [entry.label for entry in SPEC.entries]
    assert {row[1]: row[-1] for row in means} == {label: 3 - (label == "ppo") for label in labels}
    assert [row[2] for row in means] == sorted((row[2] for row in means), reverse=True)
    assert {row[1] for row in gains} == set(labels) - {"supervised", "zero-shot"}
    assert all(row[2] > 0 for row in gains)
    assert failures == [("debian-synopsis", "ppo", "diverged", [1])]
    assert {row[1] for row in drift} == {"ppo", "a2c", "nlpo"}


def test_the_example_board_is_valid():
    (text,) = blocks("leaderboards/README.md", "yaml")
    board = BoardSpec.model_validate(parse_yaml(text, "README.md").data)
    assert len(cells(board)) == 24
