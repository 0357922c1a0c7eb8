"""`results list | show | compare | samples` on committed records, on damaged ones, and on many."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures.runs import call

import lmrl_bench
from lmrl_bench.cli.run_text import sparkline
from lmrl_bench.records.listing import SORTS
from lmrl_bench.records.store import find_folders, read_record

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
LEADERBOARD = RESULTS / "quickstart"
PPO = LEADERBOARD / "docs-en-de" / "ppo"


@pytest.fixture
def damaged(tmp_path):
    """Three good runs and four folders that are none."""
    root = tmp_path / "results"
    shutil.copytree(PPO, root / "docs-en-de" / "ppo")
    torn, foreign, unfinished, many = (
        root / name for name in ("torn", "foreign", "unfinished", "m")
    )
    shutil.copytree(PPO / "0", torn)
    (torn / "record.json").write_bytes((torn / "record.json").read_bytes()[:-20])
    foreign.mkdir()
    (foreign / "record.json").write_text('{"name": "someone else\'s"}')
    shutil.copytree(PPO / "0", unfinished)
    (unfinished / "record.json").unlink()
    many.mkdir()
    (many / "notes.txt").write_text("no run")
    return root


def test_every_committed_record_is_listed(capsys):
    rows = call(capsys, "results", "list", RESULTS, "--json").json
    folders = find_folders(RESULTS)
    assert [row["folder"] for row in rows] == [str(folder) for folder in folders]
    row, record = rows[0], read_record(folders[0])
    assert (row["id"], row["seed"], row["tokens"]) == (record.id, record.seed, record.budget.tokens)
    assert row["value"] == record.results["test"].metrics[record.task.primary_metric].value


def test_runs_are_filtered_and_sorted(capsys):
    rows = call(
        capsys, "results", "list", LEADERBOARD, "--task", "docs-en-de", "--algorithm", "no-training",
        "--entry", "zero-shot", "--sort", "metric", "--json",
    ).json  # fmt: skip
    values = [row["value"] for row in rows]
    assert len(rows) == 3
    assert values == sorted(values, reverse=True)
    assert {(row["entry"], row["algorithm"]) for row in rows} == {("zero-shot", "no-training")}
    whens = [
        row["when"]
        for row in call(capsys, "results", "list", LEADERBOARD, "--sort", "when", "--json").json
    ]
    assert whens == sorted(whens, reverse=True)
    none = call(capsys, "results", "list", LEADERBOARD, "--status", "failed")
    assert (none.code, none.out, none.err) == (0, "", "0 runs\n")
    for order in SORTS:
        assert call(capsys, "results", "list", LEADERBOARD, "--sort", order).code == 0


def test_folders_that_are_not_runs_are_counted_and_named(damaged, capsys):
    listed = call(capsys, "results", "list", damaged)
    assert listed.code == 0
    assert len(listed.out.splitlines()) == 4  # three runs below the names of the columns
    assert "3 runs\n" in listed.err
    assert "2 folders cannot be read:" in listed.err
    assert "torn/record.json: corrupt (" in listed.err
    assert "foreign/record.json: record schema None" in listed.err
    assert (
        f"1 folder without a record (running, or killed):\n  {damaged / 'unfinished'}" in listed.err
    )
    assert "notes" not in listed.err
    nowhere = call(capsys, "results", "list", damaged / "nowhere")
    assert (nowhere.code, "there is no such results folder" in nowhere.err) == (2, True)


def test_ten_thousand_runs_take_seconds(tmp_path):
    for number in range(2_000):
        (tmp_path / str(number)).mkdir()
        os.link(PPO / "0" / "record.json", tmp_path / str(number) / "record.json")
    began = time.perf_counter()
    assert len(lmrl_bench.list_runs(tmp_path, sort="reward").runs) == 2_000
    assert time.perf_counter() - began < 10


def test_a_run_is_shown(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = "results/quickstart/docs-en-de/ppo/0"
    record = read_record(folder)
    shown = call(capsys, "results", "show", folder)
    assert shown.code == 0, shown.err
    assert shown.out.startswith(f"completed: {record.id}\n")
    assert f"chrf {record.results['test'].metrics['chrf'].value:.4f}" in shown.out
    assert "policy.model = nano-seq2seq  (default null)" in shown.out
    assert "validation, " in shown.out
    content = call(capsys, "results", "show", folder, "--json").json
    assert content["record"]["id"] == record.id
    changed = {each["name"]: (each["value"], each["default"]) for each in content["changed"]}
    assert changed["budget.tokens"] == (record.config["budget"]["tokens"], 60_000)
    assert not {"task", "algorithm.name", "algorithm.gamma"} & set(changed)
    assert call(capsys, "results", "show", record.id, "--results", LEADERBOARD).out.splitlines()[
        0
    ] == (f"completed: {record.id}")
    assert call(capsys, "results", "show", "docs-en-de/ppo/0", "--results", LEADERBOARD).code == 0


def test_a_name_of_no_run_or_of_several_is_refused(damaged, capsys):
    wrong = call(capsys, "results", "show", "docs-en-de/ppo/7", "--results", damaged)
    assert (wrong.code, "neither the folder of a run nor the name of one" in wrong.err) == (2, True)
    shutil.copytree(damaged / "docs-en-de" / "ppo" / "0", damaged / "again")
    twice = call(capsys, "results", "show", "docs-en-de/ppo/0", "--results", damaged)
    assert (twice.code, "several runs have this name" in twice.err) == (2, True)
    for folder, reason in (
        ("torn", "corrupt"),
        ("unfinished", "the run has not finished"),
        ("m", "no record"),
    ):
        refused = call(capsys, "results", "show", damaged / folder)
        assert (refused.code, reason in refused.err, "Traceback" in refused.err) == (2, True, False)


def test_two_runs_are_compared(capsys):
    left, right = (
        LEADERBOARD / "docs-en-de" / "ppo" / "0",
        LEADERBOARD / "docs-en-de" / "trpo" / "0",
    )
    found = call(capsys, "results", "compare", left, right, "--json").json
    settings = {each["name"]: (each["left"], each["right"]) for each in found["settings"]}
    assert settings["algorithm.name"] == ("ppo", "trpo")
    assert settings["algorithm.clip_range"] == ("0.2", None)
    assert not {each["name"] for each in found["same"]} & set(settings)
    values = [read_record(run).results["test"].metrics["chrf"].value for run in (left, right)]
    (chrf,) = (each for each in found["results"] if each["name"] == "test chrf")
    assert [chrf["left"], chrf["right"]] == values
    tokens = [pair["tokens"] for pair in found["curves"]]
    ends = [lmrl_bench.load_run(run).curve[-1].tokens for run in (left, right)]
    assert (tokens[0], tokens[-1]) == (0, min(ends))
    for first, second in found["completions"]:
        assert first["sample_id"] == second["sample_id"]
        assert first["prompt"] == second["prompt"] is not None
    text = call(capsys, "results", "compare", left, right, "-n", "1").out
    assert f"{values[0]:.4f}  {values[1]:.4f}  {values[1] - values[0]:+.4f}" in " ".join(
        text.split()
    ).replace(" ", "  ")
    assert "budget.tokens" not in text
    assert "budget.tokens" in call(capsys, "results", "compare", left, right, "--all").out
    same = call(capsys, "results", "compare", left, left)
    assert "settings: all equal" in same.out


def test_runs_of_two_tasks_are_compared_as_far_as_they_go(capsys):
    shown = call(
        capsys, "results", "compare", PPO / "0", LEADERBOARD / "debian-synopsis" / "ppo" / "0"
    )
    assert shown.code == 0, shown.err
    assert "results do not compare" in shown.out
    assert "left:" not in shown.out  # no prompts in common


def test_completions_are_shown_best_and_worst_first(capsys):
    run = PPO / "0"
    rewards = {}
    for order in ("best", "worst"):
        rows = call(capsys, "results", "samples", run, "-n", "4", f"--{order}", "--json").json
        rewards[order] = [row["reward"] for row in rows]
    assert rewards["best"] == sorted(rewards["best"], reverse=True)
    assert rewards["worst"] == sorted(rewards["worst"])
    assert rewards["worst"][-1] <= rewards["best"][-1]
    shown = call(capsys, "results", "samples", run, "-n", "2").out
    assert [shown.count(word) for word in ("prompt:", "reference:", "completion:", "reward ")] == [
        2
    ] * 4
    for options, reason in (
        (["--split", "tset"], "did you mean 'test'"),
        (["--best", "--worst"], "exclude each other"),
        (["-n", "0"], "greater than or equal to 1"),
    ):
        refused = call(capsys, "results", "samples", run, *options)
        assert (refused.code, reason in refused.err) == (2, True), refused.err


def test_texts_beyond_the_record_are_those_of_the_same_version_of_the_task(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(PPO / "0", run)
    assert all(each.prompt and each.references for each in lmrl_bench.load_completions(run))
    record = json.loads((run / "record.json").read_text())
    record["task"]["digest"] = "0" * 64
    (run / "record.json").write_text(json.dumps(record))
    known = [each.prompt is not None for each in lmrl_bench.load_completions(run)]
    assert any(known)
    assert not all(known)


def test_no_torch_is_loaded():
    script = f"""
import sys
from lmrl_bench.cli import main
run = {str(PPO / "0")!r}
for words in (["list", {str(LEADERBOARD)!r}], ["show", run], ["compare", run, run], ["samples", run, "--best"]):
    sys.argv = ["lmrl-bench", "results", *words]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, words
heavy = {{"torch", "transformers", "gymnasium", "stable_baselines3"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_sparklines():
    assert sparkline([0.0, 1.0, 0.5]) == "▁█▅"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert len(sparkline(list(range(1000)))) == 60
