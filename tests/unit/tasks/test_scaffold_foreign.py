"""`task new` with rows of strangers: own splits that do not fit, rows without references, odd names."""

from __future__ import annotations

import json

import pytest

from lmrl_bench.core.errors import TaskError
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.tasks.lint import lint
from lmrl_bench.tasks.scaffold import new_task
from lmrl_bench.tasks.task import Task


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count=60, word="p", **more):
    return [{"prompt": f"{word} {n}", "answer": f"a {n}"} | more for n in range(count)]


def made(tmp_path, train, test, **options):
    said = []
    splits = {
        "train": write(tmp_path / "a.jsonl", train),
        "test": write(tmp_path / "b.jsonl", test),
    }
    folder = new_task("mine", tmp_path, splits=splits, say=said.append, **options)
    return folder, said


def test_one_file_as_two_splits_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", rows())
    with pytest.raises(TaskError, match="given for both --train and --test"):
        new_task("mine", tmp_path, splits={"train": path, "test": path})
    assert [item.name for item in tmp_path.iterdir()] == ["a.jsonl"]


def test_shared_prompts_are_counted_and_stand_in_the_card(tmp_path):
    folder, said = made(tmp_path, rows(), [*rows(5), *rows(15, "q")])
    count = sum(row.prompt in {f"p {n}" for n in range(5)} for row in Task(folder).samples("train"))
    note = f"test: {count} of 20 rows have a prompt of the training rows"
    assert count
    assert any(note in text for text in said)
    assert note in (folder / "README.md").read_text()


def test_own_splits_need_the_same_columns(tmp_path):
    with pytest.raises(TaskError, match=r"b\.jsonl: no column 'prompt', unlike 'train'"):
        made(tmp_path, rows(), [{"question": "x", "answer": "y"}])
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_the_columns_of_the_training_rows_are_those_of_all(tmp_path):
    train = [{"question": f"p {n}", "answer": "a"} for n in range(60)]
    test = [{"question": f"q {n}", "prompt": "not this", "answer": "a"} for n in range(20)]
    folder, said = made(tmp_path, train, test)
    assert {row.prompt for row in Task(folder).samples("test")} == {f"q {n}" for n in range(20)}
    assert "train: lacks the column 'own_prompt' of another split" in said


def test_renamed_ids_are_counted(tmp_path):
    train = [row | {"id": n} for n, row in enumerate(rows())]
    test = [row | {"id": n} for n, row in enumerate(rows(20, "q"))]
    folder, said = made(tmp_path, train, test)
    assert "test: 20 ids of another split now start with 'test-'" in said
    assert len({row.id for row in Task(folder).samples("test")}) == 20


@pytest.mark.parametrize("name", ["1", "null", "true", "1e3", "0x10"])
def test_names_that_yaml_reads_as_something_else(tmp_path, name):
    assert Task(new_task(name, tmp_path)).name == name


@pytest.mark.parametrize("columns", [["prompt"], ["prompt", "answer"]])
def test_rows_without_references(tmp_path, columns):
    path = write(tmp_path / "a.jsonl", [{key: row[key] for key in columns} for row in rows()])
    said = []
    folder = new_task("mine", tmp_path, path, references=len(columns) == 1, say=said.append)
    task = Task(folder)
    assert any(text.startswith("no references") for text in said)
    assert [row.references for row in task.samples("train")[:2]] == [(), ()]
    assert not [
        found for found in lint(task, lambda texts: [1] * len(texts)) if found.severity == "error"
    ]
    assert not (folder / "algorithms" / "sft.yaml").exists()
    assert resolve(task, {"algorithm": {"name": "grpo"}}).policy.init == "base"


def test_two_answers_about_references_are_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", rows())
    with pytest.raises(TaskError, match="exclude each other"):
        new_task("mine", tmp_path, path, reference_column="answer", references=False)
