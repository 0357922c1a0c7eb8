"""The workflows of GitHub run what exists, with few rights, and the script that reads a submission works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fixtures.runs import make_world
from fixtures.submissions import LEADERBOARD, PPO, run_leaderboard, small_leaderboard

from lmrl_bench.leaderboards.build import build as build_leaderboard
from lmrl_bench.leaderboards.spec import read_leaderboard
from lmrl_bench.planning.cells import of_leaderboard

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        if "uses" in step:
            assert step["uses"].rsplit("@v", 1)[1].isdigit()
            continue
        words = step["run"].split()
        assert "${{" not in step["run"], "values of a pull request are not shell text"
        if words[0] == "make":
            assert f"\n{words[1]}: " in (ROOT / "Makefile").read_text()
        else:
            assert os.access(ROOT / words[0], os.X_OK)


def test_ci_runs_every_check_and_stops_at_the_first_that_fails():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    targets = {line.split()[1] for line in script.splitlines() if line.startswith("make ")}
    assert {"lint", "leaderboards-check", "test"} <= targets
    assert all(f"\n{target}: " in (ROOT / "Makefile").read_text() for target in targets)


@pytest.mark.parametrize("failing", ["", "--ignore=tests/performance", " tests/unit "])
def test_make_test_runs_everything_and_fails_if_a_part_fails(failing, tmp_path):
    """With a stand-in for pytest that writes down its arguments and fails where they hold a text."""
    program = tmp_path / "env" / "bin" / "python"
    program.parent.mkdir(parents=True)
    fails = f'case "$*" in *"{failing}"*) exit 1;; esac' if failing else ""
    program.write_text(f'#!/bin/sh\necho "$@" >> asked\n{fails}\n')
    program.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "test", "VENV=env", "--assume-old=env/.installed"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode != 0) == bool(failing), done.stderr
    asked = sorted((tmp_path / "asked").read_text().splitlines())  # they run at the same time
    assert [line.startswith("-m pytest") for line in asked] == [True, True]
    assert asked[0].endswith(" --ignore=tests/unit --ignore=tests/performance")
    assert asked[1].endswith(" tests/unit tests/performance")


@pytest.mark.parametrize("stale", ["", "leaderboards/one"])
def test_every_leaderboard_that_was_built_is_checked(stale, tmp_path):
    """With a stand-in for the program that writes down its arguments and finds one leaderboard stale."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("one", "two", "not-built"):
        (tmp_path / "leaderboards" / name).mkdir(parents=True)
        (tmp_path / "leaderboards" / name / "leaderboard.yaml").touch()
    for name in ("one", "two"):
        (tmp_path / "leaderboards" / name / "leaderboard.json").touch()
    program = tmp_path / "env" / "bin" / "lmrl-bench"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$@" >> asked\n[ "$3" != "{stale}" ] || exit 3\n')
    program.chmod(0o755)
    command = ["make", "leaderboards-check", "VENV=env", "--assume-old=env/.installed"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode != 0) == bool(stale), done.stderr
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"leaderboard check leaderboards/{name}" for name in ("one", "two")
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The results of the leaderboard, made once; the model lies in the folder that their settings name."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        make_world(root, patch.setenv)
        run_leaderboard(small_leaderboard(root), root / "results")
        yield root


@pytest.fixture
def clone(runs, tmp_path, monkeypatch):
    """A repository with the script, a toy task and a leaderboard of real runs, committed."""
    monkeypatch.chdir(tmp_path)
    for name in ("tasks", "results", "leaderboards"):
        shutil.copytree(runs / name, tmp_path / name)
    monkeypatch.setenv("LMRL_BENCH_TASKS", str(tmp_path / "tasks"))
    monkeypatch.setenv("LMRL_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "leaderboards").rename(tmp_path / "leaderboards")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "submissions", tmp_path / ".ci")
    (tmp_path / ".gitignore").write_text("cache/\nmodel/\nchecked.md\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("BIN", str(Path(sys.executable).parent))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "checked.md"))
    for variable in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{variable}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{variable}_EMAIL", "someone@example.org")
    git(tmp_path, "init", "--quiet")
    build(tmp_path)
    return tmp_path


def git(folder, *arguments):
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def build(folder):
    """Builds the leaderboard, here, and commits everything; the working folder is the repository."""
    spec = read_leaderboard(f"leaderboards/{LEADERBOARD}")
    build_leaderboard(
        spec, Path("results"), Path("leaderboards", LEADERBOARD), of_leaderboard(spec)
    )
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "leaderboard")


def check(folder):
    done = subprocess.run([".ci/submissions", "HEAD^"], cwd=folder, capture_output=True, text=True)
    return done, (folder / "checked.md").read_text() if (folder / "checked.md").exists() else ""


def test_a_new_row_is_accepted_and_an_edited_record_refused(clone):
    small_leaderboard(clone / "new", "mine")
    shutil.copy(
        clone / "new" / "leaderboards" / LEADERBOARD / "leaderboard.yaml",
        clone / "leaderboards" / LEADERBOARD,
    )
    shutil.rmtree(clone / "new")
    empty = yaml.safe_load((clone / "leaderboards" / LEADERBOARD / "leaderboard.yaml").read_text())
    (clone / "leaderboards" / "empty").mkdir()
    path = clone / "leaderboards" / "empty" / "leaderboard.yaml"
    path.write_text(yaml.safe_dump(empty | {"name": "empty"}))
    run_leaderboard(clone / "leaderboards" / LEADERBOARD, clone / "results")
    build(clone)
    done, summary = check(clone)
    assert done.returncode == 0, done.stderr
    assert "new entries: mine" in summary
    assert "The leaderboard `empty` can be read; it has no results yet." in summary
    assert "Rescored: " in summary
    assert "files of the leaderboard are fresh" in summary
    assert "also changes files" not in summary

    (clone / "checked.md").unlink()
    record = clone / "results" / LEADERBOARD / PPO / "0" / "record.json"
    record.write_text(record.read_text().replace('"dirty": true', '"dirty": false') + " ")
    (clone / "constraints.txt").write_text("harmless")
    build(clone)
    done, summary = check(clone)
    assert done.returncode == 1
    assert "record.json changed: older records stay as they are" in summary
    assert "also changes files that its results may be checked with" in summary
    assert "constraints.txt" in summary


def test_a_leaderboard_of_another_name_and_files_left_behind_are_refused(clone):
    """Under another name, the folder would stand for a few further entries, and older ones could go."""
    path = clone / "leaderboards" / LEADERBOARD / "leaderboard.yaml"
    path.write_text(path.read_text().replace(f"name: {LEADERBOARD}", "name: other"))
    (clone / "results" / LEADERBOARD / PPO / "0" / "policy").mkdir()
    (clone / "results" / LEADERBOARD / PPO / "0" / "policy" / "weights").write_text("x")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "renamed")
    done, summary = check(clone)
    assert done.returncode == 1
    assert f"leaderboards/{LEADERBOARD}: its leaderboard is named 'other'" in done.stderr
    assert f"results/{LEADERBOARD}/{PPO}/0/policy/weights" in done.stdout
    assert "not named like its folder" in summary
    assert "files that a run leaves behind" in summary
