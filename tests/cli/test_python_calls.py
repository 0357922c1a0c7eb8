"""Each command calls exactly the functions that lmrl_bench/cli/README.md documents, and they can be found."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import lmrl_bench
from lmrl_bench.cli.app import app

FILE = Path(lmrl_bench.__file__)
README = FILE.with_name("cli") / "README.md"


def documented():
    rows = re.findall(r"^\| `([a-z ]+)` \| (.+?) \|", README.read_text(), flags=re.MULTILINE)
    return {command: re.findall(r"`([a-z_]+)`", calls) for command, calls in rows}


def commands(command, words=()):
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(words), command
    for name, each in (inner or {}).items():
        yield from commands(each, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_every_command_is_documented():
    assert set(documented()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_calls_its_functions_and_no_others(name):
    tree = ast.parse(inspect.getsource(inspect.unwrap(COMMANDS[name].callback)))
    called = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "lmrl_bench"
    }
    assert called == set(documented()[name])


def test_every_call_exists_and_has_a_docstring_with_its_arguments():
    named = {call for calls in documented().values() for call in calls}
    alone = README.read_text().partition("Without a command: ")[2]
    named |= set(re.findall(r"`(\w+)`", alone))
    assert named == set(lmrl_bench.__all__) - {"__version__"}
    for name in named - {"RunConfig"}:
        function = getattr(lmrl_bench, name)
        words = inspect.getdoc(function)
        parameters = list(inspect.signature(function).parameters)
        assert words, name
        assert all(f"{parameter}: " in words for parameter in parameters if len(parameters) > 1), (
            name
        )


def test_completion_lists_the_calls_alone():
    assert dir(lmrl_bench) == sorted(lmrl_bench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lmrl_bench.nothing  # noqa: B018


def test_type_checkers_see_the_same_calls():
    tree = ast.parse(FILE.read_text())
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("lmrl_bench.")
        for alias in node.names
    }
    assert seen == lmrl_bench._CALLS
    assert FILE.with_name("py.typed").is_file()


def test_what_reads_records_and_definitions_loads_no_torch():
    names = [
        name for name in lmrl_bench.__all__ if name.startswith(("list_", "load_", "leaderboard"))
    ]
    names = sorted(
        {*names, "build_leaderboard", "check_leaderboard", "compare_runs"} - {"load_policy"}
    )
    script = f"""
import sys
import lmrl_bench
for name in {names!r}:
    getattr(lmrl_bench, name)
assert "torch" not in sys.modules
lmrl_bench.list_tasks(), lmrl_bench.list_leaderboards()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
