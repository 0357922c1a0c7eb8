"""What a checkpoint says about generation and about itself, and what becomes of each fact.

A fact about the model's language (which tokens end a text, with which it begins) is used or refused. A publisher's
preference (how to search, what to punish) is irrelevant: a task has one decoding for all policies. No torch.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple


class Use(Enum):
    """What becomes of a fact."""

    USED = "used"
    IRRELEVANT = "irrelevant"
    REFUSED = "refused"


class Fact(NamedTuple):
    """One field of a checkpoint's settings.

    Attributes:
        use: what becomes of it.
        reason: by what it is used, why it is irrelevant, or why a checkpoint that sets it is refused.
    """

    use: Use
    reason: str


def _same(use: Use, reason: str, *fields: str) -> dict[str, Fact]:
    return dict.fromkeys(fields, Fact(use, reason))


GENERATION: Final[dict[str, Fact]] = {
    "eos_token_id": Fact(Use.USED, "each of these tokens ends a response"),
    "decoder_start_token_id": Fact(Use.USED, "a decoder begins with it, where config.json names none"),
    "forced_bos_token_id": Fact(Use.USED, "the first token of a response, where a model demands one"),
    "forced_decoder_ids": Fact(Use.REFUSED, "the model demands several first tokens, as speech models do"),
    "suppress_tokens": Fact(Use.REFUSED, "the model must not write these tokens, and a policy would draw them; "
                            "control tokens in the list are illegal"),
    "begin_suppress_tokens": Fact(
        Use.REFUSED, "a response must not begin with these tokens, and a policy would draw them"
    ),
    "stop_strings": Fact(
        Use.REFUSED, "a response ends at these texts, and a policy ends at tokens; name them in eos_token_id"
    ),
    "pad_token_id": Fact(Use.IRRELEVANT, "padding is the tokenizer's, and masked everywhere"),
    "bos_token_id": Fact(Use.IRRELEVANT, "the tokenizer puts it before a prompt, or not"),
    "bad_words_ids": Fact(Use.REFUSED, "the model must not write these words, and a policy would draw them; "
                          "control tokens in the list (Marian's padding) are illegal"),
    "sequence_bias": Fact(Use.REFUSED, "the model's probabilities are to be shifted, and a policy's are its own"),
    **_same(
        Use.IRRELEVANT,
        "the task sets the lengths of responses, and what happens at the limit",
        "max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time",
        "forced_eos_token_id", "exponential_decay_length_penalty",
    ),
    **_same(
        Use.IRRELEVANT,
        "a preference in sampling; training draws from the model's own distribution, and a task has one decoding",
        "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff",
        "eta_cutoff", "renormalize_logits", "guidance_scale", "watermarking_config",
        "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size", "penalty_alpha", "dola_layers",
    ),
    **_same(
        Use.IRRELEVANT,
        "a setting of beam search, which no task uses",
        "num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping", "constraints",
        "force_words_ids", "num_return_sequences",
    ),
    **_same(
        Use.IRRELEVANT,
        "changes speed or memory, not what is drawn",
        "use_cache", "cache_implementation", "cache_config", "max_cache_len", "low_memory", "prefill_chunk_size",
        "compile_config", "disable_compile", "continuous_batching_config", "use_mtp",
    ),
    **_same(
        Use.IRRELEVANT,
        "a setting of assisted decoding, which is not used",
        "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
        "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind",
        "target_lookbehind", "assistant_ensemble_weight", "speculation_type",
    ),
    **_same(
        Use.IRRELEVANT,
        "what `generate` returns, which is not called",
        "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
    ),
    "token_healing": Fact(Use.IRRELEVANT, "rewrites the prompt's end; prompts are encoded once and kept"),
    "remove_invalid_values": Fact(Use.IRRELEVANT, "values that are not finite are refused, not replaced"),
    "transformers_version": Fact(Use.IRRELEVANT, "which library wrote the file"),
    "_from_model_config": Fact(Use.IRRELEVANT, "whether the settings were derived from config.json"),
}  # fmt: skip
"""Every field of Transformers' GenerationConfig. A field of another name is read by no code of the library."""

CONFIG_FACTS: Final[dict[str, Fact]] = {
    "quantization_config": Fact(
        Use.REFUSED, "the weights are quantized, and models are computed in float32; give the checkpoint "
        "that is not quantized",
    ),
    "attn_implementation": Fact(
        Use.REFUSED, "the checkpoint demands an attention that may not be here; remove the field, which changes "
        "speed only",
    ),
    "transformers_weights": Fact(
        Use.REFUSED, "the weights lie in a file of another name; rename it to model.safetensors and remove the field",
    ),
    "is_encoder_decoder": Fact(Use.USED, "decides between a causal and an encoder-decoder model"),
    "architectures": Fact(Use.IRRELEVANT, "the class follows from model_type and from what the model is loaded for"),
    "id2label": Fact(Use.USED, "the labels of a classifier"),
    "label2id": Fact(Use.USED, "the labels of a classifier"),
    "num_labels": Fact(Use.USED, "the outputs of a classifier, by the library"),
    "problem_type": Fact(Use.USED, "softmax or sigmoid over a classifier's outputs"),
    "tie_word_embeddings": Fact(Use.USED, "by the library; the file's own weights win where it holds both"),
    "chunk_size_feed_forward": Fact(Use.USED, "by the library's forward; changes memory only"),
    "dtype": Fact(Use.IRRELEVANT, "weights are float32 whatever they are stored as"),
    "return_dict": Fact(Use.IRRELEVANT, "set to true when a model is loaded"),
    "output_hidden_states": Fact(Use.IRRELEVANT, "set to false when a model is loaded"),
    "output_attentions": Fact(Use.IRRELEVANT, "set to false when a model is loaded"),
    "name_or_path": Fact(Use.IRRELEVANT, "where the file once was"),
    "_name_or_path": Fact(Use.IRRELEVANT, "where the file once was"),
    "transformers_version": Fact(Use.IRRELEVANT, "which library wrote the file"),
    "model_type": Fact(Use.USED, "the architecture, by the library"),
}  # fmt: skip
"""Every field that all configurations of Transformers share. The others belong to one architecture, whose own forward
reads them; how many positions they allow is read in `lmrl_bench.models.limits`."""

ATTENTION: Final = (None, "eager", "sdpa")
"""Implementations of attention that come with torch."""


_FORBID: Final = ("bad_words_ids", "suppress_tokens")
_TOKENS: Final = ("eos_token_id", "decoder_start_token_id", "forced_bos_token_id")


def refused_generation_fact(
    settings: dict[str, Any],
    *,
    encoder_decoder: bool = True,
    control_ids: frozenset[int] = frozenset(),
) -> tuple[str, str] | None:
    """Returns the first field that a policy cannot honor, with the reason; None where all is well.

    Args:
        settings: The checkpoint's settings for generation.
        encoder_decoder: Whether the model has a decoder of its own, whose first token can be forced.
        control_ids: Ids of control tokens; a list that forbids only such tokens is honored.
    """
    if not encoder_decoder and settings.get("forced_bos_token_id") is not None:
        return (
            "forced_bos_token_id",
            "a causal model's response follows its prompt and has no forced first token",
        )
    for name, fact in GENERATION.items():
        value = settings.get(name)
        honored = name in _FORBID and _are_among(value, control_ids)
        if fact.use is Use.REFUSED and value and not honored:
            return name, fact.reason
    for name in _TOKENS:
        value = settings.get(name)
        tokens = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(token) is int for token in tokens):
            return name, f"it holds {value!r}, and it names tokens by their ids, which are numbers"
    return None


def _are_among(words: Any, control_ids: frozenset[int]) -> bool:
    """Whether all entries of a list are single control tokens."""
    entries = words if isinstance(words, list) else []
    single = [word[0] if isinstance(word, list) and len(word) == 1 else word for word in entries]
    return bool(single) and all(type(word) is int and word in control_ids for word in single)
