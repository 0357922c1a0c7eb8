"""The fast kernels are the plain modules but for rounding, in values and in every derivative."""

import copy
from types import SimpleNamespace

import pytest
import torch
from fixtures.policies import ragged_prompts, tiny_policy
from fixtures.toy import tiny_causal
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.speedups import kernels as fast
from lmrl_bench.speedups.kernels import (
    FastConv1D,
    FastGELU,
    FastLinear,
    linear,
    packed_weights,
    use_fast_kernels,
)

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no such kernel"
)
SHAPES = [(7, 33, 16, 40), (1, 64, 96, 24)]


@pytest.fixture(autouse=True)
def every_size_and_processor(monkeypatch):
    """The kernel is right, if not always faster, where it is not chosen."""
    monkeypatch.setattr(fast, "SMALLEST", 0)
    monkeypatch.setattr(fast, "_available", lambda: True)


def operands(rows, length, width, outputs):
    rng = torch.Generator().manual_seed(rows)
    shapes = [(rows, length, width), (outputs, width), (outputs,)]
    return [torch.randn(shape, generator=rng).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_both_derivatives_are_torchs(shape):
    results = []
    for function in (linear, F.linear):
        inputs = operands(*shape)
        output = function(*inputs)
        first = torch.autograd.grad(output.tanh().square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), inputs)
        with torch.no_grad():
            results.append((function(*inputs), output, *first, *second))
    for ours, theirs in zip(*results, strict=True):
        scale = float(theirs.detach().abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("moving", [(0, 1), (0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_forward_mode_is_torchs(grad, moving):
    tangents = []
    for function in (linear, F.linear):
        inputs = [part.detach() for part in operands(*SHAPES[0])]
        with torch.set_grad_enabled(grad), forward_ad.dual_level():
            for place in moving:
                inputs[place] = forward_ad.make_dual(inputs[place], inputs[place].cos())
            tangents.append(forward_ad.unpack_dual(function(*inputs)).tangent)
    torch.testing.assert_close(*tangents, rtol=1e-5, atol=1e-4)


def test_other_types_and_small_products_are_torchs_own(monkeypatch):
    inputs, weight, bias = (part.detach().double() for part in operands(*SHAPES[0]))
    assert torch.equal(linear(inputs, weight, bias), F.linear(inputs, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(inputs.float(), weight.float()).dtype == torch.bfloat16
    monkeypatch.setattr(fast, "SMALLEST", 2**40)
    monkeypatch.setattr(fast, "_product", None)
    assert torch.equal(
        linear(inputs.float(), weight.float()), F.linear(inputs.float(), weight.float())
    )


class Biased(nn.Module):
    """A linear layer with a bias that reads ids."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def forward(self, ids):
        return SimpleNamespace(logits=self.layer(nn.functional.one_hot(ids, 16).float()))


@pytest.mark.parametrize("family", ["gpt2", "llama", "biased"])
def test_packed_weights_give_the_same_products_while_open_and_are_made_again(family):
    model = Biased() if family == "biased" else tiny_causal(family)
    for parameter in model.parameters():  # new models have biases of 0
        nn.init.normal_(parameter, std=0.3)
    use_fast_kernels(model)
    layers = [layer for layer in model.modules() if isinstance(layer, FastLinear | FastConv1D)]
    ids = torch.arange(12).reshape(3, 4)
    with torch.no_grad():
        for _ in range(2):
            plain = model(ids).logits
            with packed_weights([model, model]):
                assert all(layer.packed is not None for layer in layers)
                torch.testing.assert_close(model(ids).logits, plain, rtol=1e-5, atol=1e-5)
            for weight in model.parameters():
                weight.mul_(1.5)
            assert not torch.allclose(model(ids).logits, plain, atol=1e-2)
    with pytest.raises(RuntimeError, match="planted"), packed_weights([model]):
        raise RuntimeError("planted")
    assert all(layer.packed is None for layer in layers)


def test_where_gradients_are_recorded_packed_weights_are_not_used():
    layer = nn.Sequential(FastLinear(64, 64))
    with packed_weights([layer]):
        layer(torch.randn(1024, 64)).sum().backward()
    assert layer[0].weight.grad.abs().sum() > 0


def test_only_single_precision_outside_of_autocast_is_packed():
    half, whole = (nn.Sequential(nn.Linear(4, 4, dtype=t)) for t in (torch.bfloat16, torch.float32))
    for model in (half, whole):
        use_fast_kernels(model)
    with packed_weights([half]), torch.autocast("cpu", torch.bfloat16), packed_weights([whole]):
        assert half[0].packed is None
        assert whole[0].packed is None


def test_a_model_keeps_its_weights_names_and_ties():
    plain = tiny_causal("gpt2")
    model = copy.deepcopy(plain)
    use_fast_kernels(model)
    kinds = [type(module) for module in model.modules()]
    assert {FastConv1D, FastLinear, FastGELU} <= set(kinds)
    assert not {Conv1D, nn.Linear, NewGELUActivation} & set(kinds)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert FastConv1D in [type(module) for module in copy.deepcopy(model).modules()]
    before, after = plain.state_dict(), model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_a_policy_and_its_gradient_are_what_plain_layers_give(family, monkeypatch):
    prompts = ragged_prompts(6)
    rng = torch.Generator().manual_seed(0)
    completion = torch.randint(2, 40, (6, 5), generator=rng)
    found, calls, product = [], [], fast._product

    def counted(*operands):
        calls.append(len(found))
        return product(*operands)

    monkeypatch.setattr(fast, "_product", counted)
    for smallest in (0, 2**40):
        monkeypatch.setattr(fast, "SMALLEST", smallest)
        policy: LanguageModelPolicy = tiny_policy(family)
        scores = policy.score(
            TokenBatch(
                prompts.ids, prompts.mask, completion, torch.ones_like(completion, dtype=torch.bool)
            ),
            policy.make_behavior(),
        )  # fmt: skip
        (scores.logprobs + scores.entropy + scores.values).sum().backward()
        gradients = [p.grad for p in policy.model.parameters() if p.grad is not None]
        found.append((scores.logprobs, scores.entropy, torch.cat([g.flatten() for g in gradients])))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    assert calls.count(0) > 10
    assert calls.count(1) == 0


@pytest.mark.parametrize("mode", ["backward", "twice", "forward"])
def test_gelu_is_transformers_own_in_every_derivative(mode):
    results = []
    for module in (NewGELUActivation(), FastGELU()):
        inputs = torch.linspace(-6.0, 6.0, 97, dtype=torch.float64).requires_grad_()
        if mode == "forward":
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(inputs.detach(), inputs.detach().cos())
                results.append(forward_ad.unpack_dual(module(dual)))
            continue
        output = module(inputs)
        (gradient,) = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(gradient.square().sum(), inputs) if mode == "twice" else ()
        results.append((output, gradient, *second))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("masked", [None, "bool", "float"])
def test_attention_stays_float32_under_autocast(masked):
    rng = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 5, 8, generator=rng).bfloat16().requires_grad_() for _ in range(3)]
    mask = torch.ones(5, 5, dtype=torch.bool).tril() if masked else None
    if masked == "float":
        mask = torch.zeros(5, 5).masked_fill(~mask, -torch.inf).bfloat16()
    with fast.autocast(torch.device("cpu"), "bfloat16"):
        found = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
        named = dict(zip(("query", "key", "value"), inputs, strict=True))
        assert torch.equal(found, F.scaled_dot_product_attention(**named, attn_mask=mask))
        assert linear(found, torch.eye(8)).dtype == torch.bfloat16
    wide = [part.detach().float().requires_grad_() for part in inputs]
    wide_mask = mask.float() if masked == "float" else mask
    expected = F.scaled_dot_product_attention(*wide, attn_mask=wide_mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    for narrow, exact in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), wide),
        strict=True,
    ):
        assert torch.equal(narrow, exact.bfloat16())


def test_no_autocast_is_none_whatever_surrounds_it():
    weight = torch.eye(8)
    with torch.autocast("cpu", torch.bfloat16), fast.autocast(torch.device("cpu"), "none"):
        assert F.linear(weight, weight).dtype == torch.float32
