"""Vocabularies: the legal ids, those that end a completion, and those that are not text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.tokenizers import byte_level_bpe, with_gaps
from fixtures.toy import toy_tokenizer
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.vocabulary import Vocabulary


def test_exactly_the_ids_of_the_tokenizer_are_legal():
    vocabulary = Vocabulary.of(with_gaps())
    assert vocabulary.ids == (0, 1, 2, 50, 60, 200)
    assert vocabulary.width == 201
    assert np.flatnonzero(vocabulary.known(280)).tolist() == [0, 1, 2, 50, 60, 200]
    illegal = vocabulary.illegal(280, torch.device("cpu"))
    assert illegal is not None
    assert (~illegal).nonzero().flatten().tolist() == [0, 1, 2, 50, 60, 200]
    assert vocabulary.ordinary_ids.tolist() == [0, 1, 2, 50, 60]


def test_nothing_is_masked_where_every_output_is_a_token():
    vocabulary = Vocabulary.of(toy_tokenizer())
    assert vocabulary.illegal(45, torch.device("cpu")) is None
    assert vocabulary.illegal(46, torch.device("cpu")) is not None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], (1,)),
        ([GenerationConfig(eos_token_id=[1, 3])], (1, 3)),
        ([GenerationConfig(eos_token_id=[3, 1])], (1, 3)),
        ([GenerationConfig(eos_token_id=3)], (1, 3)),
        ([GenerationConfig(eos_token_id=[1, 9999])], (1,)),
        ([GenerationConfig(), LlamaConfig(eos_token_id=[3])], (1, 3)),
        ([GenerationConfig(eos_token_id=1), LlamaConfig(eos_token_id=3)], (1,)),
    ],
)
def test_end_tokens_are_those_that_the_checkpoint_names(settings, expected):
    """The tokenizer's own first; ids that it does not know can never be drawn."""
    vocabulary = Vocabulary.of(byte_level_bpe(), *(settings or [GenerationConfig()]))
    assert vocabulary.eos_ids == expected
    tokens = torch.tensor([[0, 1], [3, 7]])
    assert vocabulary.is_end(tokens).tolist() == [[False, True], [3 in expected, False]]


def test_stored_settings_the_tokenizer_are_read(tmp_path):
    byte_level_bpe().save_pretrained(tmp_path)
    GenerationConfig(eos_token_id=[1, 3]).save_pretrained(tmp_path)
    loaded = type(byte_level_bpe()).from_pretrained(tmp_path)
    assert Vocabulary.of(loaded).eos_ids == (1, 3)


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_damaged_stored_settings_the_tokenizer_are_not_passed_over(tmp_path, name):
    byte_level_bpe().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / name).write_text('{"eos_token_id": [1, 3')
    with pytest.raises(PolicyError, match=rf"{name}: cannot be read as JSON"):
        Vocabulary.of(tokenizer)
    (tmp_path / name).write_text('{"model_type": "of-tomorrow"}')
    assert Vocabulary.of(tokenizer).eos_ids


def test_control_ids_are_the_special_tokens():
    assert Vocabulary.of(byte_level_bpe()).control_ids == {0, 1, 2, 3}


def test_no_eos_is_refused():
    tokenizer = toy_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(PolicyError, match=r"no EOS token.*tokenizer_config\.json"):
        Vocabulary.of(tokenizer)


def test_end_tokens_must_be_legal():
    with pytest.raises(ValueError, match="end tokens"):
        Vocabulary((0, 1), (2,), 0)


@pytest.mark.parametrize("settings", [{"bad_words_ids": [[0]]}, {"suppress_tokens": [0]}])
def test_control_tokens_that_the_checkpoint_forbids_are_illegal(settings):
    """Marian's checkpoints forbid their padding, which also begins their completions."""
    vocabulary = Vocabulary.of(toy_tokenizer(), GenerationConfig(eos_token_id=1, **settings))
    assert vocabulary.forbidden_ids == {0}
    assert vocabulary.width == 45
    illegal = vocabulary.illegal(45, torch.device("cpu"))
    assert illegal is not None
    assert illegal.nonzero().flatten().tolist() == [0]
    assert 0 not in vocabulary.ordinary_ids


def test_an_end_token_and_ordinary_text_are_never_forbidden_here():
    """The library ends at a forbidden end token too; ordinary words are refused when a policy is loaded."""
    settings = GenerationConfig(eos_token_id=1, bad_words_ids=[[1], [7], [0, 2]])
    assert Vocabulary.of(toy_tokenizer(), settings).forbidden_ids == frozenset()
