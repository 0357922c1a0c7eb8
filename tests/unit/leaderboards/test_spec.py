"""Leaderboards as data: the grid, the layers of configuration, what is refused."""

from pathlib import Path

import pytest
from fixtures.leaderboards import fake_spec

from lmrl_bench.config.loading import validate
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.leaderboards.spec import cells, leaderboard_names, read_leaderboard

LEADERBOARD = """
name: small
title: Small
tasks:
  - {task: one}
  - task: two
    config: {budget: {tokens: 99}, sampling: {temperature: 0.7}}
entries:
  - {entry: sft, algorithm: no-training}
  - entry: ppo-hot
    algorithm: ppo
    config:
      sampling: {temperature: 1.5}
      algorithm: {clip_range: 0.3}
seeds: [4, 2]
config:
  budget: {tokens: 10}
baselines: {zero_shot: null}
"""


def write(folder, text):
    (folder / "leaderboard.yaml").write_text(text)
    return folder


def test_the_grid_and_its_layers(tmp_path):
    grid = cells(read_leaderboard(write(tmp_path, LEADERBOARD)))
    assert [(c.task, c.entry, c.seed) for c in grid] == [
        (task, label, seed)
        for task in ("one", "two")
        for label in ("sft", "ppo-hot")
        for seed in (4, 2)
    ]
    assert grid[0].config == {
        "task": "one", "entry": "sft", "seed": 4, "algorithm": {"name": "no-training"},
        "budget": {"tokens": 10},
    }  # fmt: skip
    assert grid[6].config == {
        "task": "two", "entry": "ppo-hot", "seed": 4, "budget": {"tokens": 99},
        "sampling": {"temperature": 1.5}, "algorithm": {"name": "ppo", "clip_range": 0.3},
    }  # fmt: skip
    for cell in grid:
        validate(RunConfig, cell.located)
    assert grid[0].folder(Path("results"), "small") == Path("results/small/one/sft/4")


def test_a_wrong_setting_of_a_cell_names_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(
        write(tmp_path, LEADERBOARD.replace("{temperature: 1.5}", "{temprature: 1.5}"))
    )
    grid = cells(read_leaderboard("."))
    with pytest.raises(
        ConfigError, match=r"^leaderboard.yaml:13: sampling.temprature: unknown key"
    ):
        validate(RunConfig, grid[2].located)


def test_a_spec_without_a_file_names_the_leaderboard():
    spec = fake_spec(config={"budget": {"tokns": 1}})
    with pytest.raises(ConfigError, match=r"^leaderboard 'fake': budget.tokns: unknown key"):
        validate(RunConfig, cells(spec)[0].located)


def test_paths_and_names(tmp_path):
    write(tmp_path, LEADERBOARD)
    assert read_leaderboard(tmp_path) == read_leaderboard(tmp_path / "leaderboard.yaml")
    for name in leaderboard_names():
        assert read_leaderboard(name).name == name
    with pytest.raises(
        ConfigError, match=r"unknown leaderboard 'quickstrat'; did you mean 'quickstart'\?"
    ):
        read_leaderboard("quickstrat")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{task: one}", "{task: two}", "tasks given twice: two"),
        ("entry: ppo-hot", "entry: sft", "entries given twice: sft"),
        ("[4, 2]", "[4, 4]", "seeds given twice: 4"),
        ("[4, 2]", "[4, -2]", "seeds[1]: must be at least 0"),
        ("[4, 2]", "[]", "seeds: needs at least 1 item"),
        ("zero_shot: null", "zero_shot: null, sft: sftt", "did you mean 'sft'?"),
        ("zero_shot: null", "zero_shot: base", "no entry is named 'base'"),
        ("{task: one}", "{task: ../one}", "tasks[0].task: must match"),
        ("entry: ppo-hot", "entry: a/b", "entries[1].entry: must match"),
        ("tokens: 10}", "tokens: 10}\n  seed: 3", "seed cannot be configured here"),
        ("tokens: 10}", "tokens: 10}\n  runtime: {}", "runtime cannot be configured here"),
    ],
)
def test_refusals(tmp_path, old, new, message):
    with pytest.raises(ConfigError) as caught:
        read_leaderboard(write(tmp_path, LEADERBOARD.replace(old, new)))
    assert message in str(caught.value)
