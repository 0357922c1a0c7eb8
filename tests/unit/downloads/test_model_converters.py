"""Converted policies: layouts against closed forms, installed folders against known answers."""

import numpy as np
import pytest

from lmrl_bench.core.errors import DownloadError
from lmrl_bench.downloads import download_path, gguf_llama, onnx_t5


def installed(name):
    try:
        return download_path(name)
    except DownloadError:
        pytest.skip(f"download {name} is not installed")


def test_rotary_permutation_is_the_inverse_of_llama_cpp():
    n_heads, size, columns = 3, 8, 5
    weight = np.arange(n_heads * size * columns, dtype=np.float32).reshape(n_heads * size, columns)
    # llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute
    permuted = weight.reshape(n_heads, 2, size // 2, columns).swapaxes(1, 2).reshape(weight.shape)
    assert not np.array_equal(permuted, weight)
    np.testing.assert_array_equal(gguf_llama.undo_rotary_permutation(permuted, n_heads), weight)


@pytest.mark.parametrize(
    ("gguf_name", "name"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("blk.12.attn_output.weight", "model.layers.12.self_attn.o_proj.weight"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
    ],
)
def test_llama_names(gguf_name, name):
    assert gguf_llama.hugging_face_name(gguf_name) == name


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (
            "/enc/block.0/layer.0/SelfAttention/q/MatMul_quant",
            "encoder.block.0.layer.0.SelfAttention.q.weight",
        ),
        (
            "/m/decoder/block.3/layer.1/EncDecAttention/k/MatMul_quant",
            "decoder.block.3.layer.1.EncDecAttention.k.weight",
        ),
        ("/m/lm_head/MatMul_quant", "lm_head.weight"),
    ],
)
def test_t5_names(node, name):
    assert onnx_t5.matrix_name(node) == name


def test_t5_shared_embedding_has_one_name():
    assert onnx_t5.parameter_name("enc.embed_tokens.weight") == "shared.weight"
    assert onnx_t5.parameter_name("m.shared.weight") == "shared.weight"


def test_dequantization_is_scale_times_distance_from_the_zero_point():
    values = {
        "w_quantized": np.array([[0, 128, 255]], dtype=np.uint8),
        "w_zero_point": np.array(128, dtype=np.uint8),
        "w_scale": np.array(0.5, dtype=np.float32),
    }
    np.testing.assert_array_equal(onnx_t5._dequantize(values, "w_quantized"), [[-64.0, 0.0, 63.5]])


def test_smollm2_prefers_a_sentence_to_its_words_shuffled():
    folder = installed("smollm2-135m")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.dtype == torch.float32

    def loss(text):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return float(model(input_ids=ids, labels=ids).loss)

    assert loss("The cat sat on the mat.") == pytest.approx(5.35, abs=0.02)
    assert loss("mat the on sat The. cat") > 9.0


def test_flan_t5_translates_and_keeps_its_output_layer_apart():
    folder = installed("flan-t5-small-titler")
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    inputs = tokenizer("translate English to German: The house is wonderful.", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert tokenizer.decode(output[0], skip_special_tokens=True) == "Das Haus ist wunderbar."
