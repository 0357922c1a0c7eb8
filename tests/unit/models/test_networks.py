from types import SimpleNamespace

import pytest
import torch
import transformers
from fixtures.policies import FAMILIES, tiny_model, tiny_policy

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models import probe
from lmrl_bench.models.causal import CausalNetwork
from lmrl_bench.models.networks import distinct_prompts
from lmrl_bench.models.probe import check_network
from lmrl_bench.models.seq2seq import Seq2SeqNetwork

COMMON = {
    "vocab_size": 45, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 1,
}  # fmt: skip
OTHERS = {  # learned positions with an offset, alibi, sliding windows, capped logits, scaled logits
    "OPT": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(ffn_dim=64, word_embed_proj_dim=16, **COMMON)
    ),
    "Bloom": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(vocab_size=45, hidden_size=32, n_layer=2, n_head=4)
    ),
    "Mistral": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(num_key_value_heads=2, sliding_window=4, **COMMON)
    ),
    "Gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(
            head_dim=8, num_key_value_heads=2, initializer_range=0.5, sliding_window=4, **COMMON
        )
    ),
    "Granite": lambda: transformers.GraniteForCausalLM(
        transformers.GraniteConfig(num_key_value_heads=2, logits_scaling=3.0, **COMMON)
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_are_scored_as_they_decode(name):
    torch.manual_seed(0)
    check_network(CausalNetwork(OTHERS[name]().eval(), 0))


def test_capped_logits_are_capped():
    torch.manual_seed(0)
    network = CausalNetwork(OTHERS["Gemma2"]().eval(), 0)
    assert network.logits(1000 * torch.randn(3, 32)).abs().max() <= 30.0


def test_an_encoder_is_refused():
    model = transformers.BertLMHeadModel(transformers.BertConfig(**COMMON)).eval()
    with pytest.raises(PolicyError, match="key-value cache"):
        check_network(CausalNetwork(model, 0))


class RenamedCache(transformers.LlamaForCausalLM):
    """A model that calls its key-value cache `cache`, in what it takes and in what it returns."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, cache=None, **more):
        given = {"attention_mask": attention_mask, "position_ids": position_ids}
        output = super().forward(input_ids=input_ids, past_key_values=cache, **given, **more)
        return SimpleNamespace(logits=output.logits, cache=output.past_key_values)


def test_a_model_that_calls_its_cache_otherwise_decodes_the_same():
    model = tiny_model("llama")
    ids = torch.randint(3, 45, (3, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) >= torch.tensor([[0], [2], [5]])
    renamed = RenamedCache(model.config).eval()
    renamed.load_state_dict(model.state_dict())
    check_network(CausalNetwork(renamed, 0))
    found = []
    for which in (model, renamed):
        decoder = CausalNetwork(which, 0).decoder(ids, mask, 2)
        decoder.keep(torch.tensor([2, 0, 1]))
        decoder.advance(ids[:, 0])
        found.append(decoder.logits)
    assert torch.equal(*found)


def test_weights_that_are_not_finite_are_refused():
    model = tiny_model("gpt2")
    model.transformer.h[0].mlp.c_fc.weight.data[0, 0] = torch.nan
    with pytest.raises(PolicyError, match="finite weights"):
        check_network(CausalNetwork(model, 0))


@pytest.mark.parametrize(
    ("family", "where"), [("gpt2", "a batch of repeated prompts"), ("bart", "a padded batch")]
)
def test_the_probe_sees_shifted_positions(family, where, monkeypatch):
    """The classic defect: left padding that shifts learned positions."""
    network = tiny_policy(family).network
    check_network(network)
    if family == "gpt2":
        network._takes_positions = False
    else:
        monkeypatch.setattr(
            "lmrl_bench.models.seq2seq._padded_right", lambda ids, mask: (ids, mask)
        )
    with pytest.raises(PolicyError, match=where):
        check_network(network)


@pytest.mark.parametrize(
    ("length", "where"), [(3, "a batch of repeated prompts"), (1, "decoding with a cache")]
)
def test_the_probe_sees_positions_that_shift_behind_a_cache(length, where, monkeypatch):
    """Whole completions behind the prompt that they share, and single tokens while sampling."""
    inputs = CausalNetwork.inputs

    def shifted(self, ids, mask):
        found = inputs(self, ids, mask)
        if ids.shape[1] == length:
            found["position_ids"] = found["position_ids"] + 1
        return found

    monkeypatch.setattr(CausalNetwork, "inputs", shifted)
    with pytest.raises(PolicyError, match=where):
        check_network(tiny_policy("llama").network)


def test_the_probe_is_strict_enough():
    assert probe.TOLERANCE <= 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_states_after_each_token(family):
    network = tiny_policy(family).network
    ids = torch.randint(3, 45, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    states = network.states(ids, mask, ids[:, :3])
    assert states.shape == (2, 4, network.state_size)
    shorter = network.states(ids, mask, ids[:, :0])
    torch.testing.assert_close(states[:, :1], shorter, atol=1e-5, rtol=1e-5)


def test_distinct_prompts_tells_padding_from_pad_tokens():
    ids = torch.tensor([[0, 5], [0, 5], [0, 5], [9, 5]])
    mask = torch.tensor([[True, True], [False, True], [True, True], [False, True]])
    unique, present, numbers = distinct_prompts(ids, mask, 7)
    assert len(unique) == 2
    for row in range(4):
        number = numbers[row]
        assert torch.equal(present[number], mask[row])
        assert torch.equal(unique[number][present[number]], ids[row][mask[row]])


def test_seq2seq_without_start_token_is_refused():
    model = tiny_model("t5")
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(PolicyError, match="decoder_start_token_id"):
        Seq2SeqNetwork(model, 0)
