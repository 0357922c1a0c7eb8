"""Text to ids and back: padding, EOS, truncation, the border between prompt and completion."""

from __future__ import annotations

import pytest
import torch
from fixtures.toy import EOS_ID, PAD_ID, toy_samples, toy_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lmrl_bench.core.errors import DataError, PolicyError
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec

TEXTS = st.text(alphabet="abthein .,:", min_size=1, max_size=12)


def _codec(tokenizer=None, **kwargs) -> TextCodec:
    options = {"max_prompt_tokens": 16, "max_completion_tokens": 8} | kwargs
    return TextCodec(tokenizer or toy_tokenizer(), **options)


def _sample(prompt: str, *references: str) -> Sample:
    return Sample(f"id-{prompt}", prompt, references or ("a",))


def _with_bos() -> PreTrainedTokenizerFast:
    """Llama's way: BOS before every text, a space set by the tokenizer itself (SentencePiece)."""
    vocabulary = {"<s>": 0, "</s>": 1, "▁": 2, "▁a": 3, "▁b": 4, "a": 5, "b": 6}
    backend = Tokenizer(models.BPE(vocabulary, merges=[("▁", "a"), ("▁", "b")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


class TestPrompts:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(TEXTS, min_size=1, max_size=5), st.sampled_from([None, 20]))
    def test_padding(self, texts, width):
        """The mask covers the encoded ids, at the right end; the batch is as wide as it must be."""
        tokenizer = toy_tokenizer()
        samples = [Sample(str(number), text, ("a",)) for number, text in enumerate(texts)]
        prompts = _codec(tokenizer).prompts(samples, width=width)
        encoded = [tokenizer(text).input_ids for text in texts]
        assert prompts.ids.shape[1] == (width or max(map(len, encoded)))
        for ids, mask, expected in zip(prompts.ids, prompts.mask, encoded, strict=True):
            assert ids[-len(expected) :].tolist() == expected
            assert mask[-len(expected) :].all()
            assert mask.sum() == len(expected)
            assert (ids[~mask] == PAD_ID).all()

    def test_encodes_each_sample_once(self):
        tokenizer = toy_tokenizer()
        calls = []
        original = tokenizer._encode_plus
        tokenizer._encode_plus = lambda *args, **kwargs: (
            calls.append(args) or original(*args, **kwargs)
        )
        codec = _codec(tokenizer)
        n_before = len(calls)
        samples = toy_samples(3)
        first = codec.prompts([*samples, *samples], [0, 1, 2, 0, 1, 2])
        assert len(calls) == n_before + 3
        assert torch.equal(codec.prompts(samples).ids, first.ids[:3])
        codec.encode(samples[0]).append(7)
        assert torch.equal(codec.prompts(samples).ids, first.ids[:3]), "the cache is not exposed"

    def test_groups(self):
        assert _codec().prompts(toy_samples(3)).group_ids.tolist() == [0, 1, 2]
        assert _codec().prompts(toy_samples(2), [4, 4]).group_ids.tolist() == [4, 4]

    def test_encoder_prompts_end_with_eos(self):
        assert _codec(toy_tokenizer(append_eos=True)).encode(_sample("bad"))[-1] == EOS_ID

    def test_too_long(self):
        message = (
            "the prompt of sample 'id-b b b b b' has 5 tokens, more than the limit of 4; "
            r".*truncate: left \| right"
        )
        with pytest.raises(DataError, match=message):
            _codec(max_prompt_tokens=4).encode(_sample("b b b b b"))

    @pytest.mark.parametrize(("side", "expected"), [("left", "on a b:"), ("right", "bad on a")])
    def test_cut_keeps_the_encoders_eos(self, side, expected):
        tokenizer = toy_tokenizer(append_eos=True)
        full = tokenizer("bad on a b:").input_ids
        codec = _codec(tokenizer, max_prompt_tokens=len(full) - 2, truncate=side)
        sample = _sample("bad on a b:")
        ids = codec.encode(sample)
        body = full[:-1]
        assert ids == (body[2:] if side == "left" else body[:-2]) + [EOS_ID]
        codec.encode(sample)
        codec.encode(_sample("a"))
        assert codec.truncated_prompts == 1

    @pytest.mark.parametrize(("side", "expected"), [("left", [0, 4, 4]), ("right", [0, 3, 4])])
    def test_cut_keeps_bos(self, side, expected):
        codec = _codec(_with_bos(), max_prompt_tokens=3, truncate=side)
        assert codec.encode(_sample("a b b")) == expected

    def test_empty_prompt(self):
        with pytest.raises(DataError, match="sample 'id-' has an empty prompt"):
            _codec().encode(_sample(""))


class TestDecode:
    def test_drops_eos_padding_and_outer_space(self):
        codec = _codec()
        ids = torch.tensor([[37, 43, EOS_ID, PAD_ID], [4, 3, 6, 5], [EOS_ID, 5, 5, 5]])
        mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
        tokenizer = codec.tokenizer
        assert codec.decode(ids, mask) == [
            tokenizer.decode([37, 43]).strip(),
            tokenizer.decode([4, 3, 6, 5]),
            "",
        ]

    def test_masked_tokens_inside_are_skipped(self):
        codec = _codec()
        mask = torch.tensor([[True, False, True]])
        assert codec.decode(torch.tensor([[3, 4, 5]]), mask) == ["ac"]

    def test_one_call_for_the_batch(self, monkeypatch):
        codec = _codec()
        calls = []
        original = codec.tokenizer.batch_decode
        monkeypatch.setattr(
            codec.tokenizer, "batch_decode", lambda *a, **k: calls.append(a) or original(*a, **k)
        )
        codec.decode(torch.full((7, 3), 5), torch.ones(7, 3, dtype=torch.bool))
        assert len(calls) == 1

    def test_some_ids_do_not_survive_text(self):
        """Why ids are never encoded again: "t", "h" comes back as one token."""
        tokenizer = toy_tokenizer()
        ids = tokenizer.convert_tokens_to_ids(["t", "h"])
        (text,) = _codec(tokenizer).decode(torch.tensor([ids]), torch.ones(1, 2).bool())
        assert text == "th"
        assert tokenizer(text).input_ids != ids


class TestReferences:
    @settings(max_examples=60, deadline=None)
    @given(TEXTS, TEXTS.filter(str.strip))
    def test_continues_the_prompt_with_one_space(self, prompt, reference):
        tokenizer = toy_tokenizer()
        codec = _codec(tokenizer, max_completion_tokens=40)
        sample = _sample(prompt, reference)
        ids = codec.encode_reference(sample)
        joined = tokenizer.decode(codec.encode(sample) + ids[:-1])
        space = "" if prompt[-1] == " " else " "
        assert joined == prompt + space + reference.strip()
        assert ids[-1] == EOS_ID
        mask = torch.ones(1, len(ids), dtype=torch.bool)
        assert codec.decode(torch.tensor([ids]), mask) == [reference.strip()]

    def test_encoder_decoder_has_no_space(self):
        codec = _codec(toy_tokenizer(append_eos=True))
        assert codec.tokenizer.decode(codec.encode_reference(_sample("bad", "cab"))) == "cab</s>"

    def test_sentencepiece_sets_the_space_itself(self):
        codec = _codec(_with_bos())
        sample = _sample("a", "b a")
        assert codec.encode(sample) + codec.encode_reference(sample) == [0, 3, 4, 3, 1]

    def test_long_one_is_cut_without_eos(self):
        codec = _codec(max_completion_tokens=3)
        sample = _sample("c", "b b b")
        full = _codec().encode_reference(sample)
        assert codec.encode_reference(sample) == full[:3]
        assert EOS_ID not in full[:3]
        codec.encode_reference(sample)
        assert codec.truncated_references == 1

    def test_fits_exactly_with_eos(self):
        codec = _codec(max_completion_tokens=4)
        assert codec.encode_reference(_sample("c", "b b b"))[-1] == EOS_ID
        assert codec.truncated_references == 0

    def test_other_reference(self):
        codec = _codec()
        sample = _sample("c", "a", "b")
        assert codec.encode_reference(sample, 1) == codec.encode_reference(_sample("c", "b"))


def test_ids_of_the_special_tokens():
    codec = _codec()
    assert (codec.eos_id, codec.pad_id, codec.vocabulary_size) == (EOS_ID, PAD_ID, 45)
    codec = _codec(toy_tokenizer(pad_is_eos=True))
    assert codec.pad_id == codec.eos_id == EOS_ID
    assert _codec(_with_bos()).pad_id == 1, "no pad token: EOS pads"


def test_no_eos_is_refused():
    tokenizer = toy_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(PolicyError, match=r"no EOS token.*tokenizer_config\.json"):
        _codec(tokenizer)
