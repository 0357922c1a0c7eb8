"""Verifiable answers: equal to the evaluation of SQuAD and to scikit-learn, and right on odd texts."""

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from lmrl_bench.core.errors import MetricError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric
from lmrl_bench.rewards import RewardBatch, make_reward
from lmrl_bench.tasks.spec import RewardSpec


def squad_normalized(text):
    """As the evaluation script of SQuAD 1.1 has it."""
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(prediction, truth):
    prediction, truth = squad_normalized(prediction).split(), squad_normalized(truth).split()
    same = sum((Counter(prediction) & Counter(truth)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(prediction), same / len(truth)
    return (2 * precision * recall) / (precision + recall)


def values(name, completions, references, **args):
    samples = [
        Sample(f"row-{row}", "p", (texts,) if isinstance(texts, str) else tuple(texts))
        for row, texts in enumerate(references)
    ]
    result = make_metric(name, args).score(completions, samples)
    assert result.value == pytest.approx(np.mean(result.per_sample))
    return result.per_sample.tolist()


WORDS = st.lists(
    st.sampled_from(["the", "a", "Cat", "cat", "sat", "U.S.", "on", "an", "mat,", "don't", "\t"]),
    min_size=0, max_size=7,
).map(" ".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(WORDS, WORDS)
def test_squad_by_its_own_script(completion, reference):
    try:
        exact = values("exact-match", [completion], [reference], normalize="squad")
    except MetricError:  # of nothing but articles: an empty answer would equal it
        return
    assert exact == [float(squad_normalized(completion) == squad_normalized(reference))]
    expected = pytest.approx([squad_f1(completion, reference)])
    assert values("f1", [completion], [reference]) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz")), min_size=1))
def test_accuracy_by_scikit_learn(pairs):
    ours, truth = map(list, zip(*pairs, strict=True))
    expected = accuracy_score(truth, ours)
    assert np.mean(values("accuracy", ours, truth)) == pytest.approx(expected)
    assert np.mean(values("exact-match", ours, truth)) == pytest.approx(expected)


EXACT = [
    ("Paris", "Paris", {}, 1),
    (" Paris \n", "Paris", {}, 1),
    ("New  York", "New York", {}, 1),
    ("paris", "Paris", {}, 0),
    ("Paris.", "Paris", {}, 0),
    ("paris", "Paris", {"normalize": ["case"]}, 1),
    (" Paris", "Paris", {"normalize": []}, 0),
    ("The Paris!", "paris", {"normalize": "squad"}, 1),
    ("caf\u0065\u0301", "caf\u00e9", {}, 1),
    ("caf\u0065\u0301", "caf\u00e9", {"normalize": ["whitespace"]}, 0),
    ("", "x", {}, 0),
    ("b", ["a", "b"], {}, 1),
    ("\ud83d", "x", {}, 0),
]


@pytest.mark.parametrize(("completion", "references", "args", "value"), EXACT)
def test_exact_match(completion, references, args, value):
    assert values("exact-match", [completion], [references], **args) == [value]


ACCURACY = [
    ("Yes.", "yes", {}, 1),
    ("yes or no", "yes", {}, 0),
    ("Yes, because no one", "yes", {"labels": ["yes", "no"], "find": "first"}, 1),
    ("Yes, because no one", "yes", {"labels": ["yes", "no"], "find": "last"}, 0),
    ("nothing", "no", {"labels": ["yes", "no"], "find": "first"}, 0),
    (
        "very positive",
        "very positive",
        {"labels": ["positive", "very positive"], "find": "last"},
        1,
    ),
    ("", "no", {"labels": ["yes", "no"], "find": "first"}, 0),
]


@pytest.mark.parametrize(("completion", "reference", "args", "value"), ACCURACY)
def test_accuracy(completion, reference, args, value):
    assert values("accuracy", [completion], [reference], **args) == [value]


def test_accuracy_counts_answers_that_are_not_a_label():
    samples = [Sample(str(row), "p", ("yes",)) for row in range(3)]
    metric = make_metric("accuracy", {"labels": ["yes", "no"]})
    details = metric.score(["yes", "perhaps", ""], samples).details
    assert details == {"empty": 1, "invalid": 2}
    with pytest.raises(
        MetricError, match="'may be' of sample '0' is not one of the labels yes, no"
    ):
        metric.score(["yes"], [Sample("0", "p", ("may be",))])


F1 = [
    ("the cat sat", "cat sat down", {}, 0.8),
    ("cat cat", "cat", {}, 2 / 3),
    ("", "cat", {}, 0),
    ("dog", ["cat", "a dog"], {}, 1),
    ("The Cat", "the cat", {"normalize": []}, 0),
]


@pytest.mark.parametrize(("completion", "references", "args", "value"), F1)
def test_f1(completion, references, args, value):
    assert values("f1", [completion], [references], **args) == [pytest.approx(value)]


NUMBERS = [
    ("The answer is 72.", "72", {}, 1),
    ("72.0", "72", {}, 1),
    ("first 3, then 72", "3", {}, 0),
    ("first 3, then 72", "3", {"find": "first"}, 1),
    ("it is 72", "72", {"find": "whole"}, 0),
    ("1,234,567", "1234567", {}, 1),
    ("1 234 567", "1234567", {}, 1),
    ("1\u202f000", "0", {}, 0),
    ("1 000", "1000", {}, 1),
    ("1 000,000", "1000", {}, 0),
    ("in 2019 300 came", "300", {}, 1),
    ("1\u00bd", "1", {}, 0),
    ("14\u00b2", "4", {}, 0),
    ("4\u00b2 = 16", "16", {}, 1),
    ("1.5\u00b2", "1", {}, 0),
    ("$1,234.50", "1234.5", {}, 1),
    ("-$5", "-5", {}, 1),
    ("50%", "50", {}, 1),
    ("\u22123", "-3", {}, 1),
    ("5-3", "3", {}, 1),
    ("1e3", "1000", {}, 1),
    ("1e999", "1e999", {}, 1),
    ("1e999", "1e998", {}, 0),
    ("9" * 5000, "9" * 5000, {}, 1),
    ("9" * 5000, "9" * 4999 + "8", {}, 0),
    ("9" * 5000, "9" * 4999 + "8", {"tolerance": 1.0}, 1),
    ("1e999999999", "1", {"tolerance": 1.0}, 0),
    ("3.14", "3.14159", {"tolerance": 0.01}, 1),
    ("3.14", "3.14159", {"tolerance": 0.001}, 0),
    ("101", "100", {"relative": 0.01}, 1),
    ("102", "100", {"relative": 0.01}, 0),
    ("0.1", "0.1000000000000000000000001", {}, 0),
    ("no number", "5", {}, 0),
    ("", "5", {}, 0),
    ("nan", "5", {}, 0),
    ("2+3", "5", {}, 0),
    ("\u0667\u0662", "72", {}, 1),
    (".5", "0.5", {}, 1),
]


@pytest.mark.parametrize(("completion", "reference", "args", "value"), NUMBERS)
def test_numeric_match(completion, reference, args, value):
    assert values("numeric-match", [completion], [reference], **args) == [value]


@pytest.mark.parametrize("reference", ["five", "1/2", "2 apples", "nan", "inf", "1 2"])
def test_a_reference_that_is_not_a_number_is_refused(reference):
    with pytest.raises(
        MetricError, match=r"reference '.*' of sample 'row-0' is not a single number"
    ):
        values("numeric-match", ["5"], [reference])


@pytest.mark.parametrize("name", ["exact-match", "f1"])
def test_a_reference_that_normalization_empties_is_refused(name):
    with pytest.raises(MetricError, match=r"reference 'A' of sample 'row-0' is empty after norm"):
        values(name, [""], ["A"], normalize="squad")


@pytest.mark.parametrize("name", ["exact-match", "accuracy", "f1", "numeric-match"])
def test_they_are_rewards_and_need_references(name):
    spec = RewardSpec.model_validate({"terms": [{"name": name}]})
    samples = [Sample("0", "p", ("7",)), Sample("1", "p", ("8", "9"))]
    batch = RewardBatch(samples, ["7", "9"], np.array([1, 1]), np.array([True, True]))
    assert make_reward(spec)(batch).scores.tolist() == [1, 1]
    assert make_reward(spec).needs == {"references"}
    with pytest.raises(MetricError, match="no reference or an empty one"):
        values(name, ["7"], [()])


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("exact-match", {"normalize": ["stem"]}, "Input should be"),
        ("exact-match", {"normalize": "none"}, "Input should be 'squad'"),
        ("accuracy", {"find": "first"}, "requires `labels`"),
        ("accuracy", {"labels": ["yes"]}, "at least two"),
        ("accuracy", {"labels": ["Yes", "yes.", "no"]}, "contain a duplicate"),
        ("numeric-match", {"tolerance": -1}, "tolerance is -1"),
        ("numeric-match", {"relative": float("nan")}, "relative is nan"),
    ],
)
def test_wrong_arguments(name, args, message):
    with pytest.raises(MetricError, match=message):
        make_metric(name, args)


def test_a_relative_tolerance_of_numbers_of_any_size():
    metric = make_metric("numeric-match", {"relative": 0.5})
    sample = Sample("one", "p", ("1e999999998",))
    assert metric.score(["1e999999998"], [sample]).value == 1
    assert metric.score(["1e999999999"], [sample]).value == 0


@pytest.mark.parametrize("value", [True, "1", "0.5"])
def test_text_and_truth_values_are_not_numbers(value):
    with pytest.raises(MetricError, match=r"argument 'tolerance' is .*a number, without quotes"):
        make_metric("numeric-match", {"tolerance": value})
