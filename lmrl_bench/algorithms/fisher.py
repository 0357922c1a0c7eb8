"""Products of a policy's Fisher matrix with vectors, exact and without the matrix.

    F v = Σ_t w_t J_tᵀ diag(p_t) J_t v

`p_t` is the distribution of token t over the vocabulary, `J_t` the derivative of its log-probabilities in the
policy's parameters, `w_t` the token's weight. F is the Hessian of the weighted KL to the policy as it is now
(the Gauss-Newton form of Schraudolph 2002, "Fast Curvature Matrix-Vector Products for Second-Order Gradient
Descent"; for a KL at 0 it is the whole Hessian). `J v` is one forward pass in forward mode, `Jᵀ u` one backward
pass over a graph that is kept; nothing is differentiated twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

from lmrl_bench.data.episodes import Episodes
from lmrl_bench.models.scoring import twice_differentiable

Distribution = Callable[[Any], Tensor]
"""Maps episodes to log-probabilities `(N, V)` at their policy tokens, differentiable in the parameters.

Where it knows its episodes itself, it is given None.
"""


@dataclass(frozen=True)
class _Part:
    """One micro-batch: the episodes, their log-probabilities with graph, and `w p`, `(N, V)` each."""

    episodes: Episodes | None
    logprobs: Tensor
    weighted_probabilities: Tensor


class FisherProduct:
    """Maps a vector `(D,)` to `(F + c I) v`.

    The graph of one forward over all the episodes is kept as long as the object lives.

    Args:
        model: Whose parameters move the distribution.
        parameters: Which of them, in the vector's order.
        distribution: The policy's distribution.
        parts: Micro-batches (None where `distribution` knows its own) and their tokens' weights `(N,)`; over all of
            them the weights sum to 1.
        damping: c.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        distribution: Distribution,
        parts: Sequence[tuple[Episodes | None, Tensor]],
        damping: float,
    ) -> None:
        self._forward = _Forward(model, distribution)
        names = {id(parameter): name for name, parameter in self._forward.named_parameters()}
        self._parameters = {names[id(parameter)]: parameter for parameter in parameters}
        self._damping = damping
        self._parts = [self._prepared(episodes, weights) for episodes, weights in parts]

    def __call__(self, vector: Tensor) -> Tensor:
        """Returns `(F + c I) v`, `(D,)`."""
        directions = self._as_parameters(vector)
        image = self._damping * vector
        for part in self._parts:
            change = self._change(part.episodes, directions)
            cotangent = change.mul_(part.weighted_probabilities)
            gradients = torch.autograd.grad(
                part.logprobs,
                list(self._parameters.values()),
                grad_outputs=cotangent,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            image += torch.cat([gradient.reshape(-1) for gradient in gradients])
        return image

    def _prepared(self, episodes: Episodes | None, weights: Tensor) -> _Part:
        logprobs = self._forward(episodes)
        return _Part(episodes, logprobs, logprobs.detach().exp().mul_(weights.unsqueeze(1)))

    def _as_parameters(self, vector: Tensor) -> dict[str, Tensor]:
        sizes = [parameter.numel() for parameter in self._parameters.values()]
        return {
            name: piece.view_as(parameter)
            for (name, parameter), piece in zip(
                self._parameters.items(), torch.split(vector, sizes), strict=True
            )
        }

    @torch.no_grad()
    def _change(self, episodes: Episodes | None, directions: Mapping[str, Tensor]) -> Tensor:
        """Returns `J v`, `(N, V)`: how fast the log-probabilities change as the parameters move along `v`."""
        with (
            forward_ad.dual_level(),
            twice_differentiable(),
            _plain_experts(self._forward.model),
            _still_padding(self._forward),
        ):
            moving = {
                name: forward_ad.make_dual(parameter.detach(), directions[name])  # type: ignore[no-untyped-call]
                for name, parameter in self._parameters.items()
            }
            logprobs = functional_call(self._forward, moving, (episodes,))
            change: Tensor = forward_ad.unpack_dual(logprobs).tangent  # type: ignore[no-untyped-call]
        return change


@contextmanager
def _plain_experts(model: nn.Module) -> Iterator[None]:
    """Computes mixtures of experts one by one: the grouped product has no derivative in forward mode."""
    set_kind = getattr(model, "set_experts_implementation", None)
    kind = getattr(getattr(model, "config", None), "_experts_implementation", None)
    if set_kind is None or kind in (None, "eager"):
        yield
        return
    set_kind("eager")
    try:
        yield
    finally:
        set_kind(kind)


class _Forward(nn.Module):
    """The distribution as a module, so that its parameters can be exchanged for a call."""

    def __init__(self, model: nn.Module, distribution: Distribution) -> None:
        super().__init__()
        self.model = model
        self._distribution = distribution

    def forward(self, episodes: Episodes | None) -> Tensor:
        return self._distribution(episodes)


@contextmanager
def _still_padding(model: nn.Module) -> Iterator[None]:
    """Keeps the padding rows of embeddings still in forward mode, as torch does backward; else F is not symmetric."""

    def hook(module: nn.Embedding, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        padding = args[0].eq(module.padding_idx or 0).unsqueeze(-1)
        still: Tensor = forward_ad.unpack_dual(output).primal  # type: ignore[no-untyped-call]
        return torch.where(padding, still, output)

    handles = [
        module.register_forward_hook(hook)
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
