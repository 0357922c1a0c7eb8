"""Faster kernels for modules of Transformers; results and derivatives differ only by rounding.

Linear layers on CPUs: torch calls MKL, which does not use AVX-512 on processors of other vendors.
oneDNN, which is part of torch, does; it is faster except for the weight's gradient, where it copies
a factor first. It reads weights in its own layout, which is cached while completions are decoded.

Tanh-approximated GELU (GPT-2, T5): Transformers uses eight operations, torch has a single one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from lmrl_bench.speedups import speedups_on

SMALLEST = 2**21
"""Number of multiplications above which the faster kernel outweighs its longer call."""


def use_fast_kernels(model: nn.Module) -> None:
    """Switches the modules of a model to the faster kernels, in place.

    Weights, names and the output of `save_pretrained` do not change. Without oneDNN or AVX-512 the
    linear layers are left alone.
    """
    if not speedups_on():
        return
    faster: dict[type, type] = {NewGELUActivation: FastGELU}
    if _available():
        faster |= {nn.Linear: FastLinear, Conv1D: FastConv1D}
    # Changing the class keeps weights, their ties, hooks and state-dict names; wrapping would rename
    # them. Exact types only, because a subclass (PEFT's, a parametrization's) has its own forward.
    for module in model.modules():
        module.__class__ = faster.get(type(module), type(module))


class FastGELU(NewGELUActivation):
    """Tanh-approximated GELU in one operation."""

    def forward(self, input: Tensor) -> Tensor:
        """See `NewGELUActivation.forward`."""
        return nn.functional.gelu(input, approximate="tanh")


class FastLinear(nn.Linear):
    """`nn.Linear` computed by `linear`."""

    packed: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """See `nn.Linear.forward`."""
        # A parametrization changes the class and computes another weight than the packed one.
        if self.packed is not None and type(self) is FastLinear and not _is_recorded():
            return _product(input, self.packed, self.bias)
        return linear(input, self.weight, self.bias)


class FastConv1D(Conv1D):
    """The linear layer of GPT-2, whose weight is stored transposed."""

    packed: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """See `Conv1D.forward`."""
        if self.packed is not None and type(self) is FastConv1D and not _is_recorded():
            return _product(input, self.packed, self.bias)
        return linear(input, self.weight.t(), self.bias)


@contextmanager
def packed_weights(models: Iterable[nn.Module]) -> Iterator[None]:
    """Caches a copy of the fast layers' weights in oneDNN's layout, inside the context.

    Products of few rows, whose time is dominated by reading the weights, become 1.2 to 1.8 times as
    fast. The weights must not change meanwhile. The copy is not used when gradients are recorded,
    nor for parametrized weights, which give the layer another class (PEFT's `target_parameters`).
    """
    layers = {
        layer: layer.weight if isinstance(layer, FastLinear) else layer.weight.t()
        for model in models
        for layer in model.modules()
        if isinstance(layer, FastLinear | FastConv1D) and _is_plain(layer.weight)
    }
    try:
        for layer, weight in layers.items():
            # A private operation of torch, the one that torch.compile's freezing uses; `_available`
            # asks for it by name, so that a version without it takes the plain path.
            layer.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        yield
    finally:
        for layer in layers:
            layer.packed = None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns `input weightᵀ + bias`, `(..., N)`.

    Differentiable any number of times with autograd, and in forward mode; not with `torch.func`.

    Args:
        input: `(..., K)`.
        weight: `(N, K)`.
        bias: `(N,)`.
    """
    if not _is_for_onednn(input, weight):
        return nn.functional.linear(input, weight, bias)
    if _is_recorded():
        product: Tensor = _Product.apply(input, weight, bias)  # type: ignore[no-untyped-call]
        return product
    return _product(input, weight, bias)


Autocast = Literal["none", "bfloat16"]
"""Precision of training forwards; weights, sums, losses and, on CPUs, attention stay float32."""


@contextmanager
def autocast(device: torch.device, precision: Autocast) -> Iterator[None]:
    """Makes forward passes inside the context use the given precision for products.

    On processors without bfloat16 instructions it is ten times slower than float32.
    """
    on = precision == "bfloat16"
    attention = _Float32Attention() if on and device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=on), attention:
        yield


class _Float32Attention(TorchFunctionMode):
    """Attention on CPUs in float32: torch's backward kernel is three times slower in bfloat16."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **named)
        with torch.autocast("cpu", enabled=False):
            wide = {name: _widened(value) for name, value in named.items()}
            return func(*map(_widened, args), **wide)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _available() -> bool:
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def _is_recorded() -> bool:
    """Returns whether a derivative may be requested."""
    # torch has no public way to ask for an open level of forward differentiation.
    return torch.is_grad_enabled() or forward_ad._current_level >= 0


def _is_for_onednn(input: Tensor, weight: Tensor) -> bool:
    # float32 only: under autocast torch calls oneDNN's bfloat16 kernels by itself.
    large = input.numel() * len(weight) >= SMALLEST
    return large and input.dtype == torch.float32 and _is_plain(weight)


def _is_plain(weight: Tensor) -> bool:
    """Returns whether products with the weight are computed in float32 on a CPU."""
    here = weight.device.type == "cpu" and weight.dtype == torch.float32
    return here and not torch.is_autocast_enabled("cpu")


def _product(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(input, weight, bias, "none", [], "")
    return result


class _Product(torch.autograd.Function):
    """`input weightᵀ + bias`; bilinear up to the bias, so its derivatives are such products."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # For backward, and for the forward differentiation of TRPO's Fisher products.
        ctx.save_for_backward(input, weight)
        ctx.save_for_forward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        of_input = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_input = linear(gradient, weight.t())
        if ctx.needs_input_grad[1]:
            # Both factors are transposed, which MKL takes directly and oneDNN would copy first.
            of_weight = gradient.flatten(0, -2).t() @ input.flatten(0, -2)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.flatten(0, -2).sum(dim=0)
        return of_input, of_weight, of_bias

    @staticmethod
    def jvp(
        ctx: Any,
        input_tangent: Tensor | None,
        weight_tangent: Tensor | None,
        bias_tangent: Tensor | None,
    ) -> Tensor:
        input, weight = ctx.saved_tensors
        factors = ((input_tangent, weight), (input, weight_tangent))
        parts = [linear(a, b) for a, b in factors if a is not None and b is not None]
        if not parts:
            assert bias_tangent is not None
            return bias_tangent.repeat(*input.shape[:-1], 1)
        tangent = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return tangent if bias_tangent is None else tangent + bias_tangent
