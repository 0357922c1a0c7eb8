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
from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.data.spaces import token_space
from lmrl_bench.models.adapter import add_adapter, has_adapter, without_adapter
from lmrl_bench.models.behavior import Behavior
from lmrl_bench.models.networks import Kind, Network
from lmrl_bench.models.scoring import (
    MICRO_BATCH_TOKENS,
    TokenScores,
    gather_rows,
    score_tokens,
)
from lmrl_bench.models.storage import ValueTrunk, output_width, read_model, write_policy
from lmrl_bench.policies.token_policy import TokenPolicy

__all__ = ["LanguageModelPolicy", "TokenScores", "token_space"]


class LanguageModelPolicy(TokenPolicy):
    """A language model that acts, with a critic and optionally a frozen reference.

    Made by `load` from a name, or by Stable-Baselines3 from `policy_kwargs`, which are the
    arguments of `TokenPolicy`.

    Attributes:
        reference: the frozen initial policy, or None before `make_ref_policy`. Not a part of the saved
            weights, and outside every optimizer.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        **options: Any,
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule, **options)
        self.ref_policy: Network | None = None
        self._adapter_is_new = False

    @classmethod
    def load(  # type: ignore[override]
        cls,
        model: str,
        *,
        revision: str | None = None,
        value_trunk: ValueTrunk = "shared",
        max_prompt_tokens: int,
        max_completion_tokens: int,
        adapter: AdapterConfig | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Loads a policy by name, for prompts and completions up to the given lengths.

        Args:
            model: A shipped policy, a download, a folder (also one that `save` wrote), or a hub id.
            revision: Commit of a hub id.
            value_trunk: See the class.
            max_prompt_tokens: The task's limit.
            max_completion_tokens: The task's limit.
            adapter: Freeze the model and train a new adapter on it.
            device: Where the policy is put.

        Returns:
            The policy. Its `optimizer` has learning rate 0: the algorithm makes its own.

        Raises:
            DownloadError: The download is not installed.
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
            token_space(max_prompt_tokens, max_completion_tokens, width),
            spaces.Discrete(width),
            lambda _progress: 0.0,
            model=loaded,
            tokenizer=tokenizer,
            value_trunk=value_trunk,
        )
        policy._adapter_is_new = adapter is not None
        if folder is not None:
            policy.critic.restore(folder)
        return policy.to(device)

    def save(self, folder: str | Path) -> None:
        """Writes a folder that `load` restores bit for bit, and that `from_pretrained` reads too.

        The reference is left out.
        """
        write_policy(Path(folder), self.model, self.tokenizer, self.critic.save)

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

    def make_ref_policy(self) -> None:
        """Freezes a copy of the policy as it is now, on its device, as the reference.

        With an adapter that `load` added, which has not been trained yet, no copy is needed: the
        reference is the frozen base model, which is the policy without its adapter.
        """
        self.ref_policy = self.network if self._adapter_is_new else self.network.frozen_copy()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Moves or converts the reference too, which is not a submodule; `to`, `float` and others call this."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.ref_policy is not None and self.ref_policy is not self.network:
            self.ref_policy.model._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def score(
        self,
        tokens: TokenBatch,
        behavior: Behavior,
        *,
        values: bool = True,
        entropy: bool = True,
        full_logits: bool = False,
    ) -> TokenScores:
        """Scores given completions under the policy as it is now; results lie on the tokens' device.

        Without gradients, episodes are read in micro-batches of like length. With gradients it is one
        forward over all of them, and memory is bounded by the caller's minibatch.

        Args:
            tokens: `B` prompts with completions; where they have `allowed` sets, only tokens in them are possible.
            behavior: The distribution that acted.
            values: Whether to compute the critic's values.
            entropy: Whether to compute the entropy.
            full_logits: Whether to return the normalized logits `(N, V)`.
        """
        here = tokens.to(self.device)
        joint = values and self.critic.reads_policy_states  # then this forward gives the values too
        order = self._order(here, whole=full_logits)
        parts = [
            score_tokens(
                self.network,
                here.select(index),
                behavior,
                value=self.critic.state_values if joint else None,
                entropy=entropy,
                full_logits=full_logits,
            )
            for index in order
        ]

        def joined(name: str) -> Tensor:
            return self._gathered([getattr(part, name) for part in parts], order, tokens)

        return TokenScores(
            logprobs=joined("logprobs"),
            values=self.critic.values(tokens) if values and not joint else joined("values"),
            entropy=joined("entropy"),
            logits=parts[0].logits if full_logits else None,
        )

    @torch.no_grad()
    def score_ref_policy(self, tokens: TokenBatch, behavior: Behavior) -> Tensor:
        """Returns the reference policy's log-probabilities `(B, T)`, nats, under the same behavior."""
        if self.ref_policy is None:
            raise ValueError("the policy has no reference; call make_ref_policy() first")
        here = tokens.to(self.device)
        order = here.micro_batches(MICRO_BATCH_TOKENS)
        with without_adapter(self.model) if self._adapter_is_new else nullcontext():
            parts = [
                score_tokens(self.ref_policy, here.select(index), behavior).logprobs
                for index in order
            ]
        return self._gathered(parts, order, tokens)

    def _order(self, tokens: TokenBatch, *, whole: bool = False) -> list[Tensor]:
        """Returns the episodes that are read together; all of them where gradients are recorded."""
        if whole or torch.is_grad_enabled():
            return [torch.arange(len(tokens), device=self.device)]
        return tokens.micro_batches(MICRO_BATCH_TOKENS)

    def _gathered(
        self, parts: Sequence[Tensor], order: Sequence[Tensor], tokens: TokenBatch
    ) -> Tensor:
        """Puts what was computed in micro-batches back in the order and on the device of the tokens."""
        whole = gather_rows(parts, order, tokens.completion_mask.shape)
        return whole.to(tokens.completion_ids.device)
