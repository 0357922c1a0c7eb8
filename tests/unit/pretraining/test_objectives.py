"""Packing and span corruption: nothing is lost, nothing is added."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmrl_bench.pretraining.objectives import (
    CorruptionSpec,
    corrupt_spans,
    pack_documents,
    recover,
)

EOS = 1
SENTINELS = list(range(1_000, 1_040))

texts = st.lists(st.integers(2, 999), min_size=2, max_size=128)
specs = st.builds(CorruptionSpec, density=st.floats(0.05, 0.9), mean_span=st.floats(1.0, 10.0))


@given(tokens=texts, spec=specs, seed=st.integers(0, 2**32 - 1))
def test_every_token_is_recoverable_from_input_and_target(tokens, spec, seed):
    example = corrupt_spans(tokens, spec, SENTINELS, np.random.default_rng(seed))
    assert recover(example, SENTINELS) == tokens


@given(tokens=texts, spec=specs, seed=st.integers(0, 2**32 - 1))
def test_sentinels_agree_and_are_in_order(tokens, spec, seed):
    example = corrupt_spans(tokens, spec, SENTINELS, np.random.default_rng(seed))
    in_inputs = [token for token in example.inputs if token in SENTINELS]
    in_targets = [token for token in example.targets if token in SENTINELS]
    assert in_inputs == in_targets == SENTINELS[: len(in_inputs)]
    assert len(in_inputs) >= 1


@given(tokens=texts, spec=specs, seed=st.integers(0, 2**32 - 1))
def test_spans_are_apart_and_not_empty(tokens, spec, seed):
    example = corrupt_spans(tokens, spec, SENTINELS, np.random.default_rng(seed))
    for row in (example.inputs, example.targets):
        neighbors = itertools.pairwise(row)
        assert not any(a in SENTINELS and b in SENTINELS for a, b in neighbors)
    assert example.targets[0] in SENTINELS
    assert example.targets[-1] not in SENTINELS


def test_density_and_span_length_are_those_asked_for():
    spec = CorruptionSpec(density=0.3, mean_span=4.0)
    example = corrupt_spans(list(range(100)), spec, SENTINELS, np.random.default_rng(0))
    n_spans = sum(token in SENTINELS for token in example.inputs)
    assert len(example.targets) - n_spans == 30
    assert n_spans == round(30 / 4.0)


def test_every_place_is_hidden_sometimes():
    spec = CorruptionSpec(density=0.3, mean_span=3.0)
    rng = np.random.default_rng(0)
    hidden = set()
    for _ in range(300):
        hidden |= set(corrupt_spans(list(range(20)), spec, SENTINELS, rng).targets)
    assert set(range(20)) <= hidden


@given(
    documents=st.lists(st.lists(st.integers(2, 99), max_size=30), max_size=12),
    length=st.integers(1, 16),
)
def test_packing_keeps_the_stream_and_ends_documents(documents, length):
    rows = pack_documents(documents, length, EOS)
    stream = [token for document in documents for token in [*document, EOS]]
    assert rows.shape == (len(stream) // length, length)
    assert rows.ravel().tolist() == stream[: rows.size]


def test_packing_of_a_known_case():
    assert pack_documents([[5, 6], [7]], 2, EOS).tolist() == [[5, 6], [EOS, 7]]


def test_more_sentinels_than_given_are_never_used():
    spec = CorruptionSpec(density=0.5, mean_span=1.0)
    example = corrupt_spans(list(range(128)), spec, SENTINELS[:3], np.random.default_rng(0))
    assert [token for token in example.inputs if token in SENTINELS] == SENTINELS[:3]


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_something_is_hidden_and_something_visible(density):
    spec = CorruptionSpec(density=density, mean_span=3.0)
    example = corrupt_spans([7, 8], spec, SENTINELS, np.random.default_rng(0))
    assert len(example.targets) == 2
    assert len(example.inputs) == 2
