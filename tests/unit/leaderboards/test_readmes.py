"""The examples of the READMEs work as printed."""

import re
from pathlib import Path

import pytest
from fixtures.leaderboards import fake_expected, fake_spec, write_leaderboard

from lmrl_bench.config.yaml_core import parse_yaml
from lmrl_bench.leaderboards.build import build
from lmrl_bench.leaderboards.export import export
from lmrl_bench.leaderboards.spec import LeaderboardSpec, cells

ROOT = Path(__file__).resolve().parents[3]
SPEC = fake_spec(name="quickstart", tasks=[{"task": "debian-synopsis"}])


def blocks(name, language):
    text = (ROOT / name).read_text()
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["results/README.md", "leaderboards/README.md"])
def test_python_examples(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    write_leaderboard(tmp_path / "results", SPEC, {})
    build(SPEC, tmp_path / "results", tmp_path / "leaderboards" / "quickstart", fake_expected)
    export(SPEC, tmp_path / "results", tmp_path / "quickstart.parquet", fake_expected)
    monkeypatch.chdir(tmp_path)
    for code in blocks(name, "python"):
        exec(compile(code, name, "exec"), {})
    printed = capsys.readouterr().out
    assert "sft" in printed
    assert "Empty" not in printed


def test_sql_examples(tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    write_leaderboard(tmp_path / "results", SPEC, {("debian-synopsis", "ppo", 1): "diverged"})
    export(SPEC, tmp_path / "results", tmp_path / "quickstart.parquet", fake_expected)
    monkeypatch.chdir(tmp_path)
    means, gains, failures, drift = (
        duckdb.sql(query).fetchall() for query in blocks("results/README.md", "sql")
    )
    labels = [entry.entry for entry in SPEC.entries]
    assert {entry[1]: entry[-1] for entry in means} == {
        label: 3 - (label == "ppo") for label in labels
    }
    assert [entry[2] for entry in means] == sorted((entry[2] for entry in means), reverse=True)
    assert {entry[1] for entry in gains} == set(labels) - {"sft", "zero-shot"}
    assert all(entry[2] > 0 for entry in gains)
    assert failures == [("debian-synopsis", "ppo", "diverged", [1])]
    assert {entry[1] for entry in drift} == {"ppo", "a2c", "nlpo"}


def test_the_example_leaderboard_is_valid():
    (text,) = blocks("leaderboards/README.md", "yaml")
    leaderboard = LeaderboardSpec.model_validate(parse_yaml(text, "README.md").data)
    assert len(cells(leaderboard)) == 42
