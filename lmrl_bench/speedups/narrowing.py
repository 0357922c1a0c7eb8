"""Skips the last block's feed-forward layer where its output is not used.

Its output for prompt tokens is never read: later tokens attend to the block's input, and only
states before completion tokens go into the output layer. The layer has two thirds of a block's
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lmrl_bench.speedups import speedups_on


def last_feed_forward(model: nn.Module) -> nn.Module | None:
    """Returns the `mlp` of the last block.

    None if there is none, if there are several lists of blocks, and with speedups off.
    """
    if not speedups_on():
        return None
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    found = [getattr(blocks[-1], "mlp", None) for blocks in lists if len(blocks)]
    layers = [layer for layer in found if isinstance(layer, nn.Module)]
    return layers[0] if len(layers) == 1 else None


@contextmanager
def narrowed(layer: nn.Module | None, start: int) -> Iterator[None]:
    """Makes a layer on `(B, L, D)` skip columns before `start`, where it returns zeros."""
    if layer is None or start <= 0:
        yield
        return

    # Two hooks, before and after the layer, so that the model's own forward stays untouched.
    def cut(_layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][:, start:].contiguous(),)

    def widen(_layer: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return pad(output, (0, 0, start, 0))

    handles = [layer.register_forward_pre_hook(cut), layer.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def is_narrowable(layer: nn.Module, states: Callable[[int], Tensor]) -> bool:
    """Returns whether narrowing the layer leaves all relevant states unchanged.

    Args:
        layer: Any module of a model.
        states: Runs the model on a few tokens, with the layer narrowed to the columns from the
            argument on, and returns the states `(B, L, D)`.
    """
    suits = []

    def note(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        one = len(args) == 1 and not kwargs and isinstance(output, Tensor)
        suits.append(one and args[0].ndim == 3 and args[0].shape == output.shape)

    handle = layer.register_forward_hook(note, with_kwargs=True)
    try:
        plain = states(0)
    finally:
        handle.remove()
    # The first column is cut off in the second run, so it may differ.
    return suits == [True] and torch.allclose(plain[:, 1:], states(1)[:, 1:], rtol=1e-3, atol=1e-4)
