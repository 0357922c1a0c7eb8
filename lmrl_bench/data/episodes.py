"""The data that flows from the sampler to the update: whole episodes, one per row of every tensor.

`Prompts` and `Completions` are what goes into the sampler and comes out of it. `TokenBatch` is both together:
what every forward over given tokens reads. `Episodes` adds what reinforcement learning knows about the tokens.

Shapes: `B` episodes, `P` prompt tokens (padded on the left), `T` completion tokens (padded on the right), `V`
vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lmrl_bench.speedups.packing import pack_rows


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts.

    Attributes:
        ids: `(B, P)` int64, left-padded.
        mask: `(B, P)` bool, true for tokens; never derived from the ids, because the padding id may
            be a real token.
        sample_ids: The `B` sample identifiers.
        group_ids: `(B,)` int64; equal numbers stand for the same prompt (group baselines).
    """

    ids: Tensor
    mask: Tensor
    sample_ids: tuple[str, ...]
    group_ids: Tensor

    def __post_init__(self) -> None:
        _check("mask", self.mask, self.ids.shape)
        _check("group_ids", self.group_ids, self.ids.shape[:1])
        if len(self.sample_ids) != self.ids.shape[0]:
            raise ValueError(f"{len(self.sample_ids)} sample ids for {self.ids.shape[0]} prompts")

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def select(self, index: Tensor) -> Prompts:
        """Returns the prompts `index` `(N,)` int64, without columns that are padding in all of them."""
        mask = self.mask[index]
        start = _first_column(mask)
        names = tuple(self.sample_ids[number] for number in index.tolist())
        return Prompts(self.ids[index, start:], mask[:, start:], names, self.group_ids[index])


@dataclass(frozen=True)
class Completions:
    """Completions drawn by the sampler; the ids are never decoded and encoded again.

    Attributes:
        ids: `(B, T)` int64, right-padded with the pad token, including EOS if drawn.
        mask: `(B, T)` bool, true for tokens that the policy chose, including EOS.
        logprobs: `(B, T)` float32, nats, under the behavior distribution; 0 outside the mask.
        terminated: `(B,)` bool, EOS was drawn.
        truncated: `(B,)` bool, the length cap was reached without EOS.
        values: `(B, T)` float32 or None; the critic's estimate of the state before each token, if
            the value head sits on the sampling trunk and is therefore free.
        allowed: `(B, T, ceil(V / 8))` uint8 or None; tokens that a token filter allowed at each
            position, as bits. Scoring uses these stored sets: recomputed ones could differ at their
            edges because of rounding.
    """

    ids: Tensor
    mask: Tensor
    logprobs: Tensor
    terminated: Tensor
    truncated: Tensor
    values: Tensor | None = None
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("mask", "logprobs"):
            _check(name, getattr(self, name), self.ids.shape)
        if self.values is not None:
            _check("values", self.values, self.ids.shape)
        if self.allowed is not None:
            _check("allowed", self.allowed[..., 0], self.ids.shape)
        for name in ("terminated", "truncated"):
            _check(name, getattr(self, name), self.ids.shape[:1])

    @property
    def lengths(self) -> Tensor:
        """`(B,)` int64, completion tokens."""
        return self.mask.sum(dim=1)


@dataclass(frozen=True)
class TokenBatch:
    """Prompts and completions as token ids: what a policy, a reference policy or a critic scores.

    Attributes:
        prompt_ids, prompt_mask: `(B, P)` int64 and bool, padded on the left.
        completion_ids: `(B, T)` int64, padded on the right.
        completion_mask: `(B, T)` bool, the tokens that the policy chose. Text of the environment inside a completion
            is read, but not scored: false.
        allowed: `(B, T, ceil(V / 8))` uint8 or None, as in `Completions`: the sets through which tokens are scored.

    Raises:
        ValueError: The shapes do not fit together.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        _check("prompt_mask", self.prompt_mask, self.prompt_ids.shape)
        _check("completion_mask", self.completion_mask, self.completion_ids.shape)
        if len(self.prompt_ids) != len(self.completion_ids):
            raise ValueError(
                f"{len(self.prompt_ids)} prompts for {len(self.completion_ids)} completions"
            )
        if self.allowed is not None:
            _check("allowed", self.allowed[..., 0], self.completion_ids.shape)

    @classmethod
    def of(cls, prompts: Prompts, completions: Completions) -> TokenBatch:
        """Returns the completions with their prompts, on the device of the completions."""
        device = completions.ids.device
        return cls(
            prompts.ids.to(device),
            prompts.mask.to(device),
            completions.ids,
            completions.mask,
            completions.allowed,
        )

    def __len__(self) -> int:
        return int(self.completion_ids.shape[0])

    @property
    def lengths(self) -> Tensor:
        """`(B,)` int64, completion columns up to and including the last token that the policy chose."""
        mask = self.completion_mask
        if mask.shape[1] == 0:
            return torch.zeros(len(mask), dtype=torch.long, device=mask.device)
        columns = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        return (mask * columns).amax(dim=1)

    @property
    def width(self) -> int:
        """`T`, completion columns."""
        return int(self.completion_mask.shape[1])

    @property
    def n_tokens(self) -> int:
        """Number of tokens that the policy chose."""
        return int(self.completion_mask.sum())

    @property
    def positions(self) -> Tensor:
        """`(N,)` int64, the completion positions of the tokens that the policy chose, from 0."""
        columns = torch.arange(self.completion_mask.shape[1], device=self.completion_mask.device)
        return columns.expand_as(self.completion_mask)[self.completion_mask]

    def to(self, device: torch.device | str) -> TokenBatch:
        """Returns the batch with all its tensors on a device."""
        return TokenBatch(
            self.prompt_ids.to(device),
            self.prompt_mask.to(device),
            self.completion_ids.to(device),
            self.completion_mask.to(device),
            None if self.allowed is None else self.allowed.to(device),
        )

    def select(self, index: Tensor | Sequence[int], *, trim: bool = True) -> TokenBatch:
        """Returns the episodes `index` `(N,)`, in that order.

        Args:
            index: Their numbers.
            trim: Leave out the columns that are padding in all of them.
        """
        index = torch.as_tensor(index, dtype=torch.long, device=self.completion_ids.device)
        prompt_mask = self.prompt_mask[index]
        start, stop = 0, self.completion_ids.shape[1]
        if trim and len(index):
            start, stop = _first_column(prompt_mask), int(self.lengths[index].max())
        return TokenBatch(
            self.prompt_ids[index, start:],
            prompt_mask[:, start:],
            self.completion_ids[index, :stop],
            self.completion_mask[index, :stop],
            None if self.allowed is None else self.allowed[index, :stop],
        )

    def micro_batches(self, token_budget: int) -> list[Tensor]:
        """Returns the indices `(N,)` int64 of episodes that are read together, so that little is padding.

        Args:
            token_budget: Padded tokens per micro-batch; a longer episode stands alone.
        """
        return pack_rows(self.prompt_ids, self.prompt_mask, self.lengths, token_budget)


@dataclass(frozen=True)
class Episodes:
    """Finished episodes with everything that an update needs.

    Attributes:
        tokens: Prompts and completions.
        behavior_logprobs, ref_logprobs: `(B, T)`, nats, of the policy that sampled and of the reference policy, under
            the same behavior transform; the latter NaN where training does not read the reference.
        values: `(B, T)`, rollout-time estimates of the state before each token.
        rewards: `(B, T)`, the task's reward and the KL charge, per token.
        advantages, returns: `(B, T)`.
        scores: `(B,)`, the task's reward of the episode, without any KL charge.
        terminated, truncated: `(B,)` bool.
        group_ids: `(B,)` int64; equal numbers stand for the same prompt.
        sample_ids, texts: `B` strings each, or none.
        components: Reward component name to `(B,)` float32.
        info: Name to one fact for each of the `B` episodes, as the reward gave it.
    """

    tokens: TokenBatch
    behavior_logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor
    scores: Tensor
    terminated: Tensor
    truncated: Tensor
    group_ids: Tensor
    sample_ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    components: dict[str, Tensor] = field(default_factory=dict)
    info: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    TOKEN_FIELDS = (
        "behavior_logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns",
    )  # fmt: skip
    EPISODE_FIELDS = ("scores", "terminated", "truncated", "group_ids")

    def __post_init__(self) -> None:
        for name in self.TOKEN_FIELDS:
            _check(name, getattr(self, name), self.mask.shape)
        for name in self.EPISODE_FIELDS:
            _check(name, getattr(self, name), self.mask.shape[:1])

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def mask(self) -> Tensor:
        """`(B, T)` bool, the tokens that the policy chose: `tokens.completion_mask`."""
        return self.tokens.completion_mask

    @property
    def lengths(self) -> Tensor:
        """`(B,)` int64, as `tokens.lengths`."""
        return self.tokens.lengths

    @property
    def width(self) -> int:
        """`T`, completion columns."""
        return self.tokens.width

    def replace(self, **changes: Any) -> Episodes:
        """Returns a copy with some fields replaced; shapes are checked again."""
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device) -> Episodes:
        """Returns the episodes with all their tensors on a device."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("tokens", *self.TOKEN_FIELDS, *self.EPISODE_FIELDS)
        }
        components = {name: value.to(device) for name, value in self.components.items()}
        return self.replace(components=components, **moved)

    def select(self, index: Tensor | Sequence[int], *, trim: bool = True) -> Episodes:
        """Returns the episodes `index` `(N,)`, in that order.

        Args:
            index: Their numbers.
            trim: Leave out the columns that are padding in all of them.
        """
        numbers = torch.as_tensor(index, dtype=torch.long).tolist()
        index = torch.tensor(numbers, dtype=torch.long, device=self.mask.device)
        tokens = self.tokens.select(index, trim=trim)
        stop = tokens.width
        changes: dict[str, Any] = {"tokens": tokens}
        changes |= {name: getattr(self, name)[index, :stop] for name in self.TOKEN_FIELDS}
        changes |= {name: getattr(self, name)[index] for name in self.EPISODE_FIELDS}
        changes["components"] = {name: value[index] for name, value in self.components.items()}
        changes["info"] = {
            name: tuple(facts[number] for number in numbers) for name, facts in self.info.items()
        }
        for name in ("sample_ids", "texts"):
            whole = getattr(self, name)
            changes[name] = tuple(whole[number] for number in numbers) if whole else ()
        return self.replace(**changes)


def _first_column(prompt_mask: Tensor) -> int:
    """Returns the first column of `(N, P)` that is not padding in every row."""
    return int(prompt_mask.any(dim=0).int().argmax())


def _check(name: str, value: Tensor, shape: torch.Size) -> None:
    """One place for shape checks, so that nothing is broadcast or cut in silence."""
    if value.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
