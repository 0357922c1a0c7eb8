"""Settings in a checkpoint about generation and about the model, and how each is treated.

Facts about the model's language (which tokens end a text, which one starts it) are used or
rejected. Preferences of the publisher (search, penalties) are ignored: a task has one decoding for
all policies. No torch.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple


class Use(Enum):
    """Treatment of a setting."""

    USED = "used"
    IRRELEVANT = "irrelevant"
    REFUSED = "refused"


class Fact(NamedTuple):
    """One field of a checkpoint's settings.

    Attributes:
        use: Its treatment.
        reason: Where it is used, why it is irrelevant, or why a checkpoint that sets it is
            rejected.
    """

    use: Use
    reason: str


def _same(use: Use, reason: str, *fields: str) -> dict[str, Fact]:
    return dict.fromkeys(fields, Fact(use, reason))


GENERATION: Final[dict[str, Fact]] = {
    "eos_token_id": Fact(Use.USED, "each of these tokens ends a completion"),
    "decoder_start_token_id": Fact(Use.USED, "first input of a decoder, if config.json has none"),
    "forced_bos_token_id": Fact(Use.USED, "the first token of a completion, if a model requires one"),
    "forced_decoder_ids": Fact(Use.REFUSED, "the model requires several first tokens, as speech models do"),
    "suppress_tokens": Fact(Use.REFUSED, "the model must not generate these tokens, but a policy would draw them; "
                            "control tokens in the list are illegal"),
    "begin_suppress_tokens": Fact(
        Use.REFUSED, "a completion must not start with these tokens, but a policy would draw them"
    ),
    "stop_strings": Fact(
        Use.REFUSED, "a completion ends at these texts, but a policy ends at tokens; name them in eos_token_id"
    ),
    "pad_token_id": Fact(Use.IRRELEVANT, "the tokenizer's padding is used, and masked everywhere"),
    "bos_token_id": Fact(Use.IRRELEVANT, "the tokenizer decides whether it precedes a prompt"),
    "bad_words_ids": Fact(Use.REFUSED, "the model must not generate these words, but a policy would draw them; "
                          "control tokens in the list (Marian's padding) are illegal"),
    "sequence_bias": Fact(Use.REFUSED, "the model's probabilities must be shifted, but a policy uses its own"),
    **_same(
        Use.IRRELEVANT,
        "the task sets the length limits, and what happens at them",
        "max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time",
        "forced_eos_token_id", "exponential_decay_length_penalty",
    ),
    **_same(
        Use.IRRELEVANT,
        "a sampling preference; training draws from the model's own distribution, and a task has one decoding",
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
        "output of `generate`, which is not called",
        "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
    ),
    "token_healing": Fact(Use.IRRELEVANT, "rewrites the end of the prompt; prompts are encoded once and kept"),
    "remove_invalid_values": Fact(Use.IRRELEVANT, "values that are not finite are rejected, not replaced"),
    "transformers_version": Fact(Use.IRRELEVANT, "the library version that wrote the file"),
    "_from_model_config": Fact(Use.IRRELEVANT, "whether the settings were derived from config.json"),
}  # fmt: skip
"""All fields of Transformers' GenerationConfig; the library does not read fields of other names."""

CONFIG_FACTS: Final[dict[str, Fact]] = {
    "quantization_config": Fact(
        Use.REFUSED, "the weights are quantized, but models are computed in float32; use the checkpoint "
        "that is not quantized",
    ),
    "attn_implementation": Fact(
        Use.REFUSED, "the checkpoint requires an attention that may be missing; remove the field, which only "
        "affects speed",
    ),
    "transformers_weights": Fact(
        Use.REFUSED, "the weights are in a file of another name; rename it to model.safetensors and remove the field",
    ),
    "is_encoder_decoder": Fact(Use.USED, "decides between a causal and an encoder-decoder model"),
    "architectures": Fact(Use.IRRELEVANT, "the class follows from model_type and the purpose of loading"),
    "id2label": Fact(Use.USED, "the labels of a classifier"),
    "label2id": Fact(Use.USED, "the labels of a classifier"),
    "num_labels": Fact(Use.USED, "the outputs of a classifier, by the library"),
    "problem_type": Fact(Use.USED, "softmax or sigmoid over a classifier's outputs"),
    "tie_word_embeddings": Fact(Use.USED, "by the library; stored weights take precedence if the file has both"),
    "chunk_size_feed_forward": Fact(Use.USED, "by the library's forward; only affects memory"),
    "dtype": Fact(Use.IRRELEVANT, "weights are float32, however they are stored"),
    "return_dict": Fact(Use.IRRELEVANT, "set to true when a model is loaded"),
    "output_hidden_states": Fact(Use.IRRELEVANT, "set to false when a model is loaded"),
    "output_attentions": Fact(Use.IRRELEVANT, "set to false when a model is loaded"),
    "name_or_path": Fact(Use.IRRELEVANT, "former location of the file"),
    "_name_or_path": Fact(Use.IRRELEVANT, "former location of the file"),
    "transformers_version": Fact(Use.IRRELEVANT, "the library version that wrote the file"),
    "model_type": Fact(Use.USED, "the architecture, by the library"),
}  # fmt: skip
"""All fields that configurations of Transformers share. Others belong to one architecture, whose
forward reads them; `lmrl_bench.models.limits` reads the number of positions."""

ATTENTION: Final = (None, "eager", "sdpa")
"""Attention implementations included in torch."""


_FORBID: Final = ("bad_words_ids", "suppress_tokens")
_TOKENS: Final = ("eos_token_id", "decoder_start_token_id", "forced_bos_token_id")


def refused_generation_fact(
    settings: dict[str, Any],
    *,
    encoder_decoder: bool = True,
    control_ids: frozenset[int] = frozenset(),
) -> tuple[str, str] | None:
    """Returns the first field that a policy cannot honor, with the reason, or None.

    Args:
        settings: The checkpoint's generation settings.
        encoder_decoder: The model has a separate decoder, whose first token can be forced.
        control_ids: Ids of control tokens; a list that forbids only such tokens is honored.
    """
    if not encoder_decoder and settings.get("forced_bos_token_id") is not None:
        return (
            "forced_bos_token_id",
            "a causal model's completion follows its prompt, so its first token cannot be forced",
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
            return name, f"it is {value!r}, but tokens must be given as integer ids"
    return None


def _are_among(words: Any, control_ids: frozenset[int]) -> bool:
    """Returns whether all entries of a list are single control tokens."""
    entries = words if isinstance(words, list) else []
    single = [word[0] if isinstance(word, list) and len(word) == 1 else word for word in entries]
    return bool(single) and all(type(word) is int and word in control_ids for word in single)
