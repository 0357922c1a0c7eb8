"""Boards as data: the grid, the layers of configuration, what is refused."""

from pathlib import Path

import pytest
from fixtures.boards import fake_spec

from lmrl_bench.config.loading import validate
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.leaderboards.spec import board_names, cells, load_board

BOARD = """
name: small
title: Small
tasks:
  - {task: one}
  - task: two
    overrides: {budget: {tokens: 99}, sampling: {temperature: 0.7}}
entries:
  - {label: supervised, algorithm: none}
  - label: ppo-hot
    algorithm: ppo
    set:
      sampling: {temperature: 1.5}
      algorithm: {clip_range: 0.3}
seeds: [4, 2]
config:
  budget: {tokens: 10}
reference: {zero_shot: null}
"""


def write(folder, text):
    (folder / "leaderboard.yaml").write_text(text)
    return folder


def test_the_grid_and_its_layers(tmp_path):
    grid = cells(load_board(write(tmp_path, BOARD)))
    assert [(c.task, c.label, c.seed) for c in grid] == [
        (task, label, seed)
        for task in ("one", "two")
        for label in ("supervised", "ppo-hot")
        for seed in (4, 2)
    ]
    assert grid[0].config == {
        "task": "one", "label": "supervised", "seed": 4, "algorithm": {"name": "none"},
        "budget": {"tokens": 10},
    }  # fmt: skip
    assert grid[6].config == {
        "task": "two", "label": "ppo-hot", "seed": 4, "budget": {"tokens": 99},
        "sampling": {"temperature": 1.5}, "algorithm": {"name": "ppo", "clip_range": 0.3},
    }  # fmt: skip
    for cell in grid:
        validate(RunConfig, cell.located)
    assert grid[0].folder(Path("results"), "small") == Path("results/small/one/supervised/4")


def test_a_wrong_setting_of_a_cell_names_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path, BOARD.replace("{temperature: 1.5}", "{temprature: 1.5}")))
    grid = cells(load_board("."))
    with pytest.raises(
        ConfigError, match=r"^leaderboard.yaml:13: sampling.temprature: unknown key"
    ):
        validate(RunConfig, grid[2].located)


def test_a_spec_without_a_file_names_the_board():
    spec = fake_spec(config={"budget": {"tokns": 1}})
    with pytest.raises(ConfigError, match=r"^board 'fake': budget.tokns: unknown key"):
        validate(RunConfig, cells(spec)[0].located)


def test_paths_and_names(tmp_path):
    write(tmp_path, BOARD)
    assert load_board(tmp_path) == load_board(tmp_path / "leaderboard.yaml")
    for name in board_names():
        assert load_board(name).name == name
    with pytest.raises(
        ConfigError, match=r"unknown board 'quickstrat'; did you mean 'quickstart'\?"
    ):
        load_board("quickstrat")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{task: one}", "{task: two}", "tasks given twice: two"),
        ("label: ppo-hot", "label: supervised", "labels given twice: supervised"),
        ("[4, 2]", "[4, 4]", "seeds given twice: 4"),
        ("[4, 2]", "[4, -2]", "seeds[1]: must be at least 0"),
        ("[4, 2]", "[]", "seeds: needs at least 1 item"),
        ("zero_shot: null", "zero_shot: null, supervised: suprvised", "did you mean 'supervised'?"),
        ("zero_shot: null", "zero_shot: base", "no entry has the label 'base'"),
        ("{task: one}", "{task: ../one}", "tasks[0].task: must match"),
        ("label: ppo-hot", "label: a/b", "entries[1].label: must match"),
        ("tokens: 10}", "tokens: 10}\n  seed: 3", "seed cannot be configured here"),
        ("tokens: 10}", "tokens: 10}\n  runtime: {}", "runtime cannot be configured here"),
    ],
)
def test_refusals(tmp_path, old, new, message):
    with pytest.raises(ConfigError) as caught:
        load_board(write(tmp_path, BOARD.replace(old, new)))
    assert message in str(caught.value)
