"""JSON by its standard: what Python's parser lets through is refused, all else is read as Python reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmrl_bench.core.strict_json import MAX_DEPTH, depth, parse_json, require_encodable


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"x": [{"b": 1, "c": 2, "b": 1}]}', "the key 'b' is given twice"),
        ('{"a": NaN}', "NaN is not JSON; write null"),
        ('{"a": [-Infinity]}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "1e999 is beyond the range"),
        ('{"a": -1e400}', "beyond the range"),
        ('{"a": ' + "7" * 5000 + "}", "a number of 5000 digits"),
        ('{"a": "\\ud83d"}', "half of a surrogate pair"),
        ('{"\\uDE00": 1}', "half of a surrogate pair"),
        ('{"a": ["x", {"b": "y\\ud83dz"}]}', "half of a surrogate pair"),
        ("[" * 5000 + "]" * 5000, "nested deeper than 64"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper than 64"),
        ('{"a": 1} {', "Extra data at column 10"),
        ('{"a": ', "Expecting value at column 7"),
        ("", "Expecting value"),
        ('{"a": "\0"}', "Invalid control character"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ['{"a": "\\ud83d\\ude00"}\n', '["é"]', " 1 ", "7" * 1000, "[" * 64 + "]" * 64]
)
def test_what_is_read(text):
    assert parse_json(text) == json.loads(text)


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
def test_every_other_value_is_read_as_python_reads_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text) == json.loads(text)


def test_depth_is_counted_without_recursion():
    value: list = []
    for _ in range(100_000):
        value = [value]
    assert depth(value) > MAX_DEPTH
    assert [depth(part) for part in (1, [], [[]], {"a": [1]})] == [0, 1, 2, 2]


def test_keys_are_texts_too():
    with pytest.raises(ValueError, match="surrogate"):
        require_encodable([{"a\udc80": 1}])
