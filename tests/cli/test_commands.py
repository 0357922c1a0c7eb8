"""Every command works on toy data, prints JSON where it says so, and starts fast."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
import typer
import yaml
from fixtures.leaderboards import fake_content, fake_spec, write_cell, write_leaderboard
from fixtures.runs import SETTINGS, call

from lmrl_bench import __version__
from lmrl_bench.cli.app import app
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.planning.cells import of_leaderboard
from lmrl_bench.records.record import RunRecord

HEAVY = "torch transformers gymnasium stable_baselines3 pandas matplotlib datasets evaluate rich"
COMMANDS = [
    [], ["run"], ["settings"], ["doctor"],
    ["leaderboard"], ["leaderboard", "run"], ["leaderboard", "tune"], ["leaderboard", "build"],
    ["leaderboard", "check"], ["leaderboard", "export"], ["leaderboard", "stats"], ["leaderboard", "power"],
    ["leaderboard", "list"], ["leaderboard", "show"],
    ["task"], ["task", "list"], ["task", "show"], ["task", "preview"], ["task", "lint"], ["task", "new"],
    ["algorithm"], ["algorithm", "list"], ["algorithm", "show"],
    ["metric"], ["metric", "list"], ["metric", "show"], ["reward"], ["reward", "list"], ["reward", "show"],
    ["policy"], ["policy", "export"], ["policy", "sample"], ["policy", "evaluate"],
    ["download"], ["download", "list"], ["download", "install"],
    ["results"], ["results", "list"], ["results", "show"], ["results", "compare"], ["results", "samples"],
    ["results", "validate"], ["results", "rescore"], ["results", "retrain"], ["results", "bounds"],
]  # fmt: skip


def test_help_and_import_load_nothing_heavy():
    """One process: importing the package, then the help of every command."""
    script = f"""
import sys, lmrl_bench
heavy = set({HEAVY.split()!r})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from lmrl_bench.cli import main
for words in {COMMANDS!r}:
    sys.argv = ["lmrl-bench", *words, "--help"]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, words
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: lmrl-bench") == len(COMMANDS)


def _commands(command, words=()):
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))


def test_help_is_written_for_people(capsys):
    """Plain types, one spelling for each option, and summaries that fit on their line."""
    options = set()
    for words, command in _commands(typer.main.get_command(app)):
        text = call(capsys, *words, "--help").out
        assert "list[" not in text.partition("Options:")[2], words
        assert "..." not in text.partition("Commands:")[2], words
        options |= {
            opt for option in command.params for opt in (*option.opts, *option.secondary_opts)
        }
    old = (
        "--output",
        "--folder",
        "--fresh",
        "--retry-failed",
        "--replace-stale",
        "--row",
        "--board",
    )
    assert not options & set(old)
    assert {"--out", "--results", "--rerun", "--jobs", "--json", "--set", "--entry"} <= options


def test_commands_are_listed_most_used_first(capsys):
    listed = call(capsys, "--help").out.partition("Commands:")[2].splitlines()
    assert [line.split()[0] for line in listed if line] == [
        "run", "leaderboard", "task", "algorithm", "metric", "reward", "policy", "download",
        "results", "settings", "doctor",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["leaderbord"], "leaderboard"),
        (["leaderboard", "stat"], "stats"),
        (["downloads"], "download"),
    ],
)
def test_an_unknown_command_names_the_nearest(words, meant, capsys):
    refused = call(capsys, *words)
    assert (refused.code, f"'{meant}'" in refused.err) == (2, True), refused.err


def test_the_settings_of_an_algorithm_are_shown_as_set_takes_them(capsys):
    text = call(capsys, "algorithm", "show", "ppo").out
    assert "  kl.coefficient = 0.1  (number ≥ 0)\n" in text
    assert "  learning_rate_schedule = constant  (constant | linear)\n" in text
    assert "KLConfig" not in text


def test_version(capsys):
    shown = call(capsys, "--version")
    assert (shown.code, shown.out) == (0, f"lmrl-bench {__version__}\n")


def test_what_needs_no_model_loads_none(world):
    """Lists and descriptions: seconds matter to someone who looks around."""
    script = f"""
import sys
from lmrl_bench.cli import main
def call(*words):
    sys.argv = ["lmrl-bench", *words]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, words
heavy = set({HEAVY.split()!r})
for words in (["task", "list"], ["task", "show", "toy"], ["leaderboard", "list"], ["download", "list"],
              ["reward", "list"]):
    call(*words)
assert not heavy & set(sys.modules), heavy & set(sys.modules)
call("metric", "list")
heavy -= {{"pandas", "rich"}}  # which the libraries of overlap metrics import
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_task_list_and_show(world, capsys):
    rows = {row["name"]: row for row in call(capsys, "task", "list", "--json").json}
    assert {"toy", "imdb-continuation", "debian-synopsis", "docs-en-de"} <= set(rows)
    assert rows["toy"]["primary"] == "chrf"
    assert call(capsys, "task", "list").out.splitlines()[0].split() == list(rows["toy"])
    shown = call(capsys, "task", "show", "toy", "--json").json
    assert shown == yaml.safe_load(call(capsys, "task", "show", "toy").out)
    assert shown["schema"] == 1
    assert call(capsys, "task", "show", world.folder, "--json").json == shown


def test_task_preview(world, capsys):
    samples = call(capsys, "task", "preview", "toy", "--count", "2", "--json").json
    assert len(samples) == 2
    text = call(capsys, "task", "preview", "toy", "--count", "1").out
    assert samples[0]["prompt"] in text


def test_task_lint_finds_what_the_toy_task_lacks(world, capsys):
    linted = call(capsys, "task", "lint", "toy", "--json")
    assert linted.code == 2
    assert any("no sha256" in finding["message"] for finding in linted.json)


def make_task(world, capsys, *arguments):
    """Makes a task as a user does, and gives it the toy policy."""
    (world.root / "mine").mkdir()
    made = call(capsys, "task", "new", "my-task", "--out", "mine", *arguments)
    assert made.code == 0, made.err
    assert "next: lmrl-bench task lint mine/my-task" in made.err
    path = world.root / "mine" / "my-task" / "task.yaml"
    text = path.read_text()
    assert "default: nano-seq2seq" in text
    path.write_text(text.replace("default: nano-seq2seq", f"default: {world.model}"))
    return "mine/my-task"


def test_a_new_task_lints_previews_and_runs(world, capsys):
    task = make_task(world, capsys)
    linted = call(capsys, "task", "lint", task, "--json")
    assert linted.code == 0, linted.out
    assert all(finding["severity"] == "warning" for finding in linted.json)
    sets = [f"--set=evaluation.{name}=4" for name in ("validation_samples", "test_samples")]
    ran = call(
        capsys, "run", "--task", task, "--algorithm", "a2c", "--seed", "3", "--out", "out", "--json",
        "--set", "policy.init=base", "--set", "budget.tokens=50", *sets,
        "--set", "algorithm.episodes_per_iteration=4",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    record = RunRecord.model_validate(ran.json)
    assert (record.status, record.seed, record.task.name) == ("completed", 3, "my-task")
    assert "[my-task/a2c/3] completed" in ran.err


def test_a_new_task_of_a_users_file(world, capsys):
    with (world.root / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["frage", "antwort"])
        writer.writerows([f"say {number}", f"well {number}"] for number in range(80))
    unclear = call(capsys, "task", "new", "other", "--from", "rows.csv", "--out", ".")
    assert unclear.code == 2
    assert "--prompt-column" in unclear.err
    columns = ["--prompt-column", "frage", "--reference-column", "antwort"]
    task = make_task(world, capsys, "--from", "rows.csv", *columns)
    samples = call(capsys, "task", "preview", task, "--count", "1", "--json").json
    assert samples[0]["prompt"].startswith("say ")


def test_algorithm_list_and_show(capsys):
    names = {row["name"] for row in call(capsys, "algorithm", "list", "--json").json}
    learning = {"a2c", "grpo", "nlpo", "nlpo-rl4lms", "ppo", "reinforce", "rloo", "trpo"}
    assert names >= {"no-training", "sft", *learning}
    for name in names:
        shown = call(capsys, "algorithm", "show", name, "--json").json
        assert shown["name"] == name
        assert len(shown["doc"]) > 40
        text = call(capsys, "algorithm", "show", name).out
        assert all(f"  {field}" in text for field in shown["schema"]["properties"])


def test_download_list(world, capsys):
    rows = call(capsys, "download", "list", "--json").json
    assert {"name", "installed", "package", "license"} <= set(rows[0])
    assert not any(row["installed"] for row in rows)  # the cache is empty


def test_doctor(world, capsys):
    rows = {row["what"]: row["value"] for row in call(capsys, "doctor", "--json").json}
    assert rows["torch"].startswith("2.")
    assert rows["OMP_NUM_THREADS"] == "1"
    assert rows["cache"] == str(world.root / "cache")
    assert rows["results folder"] == "writable"


def test_run_dry_run_prints_the_whole_configuration(world, capsys):
    dry = call(capsys, "run", world.run_file(), "--dry-run", "--set", "seed=4")
    assert dry.code == 0
    config = dry.json
    assert config["seed"] == 4
    assert config["algorithm"].items() >= SETTINGS["algorithm"].items()
    assert config["algorithm"]["gae_lambda"] == 0.95
    assert config["policy"]["model"] == str(world.model)
    lines = dry.err.splitlines()
    assert lines[0] == "settings: the defaults of 'ppo'; the task has none of its own"
    assert lines[1].startswith("digest ")
    assert lines[3] == "initial policy: the base model 'model'"
    first = call(capsys, "run", "--task", "toy", "--algorithm", "ppo", "--dry-run")
    assert "no SFT policy for 'model' yet: 3 steps of 16 samples (12 samples)" in first.err
    assert first.err.splitlines()[2] == "folder: results/runs/toy/ppo/0"
    assert not (world.root / "out").exists()


def test_run_prints_its_results_and_flags_override_the_file(world, capsys):
    run = world.run_file(algorithm={"name": "no-training"}, entry="still")
    ran = call(capsys, "run", run, "--seed", "2", "--out", "elsewhere")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].startswith("completed: toy/still/model/s2-")
    assert "test           reward " in ran.out
    assert ran.out.splitlines()[-1] == "record: elsewhere/record.json"
    assert not (world.root / "out").exists()


def stop(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ((), "again to resume"),
        (
            (
                "--rerun",
                "all",
            ),
            "again without --rerun to resume",
        ),
    ],
)
def test_a_stopped_command_says_how_to_resume(options, again, world, capsys, monkeypatch):
    monkeypatch.setattr("lmrl_bench.planning.plan.ready", stop)
    stopped = call(capsys, "run", world.run_file(), *options)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == f"stopped; run the same command {again}"


@pytest.mark.parametrize("kept", [False, True])
def test_a_stopped_rerun_says_what_is_kept(kept, world, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("lmrl_bench.verification.retrain.retrain", stop)
    options = ["--out", tmp_path / "kept"] if kept else []
    stopped = call(capsys, "results", "retrain", tmp_path, *options)
    assert stopped.code == 130
    assert ("run the same command again to resume" in stopped.err) == kept
    assert ("nothing is kept" in stopped.err) != kept


@pytest.fixture
def leaderboard(world):
    """A leaderboard with fake records."""
    spec = fake_spec(tasks=[{"task": "toy"}], seeds=[0, 1])
    folder = world.root / "leaderboards" / "fake"
    folder.mkdir(parents=True)
    (folder / "leaderboard.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    holes = {("toy", "a2c", 1): "failed", ("toy", "nlpo", 0): None}
    write_leaderboard(world.root / "results", spec, holes, of_leaderboard(spec))
    return spec, folder


def test_leaderboard_list_build_and_check(world, leaderboard, capsys):
    spec, folder = leaderboard
    assert "quickstart" in {
        row["name"] for row in call(capsys, "leaderboard", "list", "--json").json
    }
    stale = call(capsys, "leaderboard", "check", folder)
    assert stale.code == 3
    assert "Traceback" not in stale.err
    built = call(capsys, "leaderboard", "build", folder)
    assert built.code == 0, built.err
    assert "wrote leaderboards/fake/" in built.err
    json.loads((folder / "leaderboard.json").read_text())
    assert call(capsys, "leaderboard", "check", folder).code == 0
    missing = next(cell for cell in cells(spec) if (cell.entry, cell.seed) == ("nlpo", 0))
    content = fake_content(missing, expected=of_leaderboard(spec))
    write_cell(world.root / "results", "fake", missing, content)
    stale = call(capsys, "leaderboard", "check", folder)
    assert stale.code == 3
    assert "error: " in stale.err
    world.edit_task(version=2)
    refused = call(capsys, "leaderboard", "build", folder)
    assert refused.code == 2
    assert "results/fake/toy/zero-shot/0: task.version is 1 in the record, 2 today" in refused.err


def test_a_leaderboard_is_built_and_checked_without_torch(world, leaderboard):
    """Although every cell is resolved, and its start and task are known by content."""
    script = f"""
import sys
from lmrl_bench.cli import main
for word in ("build", "check", "show"):
    sys.argv = ["lmrl-bench", "leaderboard", word, {str(leaderboard[1])!r}]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, word
assert "lmrl_bench.planning.cells" in sys.modules
assert not {{"torch", "transformers", "gymnasium", "stable_baselines3"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_bars_of_the_libraries(world):
    """transformers shows one for each file of weights that it reads, unless it is told not to."""
    code = (
        "import contextlib, sys; sys.argv = ['lmrl-bench', 'leaderboard', 'list'];"
        "from lmrl_bench.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "from transformers import GPT2LMHeadModel as Model\n"
        f"assert Model.from_pretrained({str(world.model)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Loading weights" not in done.stderr
