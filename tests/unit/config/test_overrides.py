"""`--set` reaches every field, and layers of configuration keep the places of their keys."""

import copy

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from lmrl_bench.algorithms.ppo import PPOConfig
from lmrl_bench.config.loading import Located, validate
from lmrl_bench.config.overrides import apply_overrides, merge
from lmrl_bench.config.run import RunConfig
from lmrl_bench.config.yaml_core import dump_yaml, parse_yaml
from lmrl_bench.core.errors import ConfigError

BASE = {"task": "t", "algorithm": {"name": "ppo"}}


def leaves(data, path=()):
    for key, value in data.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def test_every_field_of_a_run_can_be_set():
    default = validate(RunConfig, BASE).model_dump(mode="json")
    names = [name for name, _ in leaves(default)]
    assert {"budget.tokens", "policy.value_trunk", "runtime.keep_policy", "entry"} <= set(names)
    texts = [f"{name}={dump_yaml(value)}" for name, value in leaves(default)]
    assert validate(RunConfig, apply_overrides(BASE, texts)).model_dump(mode="json") == default


def test_values_are_yaml():
    texts = ["budget.tokens=1_000", "algorithm.kl.coefficient=1e-3", "entry=no",
             "algorithm.betas=[0.9, 0.99]", "policy.model="]  # fmt: skip
    data = apply_overrides(BASE, texts).data
    assert data["budget"] == {"tokens": 1000}
    assert data["algorithm"] == {"name": "ppo", "kl": {"coefficient": 1e-3}, "betas": [0.9, 0.99]}
    assert data["entry"] == "no"
    assert data["policy"] == {"model": None}


def test_list_items_by_index():
    data = {"terms": [{"weight": 1}, {"weight": 2}]}
    before = copy.deepcopy(data)
    assert apply_overrides(data, ["terms.1.weight=5"]).data == {
        "terms": [{"weight": 1}, {"weight": 5}]
    }
    assert data == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget.tokens", "--set budget.tokens: write key=value"),
        ("=3", "--set =3: write key=value"),
        ("a..b=3", "--set a..b=3: write key=value"),
        ("a=[1", "--set a:1: not valid YAML"),
        ("terms.2.w=1", "--set terms.2.w: 'terms' is a list; '2' is not an index (allowed: 0 to 0)"),
        ("terms.x=1", "--set terms.x: 'terms' is a list; 'x' is not an index"),
        (f"terms.{'1' * 5000}=1", "--set terms.1111"),
        ("terms.\u0660.weight=1", "--set terms.\u0660.weight: 'terms' is a list; '\u0660' is not an index"),
        (f"budget.tokens={'1' * 5000}", "--set budget.tokens:1: '1111"),
        ("budget.tokens=" + "[" * 300 + "]" * 300, "--set budget.tokens:1: nested deeper than 50 levels"),
        ("a." * 3000 + "a=1", f"--set {'a.' * 38}a...: the key has 3,001 parts, more than the 50 levels"),
        ("a=\"\\0\"", "--set a:1: contains a NUL character"),
        ("task.x=1", "--set task.x: 'task' is 't', not a mapping or a list"),
    ],
)  # fmt: skip
def test_refusals(text, message):
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"terms": [{"weight": 1}], **BASE}, [text])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("budget.tokens=5", "budget.tokens=6"),
        ("budget.tokens=5", "budget. tokens=5"),
        ("budget.tokens=5", "budget={tokens: 6}"),
    ],
)
def test_a_key_is_given_once(first, second):
    with pytest.raises(ConfigError, match=r"would undo the earlier --set budget\.tokens"):
        apply_overrides(BASE, [first, second])


def test_the_whole_may_come_before_its_parts():
    data = apply_overrides(BASE, ["budget={tokens: 6}", "budget.tokens=5"]).data
    assert data["budget"] == {"tokens": 5}


def test_a_new_section_and_a_relation_between_fields_name_the_override_and_no_line_of_the_file():
    file = parse_yaml("task: t\nalgorithm: {name: ppo, episodes_per_iteration: 64}\n", "run.yaml")
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, apply_overrides(file, ["nothing.deep.er=1"]))
    assert str(caught.value).startswith("--set nothing.deep.er: nothing: unknown key")
    located = apply_overrides(file, ["algorithm.group_size=3"])
    with pytest.raises(ConfigError) as caught:
        validate(PPOConfig, located.sub("algorithm").without("name"))
    assert str(caught.value).startswith("--set algorithm.group_size: algorithm: ")
    assert "run.yaml" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lr", "learning_rate"), ("ent_coef", "entropy_coefficient"), ("epoch", "epochs")],
)
def test_what_other_libraries_call_a_setting(name, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        validate(PPOConfig, {name: 1})


def test_an_unknown_key_names_the_override():
    located = apply_overrides(parse_yaml("task: t\nalgorithm: {name: a}\nbudget: {tokens: 3}", "f"),
                              ["budget.tokns=1000", "evaluation={evry: 3}", "seed=-1"])  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, located)
    assert str(caught.value).splitlines() == [
        "--set budget.tokns: unknown key (allowed: tokens); did you mean 'tokens'?",
        "--set evaluation: evaluation.evry: unknown key (allowed: batch_size, every, greedy, "
        "temperature, test_samples, validation_samples); did you mean 'every'?",
        "--set seed: must be at least 0, got -1",
    ]


def test_merge_is_deep_and_keeps_places():
    base = parse_yaml("a: {x: 1, y: {z: 1}}\nb: [1, 2]\nc: 1", "base")
    update = parse_yaml("\n\na: {y: 5}\nb: [3]\nd: {e: 1}", "update")
    merged = merge(base, update)
    assert merged.data == {"a": {"x": 1, "y": 5}, "b": [3], "c": 1, "d": {"e": 1}}
    shown = {
        path: str(merged.place(path)) for path in [("a", "x"), ("a", "y"), ("b", 0), ("d", "e")]
    }
    assert shown == {("a", "x"): "base:1", ("a", "y"): "update:3", ("b", 0): "update:4",
                     ("d", "e"): "update:5"}  # fmt: skip
    assert ("b", 1) not in merged.places
    assert ("a", "y", "z") not in merged.places


def test_merged_plain_data_does_not_inherit_the_lower_place():
    merged = merge(parse_yaml("a: {x: 1}", "base"), Located.plain({"a": {"x": 2}}, "leaderboard"))
    assert str(merged.place(("a", "x"))) == "leaderboard"


_TREE = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_MAPPING = st.dictionaries(st.sampled_from("abc"), _TREE, max_size=3)


@settings(deadline=None, max_examples=40)
@given(_MAPPING, _MAPPING, _MAPPING)
def test_merge_laws(first, second, third):
    try:
        merge(merge(first, second), third)
        merge(first, third)
    except ConfigError:  # settings over a single value; see the tests below
        reject()
    assert merge(first, {}).data == first
    assert merge({}, first).data == first
    assert merge(first, first).data == first
    left = merge(merge(first, second), second).data
    assert left == merge(first, second).data
    for text, value in leaves(third):
        data = merge(first, third).data
        for key in text.split("."):
            data = data[key]
        assert data == value


@pytest.mark.parametrize("lost", ["[1, 2]", "ppo", "3"])
def test_a_value_under_settings_is_refused_with_its_place(lost):
    base = parse_yaml(f"seed: 1\nalgorithm: {lost}\n", "leaderboard.yaml")
    with pytest.raises(ConfigError, match=r"leaderboard.yaml:2.*algorithm must hold settings"):
        merge(base, {"algorithm": {"name": "ppo"}})
    assert merge(parse_yaml("algorithm:", "x"), {"algorithm": {"name": "ppo"}}).data


def test_settings_under_a_value_are_left_to_validation():
    assert merge({"algorithm": {"name": "ppo"}}, {"algorithm": 3}).data == {"algorithm": 3}
