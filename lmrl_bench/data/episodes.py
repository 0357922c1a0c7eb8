"""Batches that flow from the sampler to the update: whole episodes, one row each.

Shapes: `B` episodes, `P` prompt tokens (left-padded), `T` response tokens (right-padded).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts.

    Attributes:
        ids: `(B, P)` int64, left-padded.
        mask: `(B, P)` bool, true for tokens; never derived from the ids, because the padding id may
            be a real token.
        sample_ids: The `B` sample identifiers.
        group_ids: `(B,)` int64; rows with equal numbers share a prompt (group baselines).
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

    def select(self, rows: Tensor) -> Prompts:
        """Returns the rows `(N,)` int64, in that order."""
        names = tuple(self.sample_ids[number] for number in rows.tolist())
        return Prompts(self.ids[rows], self.mask[rows], names, self.group_ids[rows])


@dataclass(frozen=True)
class Completions:
    """Completions drawn by the sampler; the ids are never decoded and encoded again.

    Attributes:
        ids: `(B, T)` int64, right-padded with the pad token, including EOS if drawn.
        mask: `(B, T)` bool, true for tokens that the policy chose, including EOS.
        logprobs: `(B, T)` float32, nats, under the behaviour distribution; 0 outside the mask.
        terminated: `(B,)` bool, EOS was drawn.
        truncated: `(B,)` bool, the length cap was reached without EOS.
        values: `(B, T)` float32 or None; the critic's estimate of the state before each token, if
            the value head sits on the sampling trunk and is therefore free.
        allowed: `(B, T, ceil(V / 8))` uint8 or None; tokens that an action mask allowed at each
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
        """Completion lengths in tokens, `(B,)` int64."""
        return self.mask.sum(dim=1)


@dataclass(frozen=True)
class EpisodeBatch:
    """Finished episodes with everything that an update needs.

    Attributes:
        prompt_ids, prompt_mask: `(B, P)`, left-padded.
        response_ids: `(B, T)`, right-padded.
        action_mask: `(B, T)` bool, tokens that the policy chose (false for environment text inside
            a response).
        behaviour_logprobs, reference_logprobs: `(B, T)`, nats, under the same behaviour transform;
            the latter is NaN if training does not need it.
        values: `(B, T)`, estimates of the state before each token at rollout time.
        rewards: `(B, T)`, the task's reward and the KL penalty, per token.
        advantages, returns: `(B, T)`.
        scores: `(B,)`, the task's reward of the episode, without the KL penalty.
        terminated, truncated: `(B,)` bool.
        group_ids: `(B,)` int64.
        sample_ids, texts: `B` strings each.
        components: Reward component name to `(B,)` float32.
        allowed: `(B, T, ceil(V / 8))` uint8 or None, as in `Completions`.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    response_ids: Tensor
    action_mask: Tensor
    behaviour_logprobs: Tensor
    reference_logprobs: Tensor
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
    components: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    allowed: Tensor | None = None

    _TOKEN_FIELDS = (
        "action_mask", "behaviour_logprobs", "reference_logprobs", "values", "rewards", "advantages", "returns",
    )  # fmt: skip
    _EPISODE_FIELDS = ("scores", "terminated", "truncated", "group_ids")

    def __post_init__(self) -> None:
        _check("prompt_mask", self.prompt_mask, self.prompt_ids.shape)
        for name in self._TOKEN_FIELDS:
            _check(name, getattr(self, name), self.response_ids.shape)
        for name in self._EPISODE_FIELDS:
            _check(name, getattr(self, name), self.response_ids.shape[:1])
        if self.allowed is not None:
            _check("allowed", self.allowed[..., 0], self.response_ids.shape)

    def __len__(self) -> int:
        return int(self.response_ids.shape[0])

    @property
    def lengths(self) -> Tensor:
        """Completion lengths up to the last token that is not padding, `(B,)` int64."""
        positions = torch.arange(1, self.response_ids.shape[1] + 1, device=self.response_ids.device)
        return (self.action_mask * positions).amax(dim=1)

    @property
    def tokens(self) -> int:
        """Number of tokens that the policy chose."""
        return int(self.action_mask.sum())

    def replace(self, **changes: Any) -> EpisodeBatch:
        """Returns a copy with some fields replaced; shapes are checked again."""
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device) -> EpisodeBatch:
        """Returns the batch with all tensors on a device."""
        moved = {
            field.name: _moved(getattr(self, field.name), device)
            for field in dataclasses.fields(self)
        }
        return dataclasses.replace(self, **moved)

    def select(self, rows: Tensor | Sequence[int], *, trim: bool = True) -> EpisodeBatch:
        """Returns the rows `(N,)` in that order; `trim` drops columns with only padding."""
        numbers = torch.as_tensor(rows, dtype=torch.long).tolist()
        index = torch.tensor(numbers, dtype=torch.long, device=self.response_ids.device)
        start, stop = 0, self.response_ids.shape[1]
        if trim and numbers:
            start = int(self.prompt_mask[index].any(dim=0).int().argmax())
            stop = max(int(self.lengths[index].max()), 1)
        changes: dict[str, Any] = {
            "prompt_ids": self.prompt_ids[index, start:],
            "prompt_mask": self.prompt_mask[index, start:],
            "response_ids": self.response_ids[index, :stop],
        }
        changes |= {name: getattr(self, name)[index, :stop] for name in self._TOKEN_FIELDS}
        changes |= {name: getattr(self, name)[index] for name in self._EPISODE_FIELDS}
        changes["allowed"] = None if self.allowed is None else self.allowed[index, :stop]
        changes["components"] = {name: value[index] for name, value in self.components.items()}
        for name in ("sample_ids", "texts"):
            strings = getattr(self, name)
            changes[name] = tuple(strings[number] for number in numbers) if strings else ()
        return dataclasses.replace(self, **changes)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {name: part.to(device) for name, part in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def _check(name: str, value: Tensor, shape: torch.Size) -> None:
    """Checks a shape, so that nothing is silently broadcast or truncated."""
    if value.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
