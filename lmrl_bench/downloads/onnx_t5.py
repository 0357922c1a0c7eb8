"""Converts flan-t5-small from two quantized ONNX graphs to a Hugging Face folder.

Needs the module `onnx` (optional dependency `downloads`). Matrices are 8-bit integers with one scale
per tensor, which can be dequantized without loss; each is found through the graph node that uses
it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GRAPHS: Final = {"encoder.onnx": "enc", "decoder.onnx": "m"}
_CONFIG: Final = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "vocab_size": 32_128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1_024,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "num_heads": 6,
    "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "dtype": "float32",
}

Weights = dict[str, NDArray[np.float16]]


def convert(folder: Path) -> None:
    """Replaces both graphs in `folder` by config, weights and tokenizer settings."""
    from safetensors.numpy import save_file

    weights: Weights = {}
    for name in GRAPHS:
        weights |= graph_weights(folder / name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", _CONFIG)
    ids = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    _write_json(folder / "generation_config.json", {key: _CONFIG[key] for key in ids})
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 512,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    _write_json(folder / "tokenizer_config.json", settings)
    for name in GRAPHS:
        (folder / name).unlink()


def graph_weights(path: Path) -> Weights:
    """Returns all weights of one graph under their Transformers names."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights: Weights = {}
    for node in graph.node:
        if node.op_type == "MatMulInteger" and node.input[1] in values:
            weights[matrix_name(node.name)] = _half(_dequantize(values, node.input[1]).T)
        elif node.op_type == "Gather" and node.input[0].endswith("weight_quantized"):
            name = parameter_name(node.input[0].removesuffix("_quantized"))
            weights[name] = _half(_dequantize(values, node.input[0]))
    for name, value in values.items():
        if name.endswith("layer_norm.weight"):
            weights[parameter_name(name)] = _half(value)
    return weights


def matrix_name(node: str) -> str:
    """Maps `/enc/block.0/layer.0/SelfAttention/q/MatMul_quant` to `encoder.block.0…q.weight`."""
    path = node.strip("/").removesuffix("/MatMul_quant")
    return parameter_name(path.replace("/", ".") + ".weight")


def parameter_name(name: str) -> str:
    """Returns the Transformers name of a parameter in either graph."""
    name = re.sub(r"^enc\.", "encoder.", name).removeprefix("m.")
    return "shared.weight" if name == "encoder.embed_tokens.weight" else name


def _dequantize(values: dict[str, Any], quantized: str) -> NDArray[np.float32]:
    stem = quantized.removesuffix("_quantized")
    zero_point = values[f"{stem}_zero_point"].astype(np.int32)
    integers = values[quantized].astype(np.int32) - zero_point
    return np.asarray(integers * values[f"{stem}_scale"], dtype=np.float32)


def _half(value: NDArray[Any]) -> NDArray[np.float16]:
    return np.ascontiguousarray(value, dtype=np.float16)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
