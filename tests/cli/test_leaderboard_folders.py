"""Leaderboards outside a checkout: found in ./leaderboards, built in place, retrained with a policy's folder."""

from __future__ import annotations

import shutil

import pytest
import yaml
from fixtures.runs import call, make_world
from fixtures.submissions import LEADERBOARD, run_leaderboard, small_leaderboard
from safetensors.torch import load_file, save_file

from lmrl_bench.leaderboards.spec import LeaderboardSpec, read_leaderboard


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A leaderboard whose policy is a folder, named by an absolute path; run once."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        world = make_world(root, patch.setenv)
        folder = small_leaderboard(root)
        spec = yaml.safe_load((folder / "leaderboard.yaml").read_text())
        del spec["baselines"]
        spec["config"]["policy"] = {"init": "base", "model": str(world.model)}
        spec["seeds"] = [0, 1]
        (folder / "leaderboard.yaml").write_text(yaml.safe_dump(spec))
        run_leaderboard(folder, root / "results")
    return world, folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A working folder of its own with the results, and the leaderboard as `own/small`."""
    world, leaderboard = made
    monkeypatch.setenv("LMRL_BENCH_TASKS", str(world.root / "tasks"))
    monkeypatch.setenv("LMRL_BENCH_CACHE", str(world.root / "cache"))
    shutil.copytree(world.root / "results", tmp_path / "results")
    shutil.copytree(leaderboard, tmp_path / "own" / LEADERBOARD)
    monkeypatch.chdir(tmp_path)
    return world, tmp_path


def test_reference_rows_are_those_that_the_leaderboard_has():
    content = {"name": "b", "title": "B", "tasks": [{"task": "t"}], "seeds": [0],
               "entries": [{"entry": "ppo", "algorithm": "ppo"}]}  # fmt: skip
    assert LeaderboardSpec.model_validate(content).baselines.names() == []
    content["entries"].append({"entry": "zero-shot", "algorithm": "no-training"})
    assert LeaderboardSpec.model_validate(content).baselines.names() == ["zero-shot"]
    with pytest.raises(ValueError, match="no entry is named 'sft'"):
        LeaderboardSpec.model_validate(content | {"baselines": {"sft": "sft"}})


def test_a_leaderboard_is_built_into_its_own_folder(place, capsys):
    _, root = place
    done = call(capsys, "leaderboard", "build", "own/small")
    assert done.code == 0, done.err
    assert (root / "own" / "small" / "leaderboard.json").is_file()
    assert not (root / "leaderboards").exists()
    assert call(capsys, "leaderboard", "check", "own/small").code == 0


def test_another_leaderboard_is_not_written_over(place, capsys):
    _, root = place
    shutil.copytree(root / "own", root / "other")
    path = root / "other" / "small" / "leaderboard.yaml"
    path.write_text(
        path.read_text().replace("title: Small leaderboard", "title: Another leaderboard")
    )
    done = call(capsys, "leaderboard", "build", "own/small", "--out", "other/small")
    assert (done.code, "other/small: holds another leaderboard than 'small'" in done.err) == (
        2,
        True,
    )
    assert not (root / "other" / "small" / "leaderboard.json").exists()
    (root / "made").mkdir()
    (root / "made" / "leaderboard.json").write_text('{"name": "theirs"}')
    done = call(capsys, "leaderboard", "build", "own/small", "--out", "made")
    assert (done.code, "made: holds another leaderboard" in done.err) == (2, True)


def test_a_leaderboard_of_the_working_folder_is_found_by_its_name(place, capsys):
    _, root = place
    (root / "own").rename(root / "leaderboards")
    assert read_leaderboard("small").folder == root.joinpath("leaderboards/small").relative_to(root)
    done = call(capsys, "results", "validate", "results/small")
    assert done.code == 0, done.err
    assert call(capsys, "leaderboard", "build", "small").code == 0
    assert "small" in call(capsys, "leaderboard", "list").out


def test_a_record_whose_policy_is_a_folder_is_trained_again(place, capsys):
    world, root = place
    run = "results/small/toy/ppo/1"
    done = call(capsys, "results", "retrain", run)
    assert (done.code, "give the folder with --policy FOLDER" in done.err) == (2, True), done.err
    done = call(capsys, "results", "retrain", run, "--policy", world.model)
    assert done.code == 0, done.err
    assert "bit-identical" in done.out
    (root / "own").rename(root / "leaderboards")  # its leaderboard.yaml says where the policy is
    done = call(capsys, "results", "retrain", run)
    assert done.code == 0, done.err


def test_another_policy_is_refused(place, capsys, tmp_path):
    world, _ = place
    shutil.copytree(world.model, tmp_path / "other")
    path = tmp_path / "other" / "model.safetensors"
    weights = {name: 2 * weight for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    done = call(capsys, "results", "retrain", "results/small/toy/ppo/1", "--policy", "other")
    assert (done.code, "policy.base_weights_sha256 is" in done.err) == (2, True), done.err


def test_a_name_that_a_plug_in_may_have(place, capsys):
    _, root = place
    path = root / "own" / "small" / "leaderboard.yaml"
    path.write_text(path.read_text().replace("algorithm: ppo", "algorithm: expert-iteration"))
    done = call(capsys, "leaderboard", "build", "own/small")
    assert (done.code, "of a plug-in is known once its package is installed" in done.err) == (
        2,
        True,
    )
