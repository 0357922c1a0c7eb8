from contextlib import nullcontext

import pytest
import torch
import transformers
from fixtures.policies import tiny_model
from torch import nn

from lmrl_bench.models.causal import CausalNetwork
from lmrl_bench.speedups.narrowing import last_feed_forward, narrowed

CAUSAL = ("gpt2", "llama")


def ragged_rows():
    ids = torch.randint(3, 45, (4, 9), generator=torch.Generator().manual_seed(0))
    return ids, torch.arange(9) >= torch.tensor([[0], [1], [2], [4]]), ids[:, :6]


def columns_read(network):
    """Returns a list that collects how many columns the last block's feed-forward layer reads."""
    seen = []
    layer = last_feed_forward(network.model)
    first = layer.c_fc if hasattr(layer, "c_fc") else layer.up_proj
    first.register_forward_hook(lambda _layer, args, _output: seen.append(args[0].shape[1]))
    return seen


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("repeated", [False, True], ids=["distinct", "repeated"])
def test_states_and_gradients_are_those_of_whole_layers(family, repeated, monkeypatch):
    network = CausalNetwork(tiny_model(family), 0)
    ids, mask, completions = ragged_rows()
    if repeated:
        ids, mask = ids[[0, 0, 1, 1]], mask[[0, 0, 1, 1]]
    found = []
    for _ in range(2):
        network.model.zero_grad()
        states = network.states(ids, mask, completions)
        states.square().sum().backward()
        gradients = [parameter.grad for parameter in network.model.parameters()]
        found.append([states.detach(), *(one for one in gradients if one is not None)])
        whole = lambda _layer, _start: nullcontext()  # noqa: E731
        monkeypatch.setattr("lmrl_bench.models.causal.narrowed", whole)
    for narrow, plain in zip(*found, strict=True):
        torch.testing.assert_close(narrow, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", CAUSAL)
def test_the_last_layer_reads_no_more_of_prompts_than_their_ends(family):
    network = CausalNetwork(tiny_model(family), 0)
    ids, mask, completions = ragged_rows()
    seen = columns_read(network)
    network.states(ids, mask, completions)
    assert seen == [9 + 6 - (5 - 1)]  # the shortest prompt has five tokens
    seen.clear()
    network.states(ids[[0, 0]], mask[[0, 0]], completions[:2])
    assert seen == [1, 6]
    seen.clear()
    network.decoder(ids, mask, 1).advance(ids[:, 0])
    assert seen == [1, 1]


class LooksBack(nn.Module):
    """A feed-forward layer that adds the token before."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden):
        return self.inner(hidden + 9 * hidden.roll(1, dims=1))


def test_layers_that_look_back_are_left_whole():
    model = tiny_model("llama")
    model.model.layers[-1].mlp = LooksBack(model.model.layers[-1].mlp)
    assert CausalNetwork(model, 0)._feed_forward is None


SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 45}


@pytest.mark.parametrize(
    "model",
    [
        transformers.BloomForCausalLM(transformers.BloomConfig(**SHAPE)),  # takes the residual too
        transformers.GptOssForCausalLM(  # returns what its router says too
            transformers.GptOssConfig(
                num_local_experts=4, num_key_value_heads=2, head_dim=8, pad_token_id=0, **SHAPE
            )
        ),
    ],
    ids=lambda model: type(model).__name__,
)
def test_layers_of_other_shapes_are_left_whole(model):
    assert last_feed_forward(model) is not None
    assert CausalNetwork(model.eval(), 0)._feed_forward is None


def test_models_with_several_lists_of_blocks_are_left_whole():
    model = tiny_model("llama")
    model.more = nn.ModuleList([model.model.layers[-1]])
    assert last_feed_forward(model) is None
    assert last_feed_forward(tiny_model("t5")) is None


def test_blocks_that_are_computed_twice_are_left_whole():
    network = CausalNetwork(tiny_model("llama"), 0)
    network.model.gradient_checkpointing_enable({"use_reentrant": False})
    network.model.train()  # Transformers does it in training mode only
    network.states(*ragged_rows()).square().sum().backward()
    assert network.head.weight.grad is None
    assert network.model.get_input_embeddings().weight.grad is not None


def test_hooks_go_when_a_forward_fails():
    layer = nn.Linear(3, 3)
    with pytest.raises(RuntimeError), narrowed(layer, 1):
        layer(torch.zeros(1, 2, 4))
    assert layer(torch.ones(1, 2, 3)).shape == (1, 2, 3)
    assert not layer._forward_pre_hooks
    assert not layer._forward_hooks
