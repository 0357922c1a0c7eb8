"""The commands and the definitions of tasks/README.md do what it says."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from fixtures.runs import call

from lmrl_bench.core.paths import bundled
from lmrl_bench.tasks.spec import DataSpec, TaskSpec
from lmrl_bench.tasks.task import Task

README = (bundled("tasks") / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, flags=re.DOTALL)


def commands(word: str) -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if f" task {word} " in line]


def table(path, columns, separator):
    rows = [separator.join(f"{name} {n}" for name in columns) for n in range(90)]
    path.write_text("\n".join([separator.join(columns), *rows]) + "\n")


@pytest.mark.parametrize("number", range(len(commands("new"))))
def test_task_new(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "rows.csv", ["question", "answer"], ",")
    for split in ("train", "test"):
        table(tmp_path / f"{split}.tsv", ["question", "short", "long"], "\t")
    made = call(capsys, *commands("new")[number])
    assert (made.code, made.out) == (0, "")
    assert len(Task(tmp_path / "my-task").samples("test")[0].references) == (1, 2)[number]
    shown = call(capsys, *commands("preview")[0])
    assert shown.code == 0
    assert "reward" in shown.out


def test_every_definition_of_data_is_one():
    parts = [yaml.safe_load(block.replace("…", "a" * 64)) for block in blocks("yaml")]
    parts = [part for part in parts if "data" in part]
    assert len(parts) >= 3
    for part in parts:
        if "schema" in part:
            TaskSpec.model_validate(part)
        elif part["data"]["reader"] != "hf-datasets":
            DataSpec.model_validate(part["data"])
