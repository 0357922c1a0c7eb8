"""The actor-critic policy: a Hugging Face language model with a value head.

It scores whole episodes at once, which is what the algorithms of this package use; what
Stable-Baselines3 needs, one token a step, is in `TokenPolicy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from lmrl_bench.config.run import AdapterConfig
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models.adapter import add_adapter, has_adapter, without_adapter
from lmrl_bench.models.behaviour import Behaviour
from lmrl_bench.models.networks import Kind, Network
from lmrl_bench.models.scoring import (
    Rows,
    TokenScores,
    chosen_states,
    gather_rows,
    place,
    score_tokens,
)
from lmrl_bench.models.storage import ValueTrunk, output_width, read_model, write_policy
from lmrl_bench.policies.spaces import token_space
from lmrl_bench.policies.token_policy import TokenPolicy

__all__ = ["LanguageModelPolicy", "TokenScores", "token_space"]


class LanguageModelPolicy(TokenPolicy):
    """A language model that acts, with a critic and optionally a frozen reference.

    Made by `load` from a name, or by Stable-Baselines3 from `policy_kwargs`, which are the
    arguments of `TokenPolicy`.

    Attributes:
        reference: the frozen start policy, or None before `make_reference`. Not a part of the saved
            weights, and outside every optimiser.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        **options: Any,
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule, **options)
        self.reference: Network | None = None
        self._adapter_is_new = False

    @classmethod
    def load(  # type: ignore[override]
        cls,
        model: str,
        *,
        revision: str | None = None,
        value_trunk: ValueTrunk = "shared",
        max_prompt_tokens: int,
        max_response_tokens: int,
        adapter: AdapterConfig | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Loads a policy by name, for prompts and responses of at most so many tokens.

        Args:
            model: A shipped policy, an asset, a folder (also one that `save` wrote), or a hub id.
            revision: Commit of a hub id.
            value_trunk: See the class.
            max_prompt_tokens: The task's limit.
            max_response_tokens: The task's limit.
            adapter: Freeze the model and train a new adapter on it.
            device: Where the policy is put.

        Returns:
            The policy. Its `optimizer` has learning rate 0: the algorithm makes its own.

        Raises:
            AssetError: The asset is not installed.
            PolicyError: The model does not exist, is not scored as it decodes, does not fit its
                tokenizer or the adapter, or has too few positions.
        """
        loaded, tokenizer, folder = read_model(model, revision)
        if adapter is not None:
            add_adapter(loaded, adapter)
        if has_adapter(loaded) and value_trunk == "separate":
            raise PolicyError(
                "a policy with an adapter shares its frozen trunk; use policy.value_trunk=shared or frozen"
            )
        width = output_width(loaded)
        policy = cls(
            token_space(max_prompt_tokens, max_response_tokens, width),
            spaces.Discrete(width),
            lambda _progress: 0.0,
            model=loaded,
            tokenizer=tokenizer,
            value_trunk=value_trunk,
        )
        policy._adapter_is_new = adapter is not None
        if folder is not None:
            policy._restore_critic(folder)
        return policy.to(device)

    def save(self, folder: str | Path) -> None:
        """Writes a folder that `load` restores bit for bit, and that `from_pretrained` reads too.

        The reference is left out.
        """
        write_policy(
            Path(folder),
            self.model,
            self.tokenizer,
            self.value_head,
            self.value_mode,
            self.value_trunk,
        )

    @property
    def kind(self) -> Kind:
        """The family of the model."""
        return self.network.kind

    def require_kind(self, kinds: Sequence[str], task: str) -> None:
        """Checks that the task takes this kind of policy.

        Raises:
            PolicyError: It does not.
        """
        if self.kind not in kinds:
            raise PolicyError(
                f"task '{task}' takes {' or '.join(kinds)} policies, and "
                f"'{self.model.name_or_path}' ({type(self.model).__name__}) is {self.kind}; "
                "choose another with --policy"
            )

    def make_reference(self) -> None:
        """Freezes a copy of the policy as it is now, on its device, as the reference.

        With an adapter that `load` added, which has learnt nothing yet, no copy is needed: the
        reference is the frozen base model, which is the policy without its adapter.
        """
        self.reference = self.network if self._adapter_is_new else self.network.frozen_copy()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Moves or converts the reference too, which is no submodule; behind `to`, `float` and their like."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.reference is not None and self.reference is not self.network:
            self.reference.model._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def score(
        self,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        response_ids: Tensor,
        response_mask: Tensor,
        behaviour: Behaviour,
        *,
        allowed: Tensor | None = None,
        values: bool = True,
        entropy: bool = True,
        full_logits: bool = False,
    ) -> TokenScores:
        """Scores given responses under the policy as it is now; results lie on the inputs' device.

        Without gradients, rows are read in micro-batches of like length. With gradients it is one
        forward over all rows, and memory is bounded by the caller's minibatch.

        Args:
            prompt_ids: `(B, P)` int64, padded on the left.
            prompt_mask: `(B, P)` bool.
            response_ids: `(B, T)` int64, padded on the right.
            response_mask: `(B, T)` bool, the tokens that the policy chose.
            behaviour: The distribution that acted.
            allowed: `(B, T, ceil(V / 8))` uint8, the sets that an action mask let pass when the tokens were drawn
                (`Completions.allowed`), or None for all.
            values: Whether to compute the critic's values.
            entropy: Whether to compute the entropy.
            full_logits: Whether to return the normalised logits `(N, V)`.
        """
        rows = Rows(prompt_ids, prompt_mask, response_ids, response_mask, allowed).to(self.device)
        order = self._order(rows, whole=full_logits)
        parts = [
            score_tokens(
                self.network,
                rows.select(numbers),
                behaviour,
                value=self._values if values else None,
                entropy=entropy,
                full_logits=full_logits,
            )
            for numbers in order
        ]

        def joined(name: str) -> Tensor:
            pieces = [getattr(part, name) for part in parts]
            return gather_rows(pieces, order, response_mask.shape).to(response_ids.device)

        return TokenScores(
            logprobs=joined("logprobs"),
            values=joined("values"),
            entropy=joined("entropy"),
            logits=parts[0].logits if full_logits else None,
        )

    @torch.no_grad()
    def score_reference(
        self,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        response_ids: Tensor,
        response_mask: Tensor,
        behaviour: Behaviour,
        *,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Returns the reference's log-probabilities `(B, T)`, nats, under the same behaviour.

        Arguments as in `score`.
        """
        if self.reference is None:
            raise ValueError("the policy has no reference; call make_reference() first")
        rows = Rows(prompt_ids, prompt_mask, response_ids, response_mask, allowed).to(self.device)
        order = rows.micro_batches()
        with without_adapter(self.model) if self._adapter_is_new else nullcontext():
            parts = [
                score_tokens(self.reference, rows.select(numbers), behaviour).logprobs
                for numbers in order
            ]
        return gather_rows(parts, order, response_mask.shape).to(response_ids.device)

    def values(
        self, prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor
    ) -> Tensor:
        """Returns the critic's values `(B, T)` of the states before the tokens, as `score` does, without the policy.

        Arguments as in `score`.
        """
        rows = Rows(prompt_ids, prompt_mask, response_ids, response_mask).to(self.device)
        order = self._order(rows)
        parts = []
        for numbers in order:
            part = rows.select(numbers)
            found = self.head_values(chosen_states(self._value_network, part))
            parts.append(place(found, part.mask))
        return gather_rows(parts, order, response_mask.shape).to(response_ids.device)

    def final_values(
        self, prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor, response_mask: Tensor
    ) -> Tensor:
        """Returns the critic's value `(B,)` of the state after each row's last token.

        Arguments as in `score`.
        """
        rows = Rows(prompt_ids, prompt_mask, response_ids, response_mask).to(self.device)
        order = rows.micro_batches()
        result = torch.zeros(len(rows), device=self.device)
        for numbers in order:
            part = rows.select(numbers)
            states = self._value_network.states(
                part.prompt_ids, part.prompt_mask, part.response_ids
            )
            last = states[torch.arange(len(part)), part.lengths]
            result = result.index_copy(0, numbers.to(self.device), self.head_values(last))
        return result.to(response_ids.device)

    def _order(self, rows: Rows, *, whole: bool = False) -> list[Tensor]:
        """Returns the numbers of the rows that are read together; all of them where gradients are recorded."""
        if whole or torch.is_grad_enabled():
            return [torch.arange(len(rows), device=self.device)]
        return rows.micro_batches()

    def _values(self, states: Tensor, rows: Rows) -> Tensor:
        """Returns the values `(N,)` at the tokens of the rows; `states` are the policy's."""
        if self.value_mode == "separate":
            states = chosen_states(self._value_network, rows)
        return self.head_values(states)
