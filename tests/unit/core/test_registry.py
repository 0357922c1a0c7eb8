"""Names to things: lazily imported, helpful when unknown, open to plug-ins."""

import subprocess
import sys
from collections import OrderedDict
from importlib.metadata import EntryPoint

import pytest

from lmrl_bench.core import registry as module
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.core.registry import Registry


def make(monkeypatch, plugins=(), **builtin):
    found = [EntryPoint(name, value, "g") for name, value in plugins]
    monkeypatch.setattr(module, "entry_points", lambda group: found if group == "g" else [])
    return Registry("algorithm", builtin or {"ordered": "collections:OrderedDict"}, group="g")


def test_built_in_names_are_imported_when_asked_for(monkeypatch):
    names = make(monkeypatch, ordered="collections:OrderedDict", broken="no.such.module:x")
    assert names.names() == list(names) == ["broken", "ordered"]
    assert names.get("ordered") is OrderedDict
    assert "ordered" in names
    assert "other" not in names


def test_unknown_names_say_what_is_known_and_what_is_near(monkeypatch):
    names = make(monkeypatch, ppo="x:y", trpo="x:y")
    with pytest.raises(ConfigError) as caught:
        names.get("ppoo")
    assert str(caught.value) == (
        "unknown algorithm 'ppoo'; did you mean 'ppo'? (known: ppo, trpo; an algorithm of a plug-in is known "
        "once its package is installed)"
    )


def test_added_objects(monkeypatch):
    names = make(monkeypatch)
    names.add("mine", dict)
    assert names.get("mine") is dict
    for taken in ("mine", "ordered"):
        with pytest.raises(ConfigError, match=f"the algorithm name '{taken}' is already used"):
            names.add(taken, list)


def test_plug_ins_are_listed_unimported_and_cannot_take_a_name(monkeypatch):
    plugins = [
        ("theirs", "collections:deque"),
        ("broken", "no.such:x"),
        ("ordered", "builtins:int"),
    ]
    names = make(monkeypatch, plugins)
    assert names.names() == ["broken", "ordered", "theirs"]
    assert names.get("theirs").__name__ == "deque"
    assert names.get("ordered") is OrderedDict
    with pytest.raises(
        ConfigError, match=r"the algorithm 'broken' of .* \(no\.such:x\) cannot be imported"
    ):
        names.get("broken")
    with pytest.raises(ConfigError, match="'theirs' is already used"):
        names.add("theirs", list)


def test_plain_data_needs_no_torch():
    code = (
        "import sys, lmrl_bench, lmrl_bench.core.registry, lmrl_bench.tasks.spec, lmrl_bench.config.run,"
        "lmrl_bench.config.loading, lmrl_bench.config.overrides, lmrl_bench.records.store,"
        "lmrl_bench.records.provenance, lmrl_bench.leaderboards.build;"
        "bad = {'torch', 'transformers', 'stable_baselines3', 'gymnasium'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
