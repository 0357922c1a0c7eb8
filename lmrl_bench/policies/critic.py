"""Critics: what estimates the return that is still to come, from the state before each token."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lmrl_bench.data.episodes import Episodes, TokenBatch
from lmrl_bench.models.networks import Network
from lmrl_bench.models.scoring import (
    MICRO_BATCH_TOKENS,
    chosen_states,
    gather_rows,
    place,
)
from lmrl_bench.models.storage import (
    ValueTrunk,
    read_value_head,
    read_value_trunk,
    write_value_head,
)


def value_error(
    values: Tensor,
    returns: Tensor,
    rollout_values: Tensor | None = None,
    clip_range: float | None = None,
) -> Tensor:
    """Returns the squared error of value predictions per token, `(V − R)²`.

    With `clip_range`, V is first kept within that distance of the estimate made at rollout time, as
    Stable-Baselines3 does (OpenAI's code takes the maximum of the clipped and the unclipped error instead).
    """
    if clip_range is not None:
        if rollout_values is None:
            raise ValueError("clipping the value needs the rollout's values")
        values = rollout_values + (values - rollout_values).clamp(-clip_range, clip_range)
    return (values - returns).square()


class Critic(nn.Module, ABC):
    """Estimates returns; its parameters are trained with the policy and saved next to it.

    A new critic writes `values`, `final_values`, `save` and `restore`, and its own `loss` where it is not the squared
    error of the returns.

    Attributes:
        reads_policy_states: Whether the value of a token is a function of the policy's state before it
            (`state_values`). Then values cost no forward of their own, neither in rollouts nor in updates.
    """

    reads_policy_states: bool = False

    @abstractmethod
    def values(self, tokens: TokenBatch) -> Tensor:
        """Returns the values `(B, T)` of the states before the tokens, 0 where the policy chose nothing."""

    @abstractmethod
    def final_values(self, tokens: TokenBatch) -> Tensor:
        """Returns the values `(B,)` of the states after the last tokens."""

    def state_values(self, states: Tensor) -> Tensor:
        """Returns the values `(N,)` of the policy's states `(N, D)`; only of critics that read them."""
        raise NotImplementedError(f"{type(self).__name__} does not read the policy's states")

    def loss(
        self, episodes: Episodes, values: Tensor | None = None, clip_range: float | None = None
    ) -> Tensor:
        """Returns the loss of each token, `(B, T)`, differentiable in the critic's parameters.

        Args:
            episodes: `B` episodes with their returns and rollout-time values.
            values: `(B, T)`, predictions that the policy's own forward already gave; a critic that does not read
                the policy's states is given None and runs a forward of its own.
            clip_range: Clip value predictions to this distance from the rollout's.
        """
        if values is None:
            values = self.values(episodes.tokens)
        return value_error(values, episodes.returns, episodes.values, clip_range)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the critic into the folder of a policy."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Reads what `save` wrote; a folder without a critic leaves it untrained."""


class ValueHead(Critic):
    """A linear value head on a language model's trunk: the policy's own, or a copy of it.

    Parameters have "value" in their names: sb3-contrib's TRPO tells actor and critic apart by that.

    Args:
        network: The policy's network.
        trunk: Where the head sits: on the policy's trunk ("shared"), on the same trunk without sending
            gradients into it ("frozen"), or on a copy of the model ("separate").

    Attributes:
        value_head: `D` to 1, zero at the start.
        value_trunk: The separate trunk, or None.
        trunk: As given.
    """

    def __init__(self, network: Network, trunk: ValueTrunk) -> None:
        super().__init__()
        self.trunk: ValueTrunk = trunk
        self.reads_policy_states = trunk != "separate"
        self.value_head = nn.Linear(network.state_size, 1)
        # Zero, so that the first advantages are the returns themselves, not noise of a random head.
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.value_trunk: PreTrainedModel | None = None
        self._network = network
        if trunk == "separate":
            self._network = copy.deepcopy(network)
            self.value_trunk = self._network.model

    def state_values(self, states: Tensor) -> Tensor:
        """Returns the values `(N,)` of states `(N, D)` of the critic's trunk."""
        states = states.detach() if self.trunk == "frozen" else states
        # One unit of output: bfloat16 would save nothing and cost the value its precision.
        with torch.autocast(states.device.type, enabled=False):
            values: Tensor = self.value_head(states.float()).squeeze(-1)
        return values

    def values(self, tokens: TokenBatch) -> Tensor:
        """Returns the values `(B, T)` of the states before the tokens, on their device."""
        here = tokens.to(self.value_head.weight.device)
        if torch.is_grad_enabled():
            order = [torch.arange(len(here), device=here.completion_ids.device)]
        else:
            order = here.micro_batches(MICRO_BATCH_TOKENS)
        parts = []
        for index in order:
            part = here.select(index)
            found = self.state_values(chosen_states(self._network, part))
            parts.append(place(found, part.completion_mask))
        whole = gather_rows(parts, order, tokens.completion_mask.shape)
        return whole.to(tokens.completion_ids.device)

    def final_values(self, tokens: TokenBatch) -> Tensor:
        """Returns the values `(B,)` of the states after the last tokens, on their device."""
        here = tokens.to(self.value_head.weight.device)
        result = torch.zeros(len(here), device=here.completion_ids.device)
        for index in here.micro_batches(MICRO_BATCH_TOKENS):
            part = here.select(index)
            states = self._network.states(part.prompt_ids, part.prompt_mask, part.completion_ids)
            last = states[torch.arange(len(part)), part.lengths]
            result = result.index_copy(0, index.to(result.device), self.state_values(last))
        return result.to(tokens.completion_ids.device)

    def save(self, folder: Path) -> None:
        """Writes head and trunk into the policy's folder."""
        write_value_head(folder, self.value_head, self.trunk, self.value_trunk)

    def restore(self, folder: Path) -> None:
        """Reads head and trunk from a folder that `save` wrote; other folders leave them untrained."""
        read_value_head(folder, self.trunk, self.value_head)
        if self.value_trunk is not None:
            read_value_trunk(folder, self.value_trunk)
