"""Batches of both objectives as pure functions of the step, so that a run resumes without state."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import torch

from lmrl_bench.pretraining.objectives import (
    Corrupted,
    CorruptionSpec,
    IntegerArray,
    corrupt_spans,
)

IGNORED_LABEL: Final = -100
_POOL_SIZE: Final = 2_048
"""Examples sorted by length together: enough for little padding, few enough for mixed batches."""

Batch = Mapping[str, torch.Tensor]


class BatchSource(Protocol):
    """Returns the batch of a step."""

    def batch(self, step: int) -> Batch:
        """Returns the model inputs of one step."""
        ...


@dataclass(frozen=True)
class PackedBatches:
    """Rows of packed text, reshuffled every epoch.

    Attributes:
        rows: Token ids (N, T).
        batch_size: Rows in a batch.
        seed: Seed of the order.
    """

    rows: IntegerArray
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        """Returns `input_ids` and `labels`, both (B, T)."""
        per_epoch = len(self.rows) // self.batch_size
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.rows))
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        ids = torch.from_numpy(self.rows[chosen])
        return {"input_ids": ids, "labels": ids}


@dataclass(frozen=True)
class DenoisingExample:
    """Token ids of one text, without EOS, and its corruption settings."""

    tokens: list[int]
    spec: CorruptionSpec


@dataclass
class DenoisingBatches:
    """Span-corrupted batches of about equal token count, with new spans every epoch.

    Attributes:
        examples: Texts of the mixture.
        tokens_per_batch: Encoder tokens per batch, including padding.
        sentinel_ids: Sentinels in order.
        eos_id: Last token of inputs and targets.
        pad_id: Padding id.
        seed: Seed of order and spans.
    """

    examples: Sequence[DenoisingExample]
    tokens_per_batch: int
    sentinel_ids: Sequence[int]
    eos_id: int
    pad_id: int
    seed: int
    _plans: list[list[IntegerArray]] = field(default_factory=list, init=False)

    def batch(self, step: int) -> Batch:
        """Returns `input_ids` and `attention_mask` (B, P) and `labels` (B, T)."""
        rng = np.random.default_rng((self.seed, 1, step))
        corrupted = [
            corrupt_spans(self.examples[i].tokens, self.examples[i].spec, self.sentinel_ids, rng)
            for i in self._indices(step)
        ]
        return collate_corrupted(corrupted, self.eos_id, self.pad_id)

    def _indices(self, step: int) -> IntegerArray:
        # The number of batches varies slightly between epochs, as the pools differ; so epochs are
        # counted one by one.
        for epoch in itertools.count():
            if epoch == len(self._plans):
                self._plans.append(self._make_plan(epoch))
            plan = self._plans[epoch]
            if step < len(plan):
                return plan[step]
            step -= len(plan)
        raise AssertionError("unreachable: itertools.count does not end")

    def _make_plan(self, epoch: int) -> list[IntegerArray]:
        rng = np.random.default_rng((self.seed, 0, epoch))
        lengths = np.array([len(example.tokens) for example in self.examples])
        order = rng.permutation(len(self.examples))
        groups: list[IntegerArray] = []
        for start in range(0, len(order), _POOL_SIZE):
            pool = order[start : start + _POOL_SIZE]
            groups += _cut_by_tokens(
                pool[np.argsort(lengths[pool])], lengths, self.tokens_per_batch
            )
        return [groups[i] for i in rng.permutation(len(groups))]


def collate_corrupted(examples: Sequence[Corrupted], eos_id: int, pad_id: int) -> Batch:
    """Right-pads corrupted examples, and ends both sides with `eos_id`."""
    inputs = _pad([[*example.inputs, eos_id] for example in examples], pad_id)
    labels = _pad([[*example.targets, eos_id] for example in examples], IGNORED_LABEL)
    return {"input_ids": inputs, "attention_mask": (inputs != pad_id).long(), "labels": labels}


def collate_answers(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], eos_id: int, pad_id: int
) -> Batch:
    """Right-pads prompts with their answers, for a causal model; labels are the answers and EOS."""
    pairs = list(zip(prompts, answers, strict=True))
    inputs = _pad([[*prompt, *answer, eos_id] for prompt, answer in pairs], pad_id)
    labels = [[*[IGNORED_LABEL] * len(prompt), *answer, eos_id] for prompt, answer in pairs]
    mask = (inputs != pad_id).long()
    return {"input_ids": inputs, "attention_mask": mask, "labels": _pad(labels, IGNORED_LABEL)}


def tokens_in(batch: Batch, *, seq2seq: bool) -> int:
    """Counts the tokens that a model reads, and those that a decoder predicts, without padding."""
    mask = batch.get("attention_mask")
    n_read = batch["input_ids"].numel() if mask is None else int(mask.sum())
    return n_read + int((batch["labels"] != IGNORED_LABEL).sum()) * seq2seq


def _cut_by_tokens(
    indices: IntegerArray, lengths: IntegerArray, budget: int
) -> Iterator[IntegerArray]:
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or (end + 1 - start) * lengths[indices[end]] > budget:
            yield indices[start:end]
            start = end


def _pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
