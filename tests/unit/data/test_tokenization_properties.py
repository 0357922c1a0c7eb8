"""Text to ids for any text, limit and tokenizer: what is cut, what is masked, what comes back."""

from __future__ import annotations

import pytest
import torch
from fixtures.toy import EOS_ID, toy_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core.errors import DataError
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec

TOKENIZERS = {
    (append_eos, pad_is_eos): toy_tokenizer(append_eos=append_eos, pad_is_eos=pad_is_eos)
    for append_eos in (False, True)
    for pad_is_eos in (False, True)
}
TEXTS = st.text(alphabet="abthein .,:", min_size=1, max_size=30)
KINDS = st.sampled_from(sorted(TOKENIZERS))


def codec_of(kind, prompt_tokens=64, completion_tokens=64, truncate="error"):
    return TextCodec(
        TOKENIZERS[kind], max_prompt_tokens=prompt_tokens, truncate=truncate,
        max_completion_tokens=completion_tokens,
    )  # fmt: skip


def samples_of(texts):
    return [Sample(str(number), text, ("a",)) for number, text in enumerate(texts)]


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), KINDS)
def test_the_mask_is_never_rebuilt_from_ids(texts, kind):
    """Pitfall A3: an EOS that pads elsewhere is a real token where the tokenizer put it."""
    prompts = codec_of(kind).prompts(samples_of(texts))
    for ids, mask, text in zip(prompts.ids, prompts.mask, texts, strict=True):
        assert ids[mask].tolist() == TOKENIZERS[kind](text).input_ids
        assert mask.tolist() == sorted(mask.tolist()), "padding stands on the left"


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 12), st.sampled_from(["left", "right"]), KINDS)
def test_a_prompt_is_cut_at_the_limit_on_the_side_and_counted(text, limit, side, kind):
    codec = codec_of(kind, limit, truncate=side)
    ids, full = codec.encode(Sample("s", text, ("a",))), TOKENIZERS[kind](text).input_ids
    excess = max(len(full) - limit, 0)
    end = [EOS_ID] if kind[0] else []
    body = full[: len(full) - len(end)]
    assert ids == (body[excess:] if side == "left" else body[: len(body) - excess]) + end
    assert codec.truncated_prompts == int(excess > 0)
    if excess:
        with pytest.raises(DataError, match="more than the limit"):
            codec_of(kind, limit).encode(Sample("s", text, ("a",)))


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS.filter(str.strip), st.integers(1, 12), KINDS)
def test_a_reference_is_cut_at_the_limit_and_only_a_whole_one_ends(prompt, text, limit, kind):
    sample = Sample("s", prompt, (text,))
    full = codec_of(kind).encode_reference(sample)
    codec = codec_of(kind, completion_tokens=limit)
    ids = codec.encode_reference(sample)
    assert full[-1] == EOS_ID
    assert EOS_ID not in full[:-1]
    assert ids == full[:limit]
    assert codec.truncated_references == int(len(full) > limit)
    assert codec.decode(torch.tensor([full]), torch.ones(1, len(full)).bool()) == [text.strip()]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 8), KINDS)
def test_what_the_mask_hides_is_not_text(data, rows, columns, kind):
    """Pitfall B2: garbage after the end, and other rows of the batch, change no text."""
    matrix = st.lists(st.integers(0, 44), min_size=rows * columns, max_size=rows * columns)
    ids, garbage = (torch.tensor(data.draw(matrix)).view(rows, columns) for _ in range(2))
    lengths = data.draw(st.lists(st.integers(0, columns), min_size=rows, max_size=rows))
    mask = torch.arange(columns) < torch.tensor(lengths).unsqueeze(1)
    codec = codec_of(kind)
    texts = codec.decode(ids, mask)
    assert codec.decode(torch.where(mask, ids, garbage), mask) == texts
    alone = [codec.decode(ids[row : row + 1], mask[row : row + 1])[0] for row in range(rows)]
    assert alone == texts
    special = TOKENIZERS[kind].all_special_tokens
    assert not any(token in text for text in texts for token in special)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(0, 5), KINDS)
def test_padding_to_any_width_keeps_the_tokens(texts, extra, kind):
    codec = codec_of(kind)
    plain = codec.prompts(samples_of(texts))
    wide = codec.prompts(samples_of(texts), width=plain.ids.shape[1] + extra)
    assert torch.equal(wide.ids[:, extra:], plain.ids)
    assert torch.equal(wide.mask[:, extra:], plain.mask)
    assert not wide.mask[:, :extra].any()
    assert (wide.ids[:, :extra] == codec.pad_id).all()
