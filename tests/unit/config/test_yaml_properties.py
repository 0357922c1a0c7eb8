"""Configuration for any data: the line of every key, the line of every error, and what an override touches."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.config.loading import validate
from lmrl_bench.config.overrides import apply_overrides
from lmrl_bench.config.run import RunConfig
from lmrl_bench.config.yaml_core import dump_yaml, parse_yaml
from lmrl_bench.core.errors import ConfigError

KEYS = st.text("abcdefgh", min_size=1, max_size=5).map("k_".__add__)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False), st.text("abc no1.:-#'\"ä€\n", max_size=8),
)  # fmt: skip
TREES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
MAPPINGS = st.dictionaries(KEYS, TREES, min_size=1, max_size=4)
CONFIGS = st.fixed_dictionaries(
    {
        "task": st.text("abc-", min_size=1, max_size=8),
        "algorithm": st.fixed_dictionaries({"name": KEYS}, optional={"gamma": st.floats(0, 1)}),
        "policy": st.fixed_dictionaries({"init": st.sampled_from(["sft", "base"])}),
        "sampling": st.fixed_dictionaries({"temperature": st.floats(0.1, 5.0)}),
        "budget": st.fixed_dictionaries({"tokens": st.integers(1, 10**9)}),
        "evaluation": st.fixed_dictionaries(
            {"every": st.integers(1, 50), "greedy": st.booleans(), "test_samples": st.integers(1)}
        ),
        "seed": st.integers(0, 2**40),
    }
)


def leaves(data, path=()):
    """Yields the paths of everything in the data, inner nodes included."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in pairs:
        yield (*path, key), value
        if isinstance(value, (dict, list)):
            yield from leaves(value, (*path, key))


@settings(max_examples=80, deadline=None)
@given(MAPPINGS)
def test_every_key_has_the_place_where_it_stands(data):
    text = dump_yaml(data)
    located = parse_yaml(text, "f.yaml")
    assert located.data == data
    lines = text.splitlines()
    for path, _ in leaves(data):
        place = located.places[path]
        shown = lines[place.line - 1][place.column - 1 :]
        if isinstance(path[-1], str):
            assert shown.startswith(f"{path[-1]}:")
        else:  # an item stands behind its dash, or in brackets
            before = lines[place.line - 1][: place.column - 1]
            assert before.rstrip().endswith(("-", "[", ",")) or not before.strip()


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_a_run_configuration_comes_back(content):
    config = validate(RunConfig, content)
    text = dump_yaml(config.model_dump(mode="json"))
    again = validate(RunConfig, parse_yaml(text, "f.yaml"))
    assert again == config
    assert again.digest() == config.digest()


@settings(max_examples=80, deadline=None)
@given(CONFIGS, st.data())
def test_an_error_names_the_line_and_the_key(content, data):
    """Any field, replaced by a value of a wrong type, and any key that does not exist."""
    paths = [path for path, value in leaves(content) if path[0] != "algorithm"]
    path = data.draw(st.sampled_from(sorted(paths)))
    broken = copy.deepcopy(content)
    inner = broken
    for key in path[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[path[-1]] = [["wrong"]]
    else:
        inner[f"{path[-1]}x"] = inner[path[-1]]
        path = (*path[:-1], f"{path[-1]}x")
    text = dump_yaml(broken)
    located = parse_yaml(text, "f.yaml")
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, located)
    (message,) = str(caught.value).splitlines()
    number = located.places[path].line
    assert message.startswith(f"f.yaml:{number}: {'.'.join(path)}: ")
    assert text.splitlines()[number - 1].strip().startswith(path[-1])


@settings(max_examples=80, deadline=None)
@given(MAPPINGS, st.lists(KEYS, min_size=1, max_size=3), VALUES)
def test_an_override_changes_its_key_alone(data, keys, value):
    before = copy.deepcopy(data)
    override = f"{'.'.join(keys)}={dump_yaml({'v': value})[3:].strip()}"
    inner, blocked = data, False
    for key in keys[:-1]:
        inner = inner.get(key)
        if inner is None:
            inner = {}
        blocked = not isinstance(inner, dict)
        if blocked:
            break
    if blocked:
        with pytest.raises(ConfigError, match="--set "):
            apply_overrides(data, [override])
        return
    changed = apply_overrides(data, [override])
    assert data == before, "the caller's data stays as it is"
    found = changed.data
    for key in keys:
        found = found[key]
    assert found == value
    assert type(found) is type(value)
    assert str(changed.place(tuple(keys))) == f"--set {'.'.join(keys)}"
    old = {path: v for path, v in leaves(before) if path[: len(keys)] != tuple(keys)}
    new = {path: v for path, v in leaves(changed.data) if path[: len(keys)] != tuple(keys)}
    kept = {path for path in old if tuple(keys)[: len(path)] != path}
    assert {path: old[path] for path in kept} == {path: new[path] for path in kept}
