"""Code of a foreign task folder: announced once on stderr, and its exceptions are one message everywhere."""

from __future__ import annotations

import json

import pytest
from fixtures.runs import call

FAILING = """
def mine(completions, samples):
    return [{}["label"] for _ in samples]

REWARDS = {"mine": mine}
"""
FINE = "def mine(completions, samples):\n    return [float(len(c)) for c in completions]\nREWARDS = {'mine': mine}\n"


def with_plugin(world, code):
    (world.folder / "plugin.py").write_text(code)
    world.edit_task(reward={"terms": [{"name": "mine"}]})


COMMANDS = [["task", "lint", "toy"], ["task", "preview", "toy"], ["run"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[-1 if len(words) == 1 else 1])
def test_foreign_code_is_announced_once_on_stderr(world, capsys, command):
    with_plugin(world, FINE)
    words = [*command, str(world.run_file())] if command == ["run"] else command
    shown = call(capsys, *words)
    assert shown.err.splitlines().count(f"runs {world.folder / 'plugin.py'}") == 1


def test_a_task_without_code_announces_nothing(world, capsys):
    assert "runs " not in call(capsys, "task", "preview", "toy").err


def test_a_failing_reward_names_file_line_and_sample_in_every_command(world, capsys):
    with_plugin(world, FAILING)
    message = "plugin.py:3: KeyError: 'label' while scoring sample '"
    preview = call(capsys, "task", "preview", "toy")
    assert preview.code == 2
    assert message in preview.err
    lint = call(capsys, "task", "lint", "toy", "--json")
    assert lint.code == 2
    assert message in lint.out
    run = call(capsys, "run", str(world.run_file()))
    assert run.code == 1
    assert message in run.err
    assert f"the traceback is in {world.root / 'out' / 'record.json'}" in run.err
    record = json.loads((world.root / "out" / "record.json").read_text())
    assert record["status"] == "failed"
    assert "plugin.py:3: KeyError: 'label' while scoring" in record["error"]["message"]
    assert "KeyError" in record["error"]["traceback"]
