"""Weights that the library would drop, convert or leave out without a word."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from fixtures.checkpoints import WEIGHTS, edit, write
from fixtures.families import build
from fixtures.toy import toy_tokenizer
from safetensors.torch import load_file, save_file
from torch import nn

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models.checkpoint import POLICY, load_checkpoint
from lmrl_bench.policies.policy import LanguageModelPolicy

LIMITS = {"max_prompt_tokens": 8, "max_completion_tokens": 8}
NORM = "model.norm.weight"


def load(folder, **options):
    return LanguageModelPolicy.load(str(folder), **LIMITS, **options)


def rewrite(file, metadata=None, **changes):
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    save_file(tensors | changes, file, metadata=metadata or {"format": "pt"})


def sharded(folder):
    build("LlamaForCausalLM", {}).save_pretrained(folder, max_shard_size="20KB")
    toy_tokenizer().save_pretrained(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    return folder, index


def test_a_weight_with_and_without_the_prefix_of_the_trunk(tmp_path):
    write(tmp_path)
    rewrite(tmp_path / WEIGHTS, **{"norm.weight": torch.full((32,), 7.0)})
    with pytest.raises(
        PolicyError, match=r"two weights for the same parameter: '.*norm.weight' in model"
    ):
        load(tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_weight_in_two_shards(tmp_path, suffix):
    folder, index = sharded(tmp_path)
    other = next(file for file in sorted(set(index.values())) if file != index[NORM])
    rewrite(folder / other, **{NORM: torch.full((32,), 7.0)})
    if suffix == "bin":
        for file in set(index.values()):
            torch.save(load_file(folder / file), folder / file.replace("safetensors", "bin"))
            (folder / file).unlink()
        names = {name: file.replace("safetensors", "bin") for name, file in index.items()}
        (folder / "model.safetensors.index.json").unlink()
        place = folder / "pytorch_model.bin.index.json"
        place.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    with pytest.raises(
        PolicyError, match=rf"two weights for the same parameter.*'{NORM}' in model-"
    ):
        load(folder)


def test_a_weight_stored_as_whole_numbers(tmp_path):
    write(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    rewrite(tmp_path / WEIGHTS, **{name: torch.ones(64, 32, dtype=torch.int8)})
    with pytest.raises(PolicyError, match=rf"'{name}' as integers"):
        load(tmp_path)


def test_weights_stored_in_eight_bits_of_floating_point_are_read(tmp_path):
    write(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    stored = torch.ones(64, 32).to(torch.float8_e4m3fn)
    rewrite(tmp_path / WEIGHTS, **{name: stored})
    loaded = load_checkpoint(str(tmp_path), POLICY).model.get_parameter(name)
    assert torch.equal(loaded, torch.ones(64, 32))


def test_a_buffer_that_is_not_finite(tmp_path):
    from fixtures.families import BART

    build("BartForConditionalGeneration", BART).save_pretrained(tmp_path)
    toy_tokenizer(append_eos=True).save_pretrained(tmp_path)
    rewrite(tmp_path / WEIGHTS, final_logits_bias=torch.full((1, 48), torch.nan))
    with pytest.raises(PolicyError, match=r"not finite, such as 'final_logits_bias'"):
        load_checkpoint(str(tmp_path), POLICY)


@pytest.fixture(scope="module")
def critics(tmp_path_factory):
    """A policy with a trained critic on a trunk of its own, and one on the policy's."""
    place = tmp_path_factory.mktemp("critics")
    write(place / "start")
    for mode in ("separate", "shared"):
        policy = load(place / "start", value_trunk=mode)
        nn.init.normal_(policy.critic.value_head.weight)
        policy.save(place / mode)
    return place


@pytest.mark.parametrize("mode", ["separate", "shared", "frozen"])
def test_a_trunk_without_its_head(critics, tmp_path, mode):
    folder = shutil.copytree(critics / "separate", tmp_path / "policy")
    (folder / "value_head.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"trunk \(value_trunk\) without its head"):
        load(folder, value_trunk=mode)


def test_a_head_without_its_trunk(critics, tmp_path):
    folder = shutil.copytree(critics / "separate", tmp_path / "policy")
    shutil.rmtree(folder / "value_trunk")
    with pytest.raises(PolicyError, match=r"without the trunk it was trained on"):
        load(folder, value_trunk="separate")


@pytest.mark.parametrize(
    ("setting", "value"), [("hidden_act", "relu"), ("rms_norm_eps", 0.5), ("model_type", "mistral")]
)
def test_a_trunk_that_computes_otherwise(critics, tmp_path, setting, value):
    folder = shutil.copytree(critics / "separate", tmp_path / "policy")
    edit(folder / "value_trunk" / "config.json", **{setting: value})
    with pytest.raises(PolicyError, match=setting):
        load(folder, value_trunk="separate")


def test_a_trunk_whose_settings_differ_in_nothing_that_counts(critics, tmp_path):
    folder = shutil.copytree(critics / "separate", tmp_path / "policy")
    edit(folder / "value_trunk" / "config.json", attention_dropout=0.3, eos_token_id=5)
    load(folder, value_trunk="separate")


def test_a_value_head_that_is_not_finite(critics, tmp_path):
    folder = shutil.copytree(critics / "shared", tmp_path / "policy")
    broken = torch.full((1, 32), torch.nan)
    rewrite(folder / "value_head.safetensors", metadata={"trunk": "policy's"}, weight=broken)
    with pytest.raises(PolicyError, match=r"value head .* not finite, such as 'weight'"):
        load(folder)
