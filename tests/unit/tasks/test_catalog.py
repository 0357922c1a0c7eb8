"""Lookup of tasks, and the messages when a task is not found."""

from __future__ import annotations

import logging
import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from helpers_tasks import write_task

from lmrl_bench.core.errors import LmrlBenchError, TaskError
from lmrl_bench.tasks import catalog
from lmrl_bench.tasks.catalog import load_task, names

TASKS_DIR: Path


def test_bundled_tasks_are_found():
    assert {"debian-synopsis", "docs-en-de", "imdb-continuation"} <= set(names())


def test_by_path_by_variable_and_by_name(tmp_path, monkeypatch):
    folder = write_task(tmp_path)
    assert load_task(folder).name == load_task(str(folder)).name == "small"
    with pytest.raises(TaskError, match="unknown task 'small'"):
        load_task("small")
    (tmp_path / "second").mkdir()
    monkeypatch.setenv(catalog.VARIABLE, f"{tmp_path / 'second'}{os.pathsep}{tmp_path}")
    assert "small" in names()
    assert load_task("small").folder == folder.resolve()


def test_unknown_name_gives_the_nearest_and_the_list():
    with pytest.raises(TaskError, match=r"'docs-en-d'; did you mean 'docs-en-de'\? .*debian-synop"):
        load_task("docs-en-d")


def test_a_known_folder_whose_definition_is_gone_is_named(tmp_path, monkeypatch):
    folder = write_task(tmp_path)
    monkeypatch.setenv(catalog.VARIABLE, str(tmp_path))
    (folder / "task.yaml").unlink()
    with pytest.raises(TaskError, match=r"(?s)unknown task 'small'.*restore .*small/task.yaml"):
        load_task("small")


def test_a_folder_without_a_task(tmp_path):
    with pytest.raises(TaskError, match=r"no task\.yaml.*task new"):
        load_task(tmp_path)


def test_a_wrong_variable_and_two_tasks_of_one_name(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(TaskError, match=r"LMRL_BENCH_TASKS names .*nowhere, which is not a folder"):
        names()
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        write_task(tmp_path / part)
    monkeypatch.setenv(catalog.VARIABLE, f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}")
    with pytest.raises(TaskError, match="two tasks are named 'small'"):
        names()


def test_entry_points(tmp_path, monkeypatch, caplog):
    write_task(tmp_path)
    monkeypatch.setattr(f"{__name__}.TASKS_DIR", tmp_path, raising=False)
    entries = [
        EntryPoint("good", f"{__name__}:TASKS_DIR", catalog.GROUP),
        EntryPoint("bad", "no_such_package:TASKS_DIR", catalog.GROUP),
    ]
    monkeypatch.setattr(catalog, "entry_points", lambda group: entries)
    with caplog.at_level(logging.WARNING):
        assert "small" in names()
    assert "'bad'" in caplog.text
    assert load_task("small").name == "small"
    with pytest.raises(TaskError, match=r"skipped: the task folder 'bad'.*ModuleNotFoundError"):
        load_task("task-of-bad")


def test_a_link_to_nothing_is_named_and_not_left_out(tmp_path, monkeypatch):
    folder = tmp_path / "tasks" / "gone"
    folder.mkdir(parents=True)
    (folder / "task.yaml").symlink_to(tmp_path / "nothing")
    monkeypatch.setenv("LMRL_BENCH_TASKS", str(tmp_path / "tasks"))
    with pytest.raises(LmrlBenchError, match=r"gone/task\.yaml: cannot be read"):
        load_task("gone")
