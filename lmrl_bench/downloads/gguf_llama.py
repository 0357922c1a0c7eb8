"""Converts SmolLM2 from its GGUF file (4-bit, llama.cpp's layout) to a Hugging Face folder.

Needs the module `gguf` (optional dependency `downloads`). The weights are dequantized; nothing is
trained or rounded beyond half precision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GGUF_FILE: Final = "model.gguf"
_SPECIAL_TOKEN: Final = 3
_LAYER_NAMES: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def convert(folder: Path) -> None:
    """Replaces `model.gguf` in `folder` by config, weights and tokenizer."""
    import gguf
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(str(folder / GGUF_FILE))
    field = {name: value.contents() for name, value in reader.fields.items()}
    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    weights: dict[str, NDArray[np.float16]] = {}
    for tensor in reader.tensors:
        value = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        kind = tensor.name.removesuffix(".weight").rpartition(".")[2]
        if kind in heads:
            value = undo_rotary_permutation(value, field[heads[kind]])
        weights[hugging_face_name(tensor.name)] = np.ascontiguousarray(value, dtype=np.float16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_config(folder, field)
    _write_tokenizer(folder, field)
    del reader, weights
    (folder / GGUF_FILE).unlink()


def hugging_face_name(name: str) -> str:
    """Returns the Transformers name of a Llama weight from its GGUF name."""
    outer = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }
    if name in outer:
        return outer[name]
    _, layer, kind, _ = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[kind]}.weight"


def undo_rotary_permutation(weight: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Reorders the rows of a query or key projection `(heads * D, in)` for Transformers.

    llama.cpp interleaves the two halves mixed by a rotation; Transformers keeps them separate.
    """
    rows, columns = weight.shape
    halves = weight.reshape(n_heads, rows // n_heads // 2, 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _write_config(folder: Path, field: dict[str, Any]) -> None:
    eos = field["tokenizer.ggml.eos_token_id"]
    ids = {"bos_token_id": field["tokenizer.ggml.bos_token_id"], "eos_token_id": eos}
    ids["pad_token_id"] = field["tokenizer.ggml.padding_token_id"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": field["llama.vocab_size"],
        "hidden_size": field["llama.embedding_length"],
        "intermediate_size": field["llama.feed_forward_length"],
        "num_hidden_layers": field["llama.block_count"],
        "num_attention_heads": field["llama.attention.head_count"],
        "num_key_value_heads": field["llama.attention.head_count_kv"],
        "max_position_embeddings": field["llama.context_length"],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": field["llama.rope.freq_base"],
        },
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "dtype": "float32",
        **ids,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ids)


def _write_tokenizer(folder: Path, field: dict[str, Any]) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = field["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in field["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _SPECIAL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[field["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[field["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[field["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[field["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": field["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(field["tokenizer.chat_template"], encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
