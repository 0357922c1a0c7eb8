"""`task new`: the folder opens, lints and is never half there."""

from __future__ import annotations

import csv
import json

import pytest
from helpers_tasks import count_words, rows

from lmrl_bench.config.loading import load_yaml, validate
from lmrl_bench.config.run import RunConfig
from lmrl_bench.errors import DataError, TaskError
from lmrl_bench.tasks.lint import lint
from lmrl_bench.tasks.preview import preview
from lmrl_bench.tasks.scaffold import new_task
from lmrl_bench.tasks.task import Task


def user_file(folder, count=200, **columns):
    names = {"question": "prompt", "answer": "reference", "level": "label", **columns}
    path = folder / "rows.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows("train", count):
            writer.writerow([row[name] for name in names.values()])
    return path


def test_the_toy_task_lints_without_errors(tmp_path):
    task = Task(new_task("my-task", tmp_path))
    findings = lint(task, count_words)
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert sum(len(task.samples(split)) for split in ("train", "validation", "test")) == 320
    assert (task.folder / "README.md").read_text().startswith("# my-task\n")


def test_rows_of_a_file_keep_every_column(tmp_path):
    task = Task(new_task("my-task", tmp_path, user_file(tmp_path)))
    assert [f for f in lint(task, count_words) if f.severity == "error"] == []
    everything = [s for split in ("train", "validation", "test") for s in task.samples(split)]
    assert {(s.prompt, *s.references) for s in everything} == {
        (row["prompt"], row["reference"]) for row in rows("train", 200)
    }
    assert len(task.samples("train")) > 120
    text = (task.folder / "task.yaml").read_text()
    (task.folder / "task.yaml").write_text(text.replace("{{ prompt }}", "{{ level }} {{ prompt }}"))
    assert Task(task.folder).samples("train")[0].prompt.split()[0] in {"positive", "negative"}


def test_equal_prompts_stay_together_and_repetitions_go(tmp_path):
    path = tmp_path / "rows.jsonl"
    data = [{"prompt": f"p{n % 60}", "reference": f"r{n % 120}"} for n in range(240)]
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    task = Task(new_task("my-task", tmp_path, path))
    prompts = [{s.prompt for s in task.samples(split)} for split in ("train", "validation", "test")]
    assert sum(map(len, prompts)) == 60
    assert sum(info["rows"] for info in task.data_info().values()) == 120


def test_the_settings_are_a_run_configuration(tmp_path):
    folder = new_task("my-task", tmp_path)
    settings = load_yaml(folder / "algorithms" / "ppo.yaml")
    assert validate(RunConfig, {**settings.data, "task": "my-task"}).algorithm.name == "ppo"


@pytest.mark.parametrize("name", ["My-Task", "a b", "../x", "-x", "", "ä"])
def test_bad_names(tmp_path, name):
    with pytest.raises(TaskError, match="is no task name"):
        new_task(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_tasks_is_made_and_no_more(tmp_path):
    assert new_task("mine", tmp_path / "tasks").is_dir()
    with pytest.raises(TaskError, match="no writable folder; make it"):
        new_task("mine", tmp_path / "no" / "tasks")
    assert not (tmp_path / "no").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "my-task").mkdir()
    with pytest.raises(TaskError, match="exists and is not overwritten"):
        new_task("my-task", tmp_path)
    assert list((tmp_path / "my-task").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "options", "error", "message"),
    [
        ("x,y\n1,2\n", {}, TaskError, r"--prompt-column \(columns: x, y\)"),
        ("text,y\n1,2\n", {}, TaskError, r"--reference-column \(columns: y\)"),
        ("text,y\n1,2\n", {"reference_column": "z"}, TaskError, "no column 'z'"),
        ("text,answer\n1,\n", {}, DataError, r"rows\.csv:2: the column 'answer' is empty"),
        ("text,answer\n1,2\n", {}, DataError, "1 different rows are too few"),
        ("text,answer\n1\n", {}, DataError, r"rows\.csv:2"),
        ("text,answer\n", {}, DataError, "no rows"),
    ],
)
def test_an_unusable_file_leaves_nothing_behind(tmp_path, content, options, error, message):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(error, match=message):
        new_task("my-task", tmp_path, path, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_preview_of_the_toy_task(tmp_path):
    row = preview(Task(new_task("my-task", tmp_path)), 2)[0]
    assert (row.gold_reward, row.empty_reward) == (1.0, 0.0)
    assert 0.0 <= row.shuffled_reward < 1.0
    assert row.shuffled not in row.references
    assert row.prompt in row.text()
    assert json.dumps(row.as_dict())
