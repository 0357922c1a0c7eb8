"""`task new`: the folder opens, lints and is never half there."""

from __future__ import annotations

import csv
import datetime
import json

import pyarrow
import pyarrow.parquet
import pytest
from helpers_tasks import count_words, rows

from lmrl_bench.config.loading import load_yaml, validate
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import DataError, TaskError
from lmrl_bench.tasks.lint import lint
from lmrl_bench.tasks.preview import preview
from lmrl_bench.tasks.readers import read_jsonl
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
    with pytest.raises(TaskError, match="is not a valid task name"):
        new_task(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_tasks_is_made_and_no_more(tmp_path):
    assert new_task("mine", tmp_path / "tasks").is_dir()
    with pytest.raises(TaskError, match="not a writable folder; create it"):
        new_task("mine", tmp_path / "no" / "tasks")
    assert not (tmp_path / "no").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "my-task").mkdir()
    with pytest.raises(TaskError, match="exists and will not be overwritten"):
        new_task("my-task", tmp_path)
    assert list((tmp_path / "my-task").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "options", "error", "message"),
    [
        ("x,y\n1,2\n", {}, TaskError, r"--prompt-column \(columns: x, y\)"),
        ("text,y\n1,2\n", {}, TaskError, r"--reference-column \(columns: y\)"),
        ("text,y\n1,2\n", {"reference_column": "z"}, TaskError, "no column 'z'"),
        ("text,answer\n1,\n", {}, DataError, r"rows\.csv:2: the column 'answer' is empty"),
        ("text,answer\n1,2\n", {}, DataError, "1 distinct rows are too few"),
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


SPLITS = ("train", "validation", "test")


def write_jsonl(path, data):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data))
    return path


def made(tmp_path, source, **options):
    """Makes the task; returns it, its rows by split as they were written, and what was said."""
    said: list[str] = []
    task = Task(new_task("my-task", tmp_path, source, say=said.append, **options))
    written = {
        split: [dict(row.values) for row in read_jsonl(task.folder / f"data/{split}.jsonl.gz")]
        for split in SPLITS
    }
    assert all(line in (task.folder / "README.md").read_text() for line in said)
    return task, written, said


def everything(written):
    return [row for split in SPLITS for row in written[split]]


def test_rows_that_differ_in_a_third_column_are_all_kept(tmp_path):
    data = [{"prompt": f"p{n // 2}", "reference": "r", "style": n % 2} for n in range(120)]
    _, written, said = made(tmp_path, write_jsonl(tmp_path / "r.jsonl", data))
    found = [(row["prompt"], row["style"]) for row in everything(written)]
    assert sorted(found) == sorted((row["prompt"], row["style"]) for row in data)
    assert len({row["id"] for row in everything(written)}) == 120
    assert said == []


def test_repetitions_are_left_out_with_their_number(tmp_path):
    data = [{"prompt": f"p{n % 60}", "reference": "r", "style": 1} for n in range(63)]
    _, written, said = made(tmp_path, write_jsonl(tmp_path / "r.jsonl", data))
    assert len(everything(written)) == 60
    assert said == ["3 rows dropped: equal to an earlier row in every column"]


def test_columns_with_our_names_are_kept(tmp_path):
    data = [
        {"q": f"q{n}", "a": f"a{n}", "id": f"mine {n}", "prompt": f"other {n}", "reference": n}
        for n in range(60)
    ]
    source = write_jsonl(tmp_path / "r.jsonl", data)
    task, written, said = made(tmp_path, source, prompt_column="q", reference_column="a")
    rows_ = sorted(everything(written), key=lambda row: row["own_reference"])
    assert rows_[7] == {
        "id": "mine 7", "prompt": "q7", "reference": "a7", "own_prompt": "other 7", "own_reference": 7,
    }  # fmt: skip
    assert said == [
        "'prompt' is renamed to 'own_prompt'",
        "'reference' is renamed to 'own_reference'",
    ]
    assert {s.id for split in SPLITS for s in task.samples(split)} == {row["id"] for row in data}


def test_an_id_column_that_names_no_row_is_a_column(tmp_path):
    data = [{"prompt": f"p{n}", "answer": "r", "id": n // 2} for n in range(60)]
    _, written, said = made(tmp_path, write_jsonl(tmp_path / "r.jsonl", data))
    assert {row["own_id"] for row in everything(written)} == set(range(30))
    assert said == ["'id' is renamed to 'own_id'"]


def test_nested_columns_are_kept(tmp_path):
    meta = {"tests": [{"in": [1, None], "out": "x"}], "level": {"n": 1.5}}
    data = [{"prompt": f"p{n}", "answer": "r", "metadata": meta} for n in range(60)]
    task, written, said = made(tmp_path, write_jsonl(tmp_path / "r.jsonl", data))
    assert {json.dumps(row["metadata"]) for row in everything(written)} == {json.dumps(meta)}
    assert "# meta: [metadata]" in (task.folder / "task.yaml").read_text()
    assert said == []


@pytest.mark.parametrize(("answer", "text"), [(0, "0"), (False, "false"), (1.5, "1.5"), (-3, "-3")])
def test_numbers_and_truth_values_are_answers(tmp_path, answer, text):
    data = [{"prompt": f"p{n}", "answer": answer} for n in range(60)]
    task, _, said = made(tmp_path, write_jsonl(tmp_path / "r.jsonl", data))
    assert {sample.references for sample in task.samples("train")} == {(text,)}
    assert said == ["column 'answer': 60 values written as text"]


def test_a_list_is_several_references_and_so_are_several_columns(tmp_path):
    data = [{"q": f"p{n}", "a": ["x y", "z"][: 1 + n % 2], "b": f"w{n}"} for n in range(60)]
    source = write_jsonl(tmp_path / "r.jsonl", data)
    task, _, said = made(tmp_path, source, prompt_column="q", reference_column="a")
    assert {s.references for s in task.samples("train")} == {("x y",), ("x y", "z")}
    assert said == []
    assert [f for f in lint(task, count_words) if f.severity == "error"] == []
    (tmp_path / "more").mkdir()
    task, _, _ = made(tmp_path / "more", source, prompt_column="q", reference_column=["a", "b"])
    assert {s.references[-1][0] for s in task.samples("train")} == {"w"}
    assert {len(s.references) for s in task.samples("train")} == {2, 3}


def test_what_json_cannot_hold_is_said(tmp_path):
    table = pyarrow.table(
        {
            "prompt": [f"p{n}" for n in range(60)],
            "answer": ["r"] * 60,
            "day": [datetime.date(2024, 1, 2)] * 60,
            "share": [float("nan")] * 2 + [0.5] * 58,
            "raw": [b"\xff"] * 60,
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "r.parquet")
    _, written, said = made(tmp_path, tmp_path / "r.parquet")
    assert {row["day"] for row in everything(written)} == {"2024-01-02"}
    assert sorted(str(row["share"]) for row in everything(written))[-3:] == ["0.5", "None", "None"]
    assert not any("raw" in row for row in everything(written))
    assert said == [
        "column 'day': 60 values written as text (date)",
        "column 'share': 2 values not finite, written as null",
        "column 'raw' dropped: 60 values of type bytes",
    ]


def test_own_splits(tmp_path):
    files = {
        split: write_jsonl(
            tmp_path / f"{split}.jsonl",
            [{"prompt": f"{split} {n}", "answer": "r"} for n in range(40)],
        )
        for split in SPLITS
    }
    task, written, said = made(tmp_path, None, splits=files)
    assert [[row["prompt"] for row in written[s]] for s in SPLITS] == [
        [f"{split} {n}" for n in range(40)] for split in SPLITS
    ]
    assert said == []
    assert "| split | from the data |" in (task.folder / "README.md").read_text()
    (tmp_path / "two").mkdir()
    del files["validation"]
    task, written, _ = made(tmp_path / "two", None, splits=files)
    assert len(written["test"]) == 40
    assert len(written["train"]) + len(written["validation"]) == 40
    assert "validation taken from the training rows" in (task.folder / "README.md").read_text()
    with pytest.raises(TaskError, match="require --train"):
        new_task("other", tmp_path, splits={"test": files["test"]})
    with pytest.raises(TaskError, match="one of them"):
        new_task("other", tmp_path, files["test"], splits=files)


def test_one_prompt_in_two_own_splits_is_for_lint_to_say(tmp_path):
    files = {
        split: write_jsonl(tmp_path / f"{split}.jsonl", [{"prompt": "p", "answer": "r"}])
        for split in SPLITS
    }
    task, _, _ = made(tmp_path, None, splits=files)
    assert any(
        "prompts of 'test' are also in 'train'" in f.message for f in lint(task, count_words)
    )


def test_a_folder_of_save_to_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    parts = {
        split: datasets.Dataset.from_list(
            [{"text": f"{split} {n}", "label": n % 2} for n in range(40)]
        )
        for split in SPLITS
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    options = {"prompt_column": "text", "reference_column": "label"}
    task, written, _ = made(tmp_path, tmp_path / "saved", **options)
    assert [len(written[split]) for split in SPLITS] == [40, 40, 40]
    assert task.samples("test")[0].prompt == "test 0"
    parts["train"].save_to_disk(tmp_path / "single")
    (tmp_path / "more").mkdir()
    _, written, _ = made(tmp_path / "more", tmp_path / "single", **options)
    assert len(everything(written)) == 40
    with pytest.raises(DataError, match="not a folder written by `save_to_disk`"):
        new_task("other", tmp_path, tmp_path / "more")


def test_tab_separated_rows(tmp_path):
    (tmp_path / "r.tsv").write_text("q\ta\n" + "".join(f"is, {n}?\tno\n" for n in range(60)))
    task, _, _ = made(tmp_path, tmp_path / "r.tsv", prompt_column="q", reference_column="a")
    assert task.samples("train")[0].prompt.startswith("is, ")


def test_languages_that_rouge_cannot_read_get_chrf(tmp_path):
    data = [
        {"prompt": f"第{n}个问题是什么", "answer": f"答案是红色的房子{chr(0x4E00 + 7 * n)}"}
        for n in range(90)
    ]
    task, _, _ = made(tmp_path, write_jsonl(tmp_path / "r.jsonl", data))
    assert task.spec.metrics.primary.name == "chrf"
    assert [f for f in lint(task, count_words) if f.severity == "error"] == []


@pytest.mark.parametrize("length", [101, 256, 5000])
def test_long_names(tmp_path, length):
    with pytest.raises(TaskError, match=f"has {length} characters; a task name has at most 100"):
        new_task("a" * length, tmp_path)


def test_the_sft_start_is_short_and_its_settings_are_shown(tmp_path):
    folder = new_task("my-task", tmp_path)
    settings = load_yaml(folder / "algorithms" / "sft.yaml")
    chosen = validate(RunConfig, {**settings.data, "task": "my-task"}).algorithm
    passes = chosen.max_steps * chosen.batch_size / len(Task(folder).samples("train"))
    assert chosen.name == "sft"
    assert 3 <= passes < 3.2


def test_preview_of_the_toy_task(tmp_path):
    row = preview(Task(new_task("my-task", tmp_path)), 2)[0]
    assert (row.gold_reward, row.empty_reward) == (1.0, 0.0)
    assert 0.0 <= row.shuffled_reward < 1.0
    assert row.shuffled not in row.references
    assert row.prompt in row.text()
    assert json.dumps(row.as_dict())
