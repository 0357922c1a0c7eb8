"""Digests do not depend on the order of keys, and differ where data differ."""

import hashlib
import json
import math
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core import digests
from lmrl_bench.core.digests import canonical_json, digest, file_digest, file_sha256

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


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that were hashed."""
    found, own = [], digests.file_sha256
    monkeypatch.setattr(digests, "file_sha256", lambda path: found.append(path.name) or own(path))
    return found


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_file_is_hashed_once_while_it_stays_as_it_is(tmp_path, hashed):
    path = tmp_path / "f"
    path.write_text("abc")
    time.sleep(0.1)
    assert [file_digest(path) for _ in range(3)] == [sha256("abc")] * 3
    assert hashed == ["f"]
    other = tmp_path / "g"
    other.write_text("xyz")
    other.rename(path)  # another file in its place
    assert file_digest(path) == sha256("xyz")


def test_a_change_within_the_same_tick_is_noticed(tmp_path, monkeypatch):
    """Same size and same stamp, as the clock of most file systems ticks every few milliseconds."""
    exact, tick = digests._stamp, 10_000_000

    def ticking(path):
        found = exact(path)
        return found._replace(
            modified_ns=found.modified_ns // tick * tick,
            changed_ns=found.changed_ns // tick * tick + 1,
        )

    monkeypatch.setattr(digests, "_stamp", ticking)
    path = tmp_path / "f"
    for number in range(200):
        path.write_text(f"{number:05}")
        assert file_digest(path) == sha256(f"{number:05}")


def test_a_change_whose_time_was_set_back_is_noticed(tmp_path):
    path = tmp_path / "f"
    path.write_text("abc")
    time.sleep(0.1)
    before = path.stat()
    assert file_digest(path) == sha256("abc")
    path.write_text("xyz")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_digest(path) == sha256("xyz")


def test_whole_seconds_are_a_coarse_clock():
    second = 1_700_000_000_000_000_000
    stamp = digests._Stamp(0, 0, 3, second, second)
    assert not digests._settled(stamp, second + 10**9)
    assert digests._settled(stamp, second + 3 * 10**9)
    assert digests._settled(stamp._replace(changed_ns=second + 1), second + 10**8)
