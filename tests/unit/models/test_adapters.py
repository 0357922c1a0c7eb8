"""Adapters of every kind of PEFT: as PEFT itself scores, whole, saved and loaded again; or refused."""

from __future__ import annotations

import pytest
import torch
from fixtures.checkpoints import (
    LINEAR,
    _adapter,
    _adapter_lacks_weights,
    _adapter_without_config,
    edit,
)
from fixtures.toy import toy_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.policies.policy import LanguageModelPolicy

peft = pytest.importorskip("peft")

KINDS = {
    "lora with dropout": ("LoraConfig", LINEAR | {"lora_dropout": 0.5}),
    "dora": ("LoraConfig", LINEAR | {"use_dora": True}),
    "dora with dropout": ("LoraConfig", LINEAR | {"use_dora": True, "lora_dropout": 0.5}),
    "rank-stabilized": ("LoraConfig", LINEAR | {"use_rslora": True}),
    "patterns": ("LoraConfig", LINEAR | {"rank_pattern": {"v_proj": 3}, "alpha_pattern": {"q_proj": 32},
                                         "layers_to_transform": [1]}),
    "a layer that is saved whole": ("LoraConfig", LINEAR | {"modules_to_save": ["gate_proj"]}),
    "embedding that is saved whole": ("LoraConfig", LINEAR | {"modules_to_save": ["embed_tokens"]}),
    "some tokens": ("LoraConfig", LINEAR | {"trainable_token_indices": [5, 9]}),
    "loha": ("LoHaConfig", LINEAR),
    "lokr": ("LoKrConfig", LINEAR),
    "adalora": ("AdaLoraConfig", LINEAR | {"total_step": 10}),
    "oft": ("OFTConfig", LINEAR | {"oft_block_size": 8}),
    "ia3": ("IA3Config", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
}  # fmt: skip


def load(place):
    return LanguageModelPolicy.load(str(place), max_prompt_tokens=8, max_completion_tokens=8)


@torch.no_grad()
def logits(model):
    return model(input_ids=torch.arange(4, 12).unsqueeze(0)).logits


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_scores_as_peft_does(kind, tmp_path):
    name, settings = KINDS[kind]
    place = _adapter(name, **settings)(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    plain = logits(base)
    theirs = logits(peft.PeftModel.from_pretrained(base, str(place)).eval())
    assert float((theirs - plain).abs().max()) > 1e-2  # it changes something
    policy = load(place)
    assert torch.allclose(logits(policy.model), theirs, atol=1e-5)
    policy.train()  # dropout stays off, in adapters too: what is scored is what was sampled
    assert torch.allclose(logits(policy.model), theirs, atol=1e-5)
    policy.save(tmp_path / "again")
    assert torch.equal(logits(load(tmp_path / "again").model), logits(policy.model))


def test_an_adapter_that_lacks_a_weight_is_refused(tmp_path):
    with pytest.raises(PolicyError, match=r"\(LORA\) lacks 1 of its weights.*lora_A"):
        load(_adapter_lacks_weights(tmp_path))


def test_a_weight_that_the_model_does_not_take_is_refused(tmp_path):
    place = _adapter("LoraConfig", **LINEAR)(tmp_path)
    file = place / "adapter_model.safetensors"
    weights = load_file(file)
    first = sorted(weights)[0]
    weights[first.replace("layers.0", "layers.7")] = weights[first].clone()
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=r"has 1 weights that its model does not use.*layers\.7"):
        load(place)


def test_a_plain_lora_in_whose_settings_dora_is_switched_on_is_refused(tmp_path):
    place = _adapter("LoraConfig", **LINEAR)(tmp_path)
    edit(place / "adapter_config.json", use_dora=True)
    with pytest.raises(PolicyError, match=r"lacks 4 of its weights.*magnitude"):
        load(place)
    dora = _adapter("LoraConfig", **LINEAR, use_dora=True)(tmp_path / "dora")
    edit(dora / "adapter_config.json", use_dora=False)
    with pytest.raises(PolicyError, match=r"4 weights that its model does not use.*magnitude"):
        load(dora)


@pytest.mark.parametrize("settings", [
    {"modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj", "lm_head"]},
])  # fmt: skip
def test_an_adapter_of_the_output_layer_is_refused_with_the_true_reason(tmp_path, settings):
    with pytest.raises(PolicyError, match=r"changes the output layer \(lm_head.*merge_and_unload"):
        load(_adapter("LoraConfig", **LINEAR | settings)(tmp_path))


@pytest.mark.parametrize(("kind", "settings"), [
    ("PrefixTuningConfig", {}), ("PromptTuningConfig", {}), ("PromptEncoderConfig", {"encoder_hidden_size": 16}),
])  # fmt: skip
def test_tokens_before_every_prompt_are_refused(tmp_path, kind, settings):
    with pytest.raises(PolicyError, match="adds trained positions to every prompt"):
        load(_adapter(kind, num_virtual_tokens=3, **settings)(tmp_path))


@pytest.mark.parametrize(("file", "content"), [
    ("adapter_config.json", b"{"),
    ("adapter_config.json", b"[]"),
    ("adapter_config.json", b"{}"),
    ("adapter_config.json", b'{"peft_type": "NO", "base_model_name_or_path": "BASE"}'),
    ("adapter_config.json", b'{"peft_type": "LORA", "base_model_name_or_path": "/no/where"}'),
    ("adapter_model.safetensors", b""),
    ("adapter_model.safetensors", None),
])  # fmt: skip
def test_a_damaged_adapter_is_one_message(tmp_path, file, content):
    place = _adapter("LoraConfig", **LINEAR)(tmp_path)
    (place / file).unlink()
    if content is not None:
        (place / file).write_bytes(content.replace(b"BASE", str(tmp_path / "base").encode()))
    with pytest.raises(PolicyError) as caught:
        load(place)
    assert "\n" not in str(caught.value)


def test_the_folder_that_peft_writes_is_enough(tmp_path):
    place = _adapter_without_config(tmp_path)
    for file in place.glob("tokenizer*"):
        file.unlink()
    policy = load(place)
    assert len(policy.tokenizer) == len(toy_tokenizer())


def test_the_tokenizer_next_to_an_adapter_is_its_tokenizer(tmp_path):
    place = _adapter("LoraConfig", **LINEAR)(tmp_path)
    edit(place / "tokenizer_config.json", eos_token="<pad>")
    assert load(place).tokenizer.eos_token == "<pad>"
