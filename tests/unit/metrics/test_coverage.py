"""Concept coverage: by hand, against nltk's stemmer, and what it refuses."""

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer

from lmrl_bench.core.errors import MetricError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric
from lmrl_bench.rewards import make_reward
from lmrl_bench.rewards.base import RewardBatch
from lmrl_bench.tasks.spec import RewardSpec
from lmrl_bench.verification.bounds.signatures import TEXTUAL

WORDS = st.sampled_from(["plane", "planes", "streak", "streaked", "sky", "Sky", "sank", "sink"])


def row(*concepts, field="concepts"):
    return Sample("row-7", "a prompt", ("a text",), MappingProxyType({field: list(concepts)}))


@pytest.mark.parametrize(
    ("completion", "share"),
    [
        ("The plane streaked across the sky", 1.0),
        ("PLANES, planes and planes!", 1 / 3),
        ("a plain streak in skye", 1 / 3),  # words, not parts of words
        ("sky streak plane", 1.0),  # a list covers everything; the card says so
        ("", 0.0),
    ],
)
def test_by_hand(completion, share):
    result = make_metric("concept-coverage").score([completion], [row("plane", "streak", "sky")])
    assert result.value == result.per_sample[0] == pytest.approx(share)


def test_an_irregular_form_does_not_cover_its_lemma():
    metric = make_metric("concept-coverage")
    assert metric.score(["the ship sank"], [row("ship", "sink")]).value == 0.5


@given(
    rows=st.lists(
        st.tuples(st.lists(WORDS, max_size=6), st.lists(WORDS, min_size=1, max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_equals_a_count_with_nltks_stemmer(rows):
    stem = PorterStemmer().stem
    expected = [
        sum(stem(c.lower()) in {stem(w.lower()) for w in said} for c in asked) / len(asked)
        for said, asked in rows
    ]
    metric = make_metric("concept-coverage")
    found = metric.score([" ".join(said) for said, _ in rows], [row(*asked) for _, asked in rows])
    np.testing.assert_allclose(found.per_sample, expected)
    assert found.value == pytest.approx(float(np.mean(expected)))


@pytest.mark.parametrize("concepts", [[], ["two words"], [""]])
def test_refuses_what_is_not_a_list_of_words(concepts):
    with pytest.raises(
        MetricError, match=r"meta 'concepts' of sample 'row-7' is not a list of single words"
    ):
        make_metric("concept-coverage").score(["a"], [row(*concepts)])


def test_the_field_is_an_argument_and_stands_in_the_signature():
    metric = make_metric("concept-coverage", {"field": "keywords"})
    assert metric.score(["cats"], [row("cat", field="keywords")]).value == 1.0
    assert "field:keywords" in metric.signature
    with pytest.raises(MetricError, match=r"list the column in data\.meta"):
        metric.score(["cats"], [row("cat")])


def test_it_is_a_reward_and_is_scored_again_from_stored_answers():
    batch = RewardBatch(
        samples=[row("cat", "dog")],
        completions=["cats"],
        lengths=np.array([2]),
        terminated=np.array([True]),
    )
    spec = RewardSpec.model_validate({"terms": [{"name": "concept-coverage"}]})
    assert make_reward(spec)(batch).scores.tolist() == [0.5]
    assert type(make_metric("concept-coverage")).__module__ in TEXTUAL
