"""Digests do not depend on the order of keys, and differ where data differ."""

import hashlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core.digests import canonical_json, digest, file_sha256

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def test_known_answers():
    assert canonical_json({"b": [1, 2.5, None], "a": "ä"}) == '{"a":"ä","b":[1,2.5,null]}'
    assert digest({}) == hashlib.sha256(b"{}").hexdigest()


@settings(deadline=None, max_examples=50)
@given(VALUES)
def test_canonical_json_is_json_and_stable(value):
    assert json.loads(canonical_json(value)) == value
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text("abcd"), st.integers(), min_size=1, max_size=4))
def test_the_order_of_keys_does_not_matter_but_values_do(data):
    assert digest(dict(reversed(data.items()))) == digest(data)
    key = next(iter(data))
    assert digest({**data, key: data[key] + 1}) != digest(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="Out of range float"):
        digest({"a": value})


def test_file_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    # the test vector of FIPS 180-4
    assert file_sha256(tmp_path / "f") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
