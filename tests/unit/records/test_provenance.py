"""Provenance tells versions and commands, and no folder or host of the user's."""

import platform
import shlex
import subprocess
from pathlib import Path

import pydantic
import pytest

from lmrl_bench.records import provenance
from lmrl_bench.records.provenance import changes, collect, command_line, format_traceback


def test_collect(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/lmrl-bench", "run", "--seed", "3"])
    found = collect("cuda:0", 3)
    assert found.command == "lmrl-bench run --seed 3"
    assert found.packages["pydantic"] == pydantic.VERSION
    assert "torch" in found.packages
    assert platform.node() not in found.platform
    assert found.python == platform.python_version()
    assert (found.device, found.threads) == ("cuda:0", 3)


def test_changes_name_the_fields_but_not_the_command():
    first = collect("cpu", 1)
    assert changes(first, first.model_copy(update={"command": "other"})) == []
    assert changes(first, first.model_copy(update={"dirty": None, "threads": 3})) == [
        "dirty", "threads",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/x/bin/lmrl-bench", "run", "HERE/a/b.yaml"], "lmrl-bench run a/b.yaml"),
        (["/x/lmrl_bench/__main__.py", "run", "/home/me/c.yaml"], "lmrl-bench run c.yaml"),
        (["p", "--out=/home/me/deep/out"], "p --out=out"),
        (["p", "--set", "runtime.output=/home/me/out"], "p --set runtime.output=out"),
        (["p", "--set", "label=a b"], "p --set 'label=a b'"),
        (["p", "--set", "label=it's"], "p --set 'label=it'\\''s'"),
        (["p", "a=", ""], "p a= ''"),
        (["p", "1/2", "x=y/z"], "p 1/2 x=y/z"),
    ],
)
def test_commands_name_no_folder_of_the_user(arguments, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_line([part.replace("HERE", str(tmp_path)) for part in arguments])
    assert command == shown
    assert len(shlex.split(command)) == len(arguments)


def test_tracebacks_keep_file_names_only():
    try:
        raise ValueError("no")
    except ValueError as error:
        text = format_traceback(error)
    assert 'File "test_provenance.py", line' in text
    assert str(Path(__file__).parent) not in text
    assert text.endswith("ValueError: no\n")


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True
        )

    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "lmrl_bench")
    assert collect("cpu", 1).commit is None
    assert collect("cpu", 1).dirty is None
    (tmp_path / "lmrl_bench").mkdir()
    (tmp_path / "lmrl_bench" / "a.py").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    clean = collect("cpu", 1)
    assert len(clean.commit) == 40
    assert clean.dirty is False
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "record.json").write_text("")
    assert collect("cpu", 1).dirty is False
    (tmp_path / "lmrl_bench" / "b.py").write_text("")
    assert collect("cpu", 1).dirty is True
