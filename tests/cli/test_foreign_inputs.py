"""Every input of `fixtures/foreign_inputs.py` is read, or refused by one message with its place and exit code 2."""

from __future__ import annotations

import json

import pytest
from fixtures.foreign_inputs import FILES, SETTINGS, TEMPLATES, write
from fixtures.runs import call


def assert_outcome(called, message):
    assert "Traceback" not in called.err
    if message is None:
        assert called.code == 0, called.err
        return
    assert called.code == 2
    error = next(line for line in called.err.splitlines() if line.startswith("error: "))
    assert message in error


@pytest.mark.parametrize(("name", "make", "message"), FILES, ids=[name for name, _, _ in FILES])
def test_files(name, make, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, name, make)
    assert_outcome(call(capsys, "task", "new", "mine", "--from", path.name, "--out", "."), message)
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted(
        [name] if message else ["mine", name]
    )


@pytest.mark.parametrize(("template", "message"), TEMPLATES)
def test_templates(template, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"p {n}", "answer": f"a {n}", "gone": None} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call(capsys, "task", "new", "mine", "--from", "rows.jsonl", "--out", ".").code == 0
    path = tmp_path / "mine" / "task.yaml"
    path.write_text(path.read_text().replace('"{{ prompt }}"', json.dumps(template)))
    assert_outcome(call(capsys, "task", "preview", "mine"), message)


@pytest.mark.parametrize(("setting", "message"), SETTINGS, ids=[text[:30] for text, _ in SETTINGS])
def test_settings(setting, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "task: docs-en-de\nalgorithm: {name: ppo, episodes_per_iteration: 64}\n"
    )
    assert_outcome(call(capsys, "run", "run.yaml", "--dry-run", "--set", setting), message)
