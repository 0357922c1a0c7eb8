"""Records: every fact counts in the digest, the rest does not, and nothing is lost on the way to the disk."""

from __future__ import annotations

import copy
import json
import random
import re

import pytest
from fixtures.leaderboards import fake_content, fake_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import read_record, write_record

CELL = cells(fake_spec())[6]
CONTENT = RunRecord.model_validate(fake_content(CELL)).model_dump(mode="json")
NO_FACTS = ("provenance", "time")
OTHER_WORD = {
    "completed": "failed", "process": "run", "run": "process", "sft": "base", "base": "sft",
    "2026-01-02T03:04:05+00:00": "2026-01-02T03:04:06+00:00",
    "2026-01-02T03:05:05+00:00": "2026-01-02T03:05:06+00:00",
}  # fmt: skip
"""For fields that take certain words only."""
SHARES = ("truncated_share", "first_clip_fraction")
OTHER_LIST = {"flags": ["truncated_share"]}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def places(value, path=()):
    """Yields the key path of every number, text, flag and empty container."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))
    elif value is not None:
        yield path


def changed(path):
    """Returns the record's content with another value at the path, of the same type."""
    content = copy.deepcopy(CONTENT)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    value = inner[path[-1]]
    if isinstance(value, bool):
        inner[path[-1]] = not value
    elif path[-1] in SHARES:
        inner[path[-1]] = value / 2 + 0.1
    elif isinstance(value, (int, float)):
        inner[path[-1]] = value + 1
    elif isinstance(value, str) and re.fullmatch("[0-9a-f]{40,64}", value):
        inner[path[-1]] = f"{value[:-1]}{'1' if value[-1] == '0' else '0'}"
    elif isinstance(value, str):
        inner[path[-1]] = OTHER_WORD.get(value, f"{value}x")
    else:
        other = {"x": 1} if isinstance(value, dict) else ["x"]
        inner[path[-1]] = OTHER_LIST.get(path[-1], other)
    return content


def digest_of(content):
    return RunRecord.model_validate(content).digest()


def test_the_digest_follows_every_fact():
    paths = [path for path in places(CONTENT) if path[0] not in (*NO_FACTS, "schema")]
    assert len(paths) > 80
    assert {path[0] for path in paths} > {"results", "config", "task", "policy", "fidelity", "seed"}
    seen = {digest_of(CONTENT)}
    for path in paths:
        found = digest_of(changed(path))
        assert found not in seen, path
        seen.add(found)


def test_the_digest_follows_nothing_but_facts():
    paths = [path for path in places(CONTENT) if path[0] in NO_FACTS]
    assert len(paths) > 10
    for path in paths:
        assert digest_of(changed(path)) == digest_of(CONTENT), path


def shuffled(value, rng):
    """Returns the same data with the keys of every mapping in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.dictionaries(PLAIN, NUMBER, max_size=4),
    st.dictionaries(PLAIN, st.integers(0, 2**63 - 1), max_size=3),
    TEXT,
)
def test_any_facts_come_back_with_their_digest(tmp_path_factory, seed, numbers, events, text):
    """Floats to the last bit, any Unicode, whatever the order of keys in the file."""
    content = copy.deepcopy(CONTENT) | {"seed": seed, "events": events}
    content["results"]["test"]["reward_components"] = numbers
    content["algorithm"]["note"] = text
    before = RunRecord.model_validate(content)
    folder = tmp_path_factory.mktemp("r")
    path = write_record(folder, before)
    assert read_record(folder) == before
    order = random.Random(seed)
    path.write_text(json.dumps(shuffled(json.loads(path.read_text()), order), ensure_ascii=False))
    after = read_record(folder)
    assert after == before
    assert after.digest() == before.digest()


@pytest.mark.parametrize("path", [("results", "test", "n"), ("fidelity", "flags"), ("seed",)])
def test_a_value_of_another_type_is_refused(path):
    content = copy.deepcopy(CONTENT)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = {"no": "number"}
    with pytest.raises(ValueError, match=path[-1]):
        RunRecord.model_validate(content)
