"""The shipped nano policies load offline, in float32, with the tokenizers and ties they claim."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

import lmrl_bench.policies

WEIGHTS = Path(lmrl_bench.policies.__file__).parent / "weights"
NAMES = ("nano-causal", "nano-seq2seq")


@pytest.fixture(scope="module")
def loaded():
    """Load both policies as a user would: no options, no network."""
    torch.manual_seed(0)
    loaders = {"nano-causal": AutoModelForCausalLM, "nano-seq2seq": AutoModelForSeq2SeqLM}
    return {
        name: (
            loaders[name].from_pretrained(WEIGHTS / name),
            AutoTokenizer.from_pretrained(WEIGHTS / name),
        )
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_weights_load_as_float32(name, loaded):
    model, _ = loaded[name]
    state = model.state_dict()
    with safe_open(WEIGHTS / name / "model.safetensors", "pt") as stored:
        assert "lm_head.weight" not in stored.keys(), "the tied weight is stored once"  # noqa: SIM118
        for key in stored.keys():  # noqa: SIM118 - the handle is not a mapping
            tensor = stored.get_tensor(key)
            assert tensor.dtype == torch.float16
            assert torch.equal(state[key], tensor.float()), key
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_tied_as_the_configuration_says(name, loaded):
    model, tokenizer = loaded[name]
    assert model.config.tie_word_embeddings is True
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(max_size=60))
def test_tokenizer_gives_any_text_back(name, loaded, text):
    _, tokenizer = loaded[name]
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_are_distinct_and_known_to_the_model(name, loaded):
    model, tokenizer = loaded[name]
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<eos>")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for config in (model.config, model.generation_config):
        assert config.pad_token_id == tokenizer.pad_token_id
        assert config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.model_max_length == 128


def test_only_the_seq2seq_tokenizer_ends_texts(loaded):
    _, causal = loaded["nano-causal"]
    _, seq2seq = loaded["nano-seq2seq"]
    assert causal.eos_token_id not in causal("A film.")["input_ids"]
    assert seq2seq("A file.")["input_ids"][-1] == seq2seq.eos_token_id
    assert causal.padding_side == "left"
    assert seq2seq.padding_side == "right"


@pytest.mark.parametrize("name", NAMES)
def test_no_sampling_settings_are_shipped(name):
    settings = json.loads((WEIGHTS / name / "generation_config.json").read_text())
    assert not set(settings) & {"do_sample", "temperature", "top_k", "top_p", "max_length"}


@pytest.mark.parametrize("name", NAMES)
def test_training_log_shows_that_rounding_is_negligible(name):
    log = json.loads((WEIGHTS / name / "training.json").read_text())
    for value in log["validation"].values():
        assert value["perplexity_float16"] == pytest.approx(value["perplexity_float32"], rel=2e-3)
    assert all(data["split"] == "train" for data in log["data"].values())
    losses = [point["loss"] for point in log["loss_curve"]]
    assert losses[-1] < losses[0] - 2.0


def test_causal_policy_stops_by_itself_sometimes(loaded):
    model, tokenizer = loaded["nano-causal"]
    torch.manual_seed(0)
    prompt = tokenizer(["I recommend this film."] * 48, return_tensors="pt")
    ids = model.generate(**prompt, do_sample=True, top_k=0, max_new_tokens=24)
    stopped = (ids[:, prompt["input_ids"].shape[1] :] == tokenizer.eos_token_id).any(dim=1)
    assert 0 < int(stopped.sum()) < 48


def test_seq2seq_policy_fills_spans_and_stops(loaded):
    model, tokenizer = loaded["nano-seq2seq"]
    torch.manual_seed(0)
    prompt = tokenizer(["Click the<extra_id_0> to save the file."] * 24, return_tensors="pt")
    ids = model.generate(**prompt, do_sample=True, top_k=0, max_new_tokens=24)
    assert (ids == tokenizer.eos_token_id).any()
    first_sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    assert (ids[:, 1] == first_sentinel).float().mean() > 0.9


def test_causal_policy_prefers_english_to_shuffled_words(loaded):
    model, tokenizer = loaded["nano-causal"]

    def loss(text):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return float(model(input_ids=ids, labels=ids).loss)

    plain = loss("This is one of the best movies I have ever seen, and the acting is great.")
    shuffled = loss("movies the acting one of great. best seen, is This is ever the I have and")
    assert plain < shuffled - 1.0
    assert plain < math.log(4_096)


def test_both_policies_fit_in_the_wheel():
    size = sum(path.stat().st_size for name in NAMES for path in (WEIGHTS / name).iterdir())
    assert size <= 20_000_000
