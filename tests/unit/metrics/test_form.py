"""Patterns and JSON: what matches, what is refused, and that no pattern hangs."""

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core.errors import MetricError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import form, make_metric


def holds(name, completion, **args):
    """Returns the metric's value for a sample without references."""
    result = make_metric(name, args).score([completion], [Sample("row-0", "p", ())])
    return {1.0: True, 0.0: False}[float(result.per_sample[0])]


@pytest.mark.parametrize(
    ("completion", "args", "value"),
    [
        ("answer: 42", {"pattern": r"\d+"}, True),
        ("answer: 42", {"pattern": r"\d+", "match": "full"}, False),
        ("42", {"pattern": r"\d+", "match": "full"}, True),
        ("42\n", {"pattern": r"\d+", "match": "full"}, False),
        ("ANSWER", {"pattern": "answer"}, False),
        ("ANSWER", {"pattern": "answer", "ignore_case": True}, True),
        ("<think>a\nb</think>c", {"pattern": "(?s)<think>.*</think>.+", "match": "full"}, True),
        ("", {"pattern": "a"}, False),
        ("\ud83d", {"pattern": "."}, True),
    ],
)
def test_regex(completion, args, value):
    assert holds("regex", completion, **args) is value


@settings(max_examples=200, deadline=None)
@given(
    st.text("ab1 \n", max_size=8), st.sampled_from(["a+b", "^a", "b$", r"\d|aa", "(?m)^b", "a{2}"])
)
def test_regex_by_pythons_re(text, pattern):
    assert holds("regex", text, pattern=pattern) is bool(re.search(pattern, text))
    assert holds("regex", text, pattern=pattern, match="full") is bool(re.fullmatch(pattern, text))


@pytest.mark.parametrize("pattern", ["(", "[a", "a{2,1}", "(?P<x>a)(?P<x", "*a"])
def test_a_wrong_pattern_is_refused_when_the_task_is_opened(pattern):
    with pytest.raises(MetricError, match="metric 'regex': pattern"):
        make_metric("regex", {"pattern": pattern})


def test_catastrophic_backtracking_ends(monkeypatch):
    monkeypatch.setattr(form, "SECONDS", 0.3)
    started = time.process_time()
    with pytest.raises(MetricError, match=r"takes more than 0.3 s .* sample 'row-0'"):
        holds("regex", "a" * 40 + "!", pattern=r"^(a|a|aa)+$")
    assert time.process_time() - started < 5


DEEP = "[" * 400 + "]" * 400
JSON = [
    ("{}", {}, True),
    (" [1, 2.5e3, null, true, \"x\"]\n", {}, True),
    ("7", {}, True),
    ("9" * 5000, {}, True),
    ("1e999", {}, True),
    ("", {}, False),
    ("{'a': 1}", {}, False),
    ('{"a": 1,}', {}, False),
    ('{"a": 1} and so on', {}, False),
    ("\ufeff{}", {}, False),
    ("\u00a0{}", {}, False),
    ("NaN", {}, False),
    ("[Infinity]", {}, False),
    ("[-Infinity]", {}, False),
    ('{"a": 1, "a": 2}', {}, False),
    ('[{"a": {"b": 1, "b": 1}}]', {}, False),
    (DEEP, {}, True),
    ("[" * 100_000 + "]" * 100_000, {}, False),
    ("[" * 100_000, {}, False),
    ('"' + "[" * 1000 + '"', {}, True),
    ("[]", {"root": "object"}, False),
    ("[]", {"root": "array"}, True),
    ('{"a": 1}', {"keys": ["a"]}, True),
    ('{"b": 1}', {"keys": ["a"]}, False),
    ('["a"]', {"keys": ["a"]}, False),
    ('"a"', {"keys": ["a"]}, False),
    ('{"a": 1, "b": 2}', {"keys": ["a"], "only": True}, False),
    ('{"a": "x"}', {"keys": {"a": "string"}}, True),
    ('{"a": 1}', {"keys": {"a": "string"}}, False),
    ('{"a": 1}', {"keys": {"a": "integer"}}, True),
    ('{"a": 1.0}', {"keys": {"a": "integer"}}, False),
    ('{"a": 1.0}', {"keys": {"a": "number"}}, True),
    ('{"a": true}', {"keys": {"a": "number"}}, False),
    ('{"a": true}', {"keys": {"a": "boolean"}}, True),
    ('{"a": null}', {"keys": {"a": "null"}}, True),
]  # fmt: skip


@pytest.mark.parametrize(("completion", "args", "value"), JSON)
def test_json_valid(completion, args, value):
    assert holds("json-valid", completion, **args) is value


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


@settings(max_examples=200, deadline=None)
@given(TREES, st.integers(0, 30), st.sampled_from(['"', "{", "]", ",", "x", "0", " "]))
def test_json_valid_by_the_standard_library(tree, place, inserted):
    text = json.dumps(tree)
    assert holds("json-valid", text)
    changed = text[:place] + inserted + text[place:]
    try:
        json.loads(changed)
        expected = True
    except ValueError:
        expected = False
    if expected != holds("json-valid", changed):
        assert "a key stands twice" in twice(changed)


def twice(text):
    def hook(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=hook)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"root": "list"}, "Input should be"),
        ({"keys": {"a": "int"}}, "Input should be"),
        ({"root": "array", "keys": ["a"]}, "keys require an object"),
        ({"only": True}, "no keys are given"),
    ],
)
def test_wrong_arguments(args, message):
    with pytest.raises(MetricError, match=message):
        make_metric("json-valid", args)


@pytest.mark.parametrize(("name", "args"), [("regex", {"pattern": "a/b|c"}), ("json-valid", {})])
def test_nothing_of_the_sample_is_read(name, args):
    metric = make_metric(name, args)
    assert metric.needs == frozenset()
    assert metric.bounds == (0, 1)
    assert "/" not in metric.signature


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a{999999999}", "multiply to more than 1,000,000"),
        ("(?:a{1000}){1001}", "multiply to more than 1,000,000"),
        ("(?R)", "recurses before it reads"),
        ("(?V1)[a--b]", "mutually incompatible"),
    ],
)
def test_patterns_that_take_all_memory_or_fail_are_refused_at_once(pattern, reason):
    with pytest.raises(MetricError, match=reason):
        make_metric("regex", {"pattern": pattern})


@pytest.mark.parametrize(
    "pattern", [r"\((?:[^()]|(?R))*\)", "a{0,999999999}", r"\d{4}-\d{2}-\d{2}"]
)
def test_patterns_that_end_are_taken(pattern):
    make_metric("regex", {"pattern": pattern})
