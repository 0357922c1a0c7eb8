"""The text of an answer in a check without Transformers equals the text that the codec decodes."""

from __future__ import annotations

import random

import pytest
import torch
from fixtures import tokenizers
from fixtures.toy import toy_tokenizer

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.verification.bounds.run import language

KINDS = {
    "byte-level": tokenizers.byte_level_bpe,
    "llama": tokenizers.llama_bpe,
    "unigram": tokenizers.t5_unigram,
    "word-piece": tokenizers.word_piece,
    "characters": tokenizers.characters,
    "end-of-one-character": lambda: tokenizers.characters("!"),
    "gaps": tokenizers.with_gaps,
    "toy": toy_tokenizer,
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_the_codec(kind, tmp_path):
    tokenizer = KINDS[kind]()
    tokenizer.save_pretrained(tmp_path)
    found = language(str(tmp_path))
    assert found is not None
    assert found.decodes
    codec = TextCodec(tokenizer, max_prompt_tokens=9, max_completion_tokens=9)
    assert found.control == codec.vocabulary.control_ids
    ids, draw = sorted(codec.vocabulary.ids), random.Random(0)
    for _ in range(200):
        row = draw.choices(ids[:8] if draw.random() < 0.4 else ids, k=draw.randrange(8))
        whole = torch.tensor([row], dtype=torch.long)
        assert codec.decode(whole, torch.ones_like(whole, dtype=torch.bool)) == [found.text(row)]


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
def test_a_damaged_tokenizer_does_not_switch_the_check_off(tmp_path, name):
    toy_tokenizer().save_pretrained(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(PolicyError, match=f"{name}: cannot be read"):
        language(str(tmp_path))


def test_without_a_file_that_can_be_read_here_there_is_no_check(tmp_path):
    assert language(str(tmp_path)) is None
