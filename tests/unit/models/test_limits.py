"""Length limits of models: the limit is the longest text whose forward runs."""

import pytest
import torch
from fixtures.checkpoints import write
from fixtures.families import BART, T5, build
from fixtures.toy import toy_tokenizer
from transformers import (
    EncoderDecoderModel,
    LongformerConfig,
    LongformerForSequenceClassification,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaForSequenceClassification,
    RobertaModel,
)

from lmrl_bench.core.errors import MetricError, PolicyError
from lmrl_bench.metrics import make_metric
from lmrl_bench.models.limits import position_limits
from lmrl_bench.policies.policy import LanguageModelPolicy

SHAPE = {
    "vocab_size": 48, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 34, "pad_token_id": 1, "type_vocab_size": 1,
}  # fmt: skip
LED = BART | {
    "attention_window": 4, "max_encoder_position_embeddings": 18, "max_decoder_position_embeddings": 20,
}  # fmt: skip


def longest(forward, bound=80):
    """The largest number of tokens with which a forward runs."""
    with torch.no_grad():
        for count in range(1, bound):
            try:
                forward(torch.full((1, count), 5))
            except (IndexError, RuntimeError):
                return count - 1
    return None


def test_roberta_has_fewer_positions_than_rows():
    model = RobertaForSequenceClassification(RobertaConfig(**SHAPE)).eval()
    assert position_limits(model).prompt == 32
    assert longest(lambda ids: model(input_ids=ids)) == 32


def test_both_sides_of_an_encoder_decoder_have_limits_of_their_own():
    model = build("LEDForConditionalGeneration", LED)
    start = torch.ones(1, 1, dtype=torch.long)
    limits = position_limits(model)
    assert limits.prompt == 16  # whole windows of 4
    assert limits.prompt == longest(lambda ids: model(input_ids=ids, decoder_input_ids=start))
    assert limits.completion == 20
    assert limits.completion == longest(lambda ids: model(input_ids=start, decoder_input_ids=ids))


def test_a_composite_has_the_limits_of_its_parts():
    parts = (
        RobertaModel(RobertaConfig(**SHAPE)),
        RobertaForCausalLM(
            RobertaConfig(
                **SHAPE | {"max_position_embeddings": 22}, is_decoder=True, add_cross_attention=True
            )
        ),
    )
    model = EncoderDecoderModel(encoder=parts[0], decoder=parts[1]).eval()
    limits = position_limits(model)
    assert limits.prompt <= 32
    assert limits.completion <= 20


@pytest.mark.parametrize(("name", "settings"), [
    ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "max_position_embeddings": 20}),
    ("OPTForCausalLM", {"max_position_embeddings": 20, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    ("BartForConditionalGeneration", BART | {"max_position_embeddings": 20}),
])  # fmt: skip
def test_learned_positions(name, settings):
    model = build(name, settings)
    assert position_limits(model).prompt == 20
    if model.config.is_encoder_decoder:
        start = torch.ones(1, 1, dtype=torch.long)
        assert longest(lambda ids: model(input_ids=ids, decoder_input_ids=start)) == 20
    else:
        assert longest(lambda ids: model(input_ids=ids)) == 20


def test_relative_positions_have_no_limit_though_a_field_says_so():
    model = build("T5ForConditionalGeneration", T5 | {"n_positions": 4})
    assert position_limits(model) == (None, None)


def load(folder, prompt, completion):
    return LanguageModelPolicy.load(
        str(folder), max_prompt_tokens=prompt, max_completion_tokens=completion
    )


def test_a_policy_is_refused_at_loading_with_both_numbers(tmp_path):
    build("LEDForConditionalGeneration", LED).save_pretrained(tmp_path)
    toy_tokenizer(append_eos=True).save_pretrained(tmp_path)
    load(tmp_path, 16, 19)
    with pytest.raises(PolicyError, match=r"16 positions for prompts; prompts of 17 .* need 17"):
        load(tmp_path, 17, 4)
    with pytest.raises(
        PolicyError, match=r"20 positions for completions; .* completions of 20 tokens need 21"
    ):
        load(tmp_path, 8, 20)
    causal = write(tmp_path / "causal", max_position_embeddings=20)
    with pytest.raises(PolicyError, match=r"20 positions for prompts and completions; .* need 21"):
        load(causal, 11, 10)


def test_metrics_know_the_same_limits(tmp_path):
    for name, model in {
        "roberta": RobertaForSequenceClassification(RobertaConfig(**SHAPE)),
        "longformer": LongformerForSequenceClassification(LongformerConfig(
            **SHAPE | {"max_position_embeddings": 32}, attention_window=8)),
    }.items():  # fmt: skip
        model.save_pretrained(tmp_path / name)
        toy_tokenizer().save_pretrained(tmp_path / name)
    for name, limit in {"roberta": 32, "longformer": 24}.items():
        arguments = {"model": str(tmp_path / name), "label": "LABEL_1"}
        make_metric("classifier", arguments | {"max_tokens": limit})
        with pytest.raises(
            MetricError, match=rf"max_tokens is {limit + 1}.* has {limit} positions"
        ):
            make_metric("classifier", arguments | {"max_tokens": limit + 1})
