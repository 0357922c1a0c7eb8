"""Randomly initialized Llama and T5 models of the nano sizes."""

from __future__ import annotations

from typing import Final

import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from lmrl_bench.pretraining.recipes import CausalRecipe, Seq2SeqRecipe, SkillRecipe

INITIAL_DEVIATION: Final = 0.02


def build_causal(
    recipe: CausalRecipe | SkillRecipe, tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """Builds a Llama model with tied embeddings and weights of standard deviation 0.02."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.feed_forward_size,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_heads,
        max_position_embeddings=recipe.sequence_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return model


def build_seq2seq(
    recipe: Seq2SeqRecipe | SkillRecipe, tokenizer: PreTrainedTokenizerFast
) -> T5ForConditionalGeneration:
    """Builds a T5 model (gated feed-forward, tied embeddings, starts on `<pad>`)."""
    config = T5Config(  # type: ignore[call-arg]
        vocab_size=len(tokenizer),
        d_model=recipe.hidden_size,
        d_kv=recipe.hidden_size // recipe.n_heads,
        d_ff=recipe.feed_forward_size,
        num_layers=recipe.n_layers,
        num_decoder_layers=recipe.n_layers,
        num_heads=recipe.n_heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=recipe.dropout,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    model = T5ForConditionalGeneration(config)
    _initialize_small(model)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return model


@torch.no_grad()
def _initialize_small(model: T5ForConditionalGeneration) -> None:
    """Draws every matrix with a small standard deviation instead of T5's own.

    T5's embeddings of unit variance suit an optimizer that scales its steps by the weights; with
    AdamW they hardly move in a short run, and the loss stays at that of a unigram model. T5 divides
    tied outputs by the square root of the width; the weight of the last norm undoes that.
    """
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.normal_(0.0, INITIAL_DEVIATION)
    model.decoder.final_layer_norm.weight.fill_(model.config.d_model**0.5)
