"""YAML 1.2 core schema, places of keys, refusals, and the round trip."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.config.located import Place
from lmrl_bench.config.yaml_core import dump_yaml, parse_yaml
from lmrl_bench.core.errors import ConfigError


def parse(text):
    return parse_yaml(text, "f.yaml").data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("1e-6", 1e-6), ("1E5", 1e5), (".5", 0.5), ("1.", 1.0), ("-.inf", -math.inf),
        ("12", 12), ("-3", -3), ("012", 12), ("0o17", 15), ("0x1f", 31), ("60_000", 60_000),
        ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("'1'", "1"), ("=", "="), ("<<", "<<"),
        ("!!str 5", "5"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text, value):
    result = parse(f"a: {text}")["a"]
    assert result == value
    assert type(result) is type(value)


def test_nan_is_a_number():
    assert math.isnan(parse("a: .nan")["a"])


def test_keys_are_text():
    assert parse("1: a\nno: b\ntrue: c\nnull: d") == {"1": "a", "no": "b", "true": "c", "null": "d"}


def test_places_are_of_keys_and_items():
    located = parse_yaml("a:\n  b: 1\nc:\n  - x\n  - y: 2\n", "f.yaml")
    assert located.places[("a", "b")] == Place("f.yaml", 2, 3)
    assert located.places[("c", 1)] == Place("f.yaml", 5, 5)
    assert located.places[("c", 1, "y")] == Place("f.yaml", 5, 5)
    assert located.place(("a", "nothing")) == Place("f.yaml", 1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4: the key 'c' was already given in line 3"),
        ("a: 1\n b: [", "f.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2", "f.yaml:2: not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: the tag"),
        ("a: !custom {b: 1}", "f.yaml:1: the tag '!custom' is not allowed"),
        ("a: !!int abc", "f.yaml:1: 'abc' is not a valid int"),
        ("a: &x [*x]", "f.yaml:1: the alias refers to a value that contains it"),
        ("a: *x", "f.yaml:1: not valid YAML"),
        ("[a]: 1", "f.yaml:1: a key must be plain text"),
        ('a: "\\ud800"', "f.yaml:1: half of a surrogate pair"),
        ("a: " + "[" * 700, "f.yaml: nested too deeply"),
        ("a: \x01", "f.yaml:1: not valid YAML"),
    ],
)
def test_refusals_name_the_line(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


def test_aliases_of_aliases_cannot_fill_the_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse("\n".join(lines))


def test_aliases_may_be_used():
    assert parse("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}


_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["no", "on", "1e-6", "012", "~", "", "null", "0x1", "1_000", ".inf", "a: b", "- c", "#", " x "]
)
_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(_TEXT, _DATA, max_size=5))
def test_round_trip(data):
    result = parse(dump_yaml(data))
    assert result == data
    assert repr(result) == repr(data)  # 1 is not 1.0 and not true


def test_two_surrogates_are_the_character_that_they_are_in_json():
    assert parse_yaml(r'a: "\ud83d\ude00"', "x").data == {"a": "\U0001f600"}


def test_numbers_beyond_a_float_and_control_characters_are_refused_with_their_line():
    with pytest.raises(ConfigError, match=r"x:2: '1e400' is not a valid float"):
        parse_yaml("a: 1\nb: 1e400", "x")
    with pytest.raises(ConfigError, match=r"x:2: not valid YAML: the character U\+0001"):
        parse_yaml("a: 1\nb: \x01", "x")
