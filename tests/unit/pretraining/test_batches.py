"""Batches by step: an epoch shows every text once, and a step gives the same batch again."""

import numpy as np
import torch

from lmrl_bench.pretraining.batches import (
    IGNORED_LABEL,
    DenoisingBatches,
    DenoisingExample,
    PackedBatches,
    collate_answers,
    collate_corrupted,
    tokens_in,
)
from lmrl_bench.pretraining.objectives import Corrupted, CorruptionSpec

SPEC = CorruptionSpec(density=0.3, mean_span=2.0)
SENTINELS = list(range(1_000, 1_040))


def denoising_batches(n_examples=300, budget=256):
    rng = np.random.default_rng(0)
    examples = [
        DenoisingExample([10 + i] * int(rng.integers(5, 40)), SPEC) for i in range(n_examples)
    ]
    return DenoisingBatches(examples, budget, SENTINELS, eos_id=1, pad_id=0, seed=3)


def epoch_of(source, n_examples):
    """Return the batches until every text has been read, and the texts in order."""
    batches, names = [], []
    while len(names) < n_examples:
        batch = source.batch(len(batches))
        batches.append(batch)
        names += [min(t for t in row if 10 <= t < 1_000) for row in batch["input_ids"].tolist()]
    return batches, names


def test_packed_epoch_shows_every_row_once():
    rows = np.arange(24).reshape(12, 2)
    source = PackedBatches(rows, batch_size=4, seed=0)
    shown = torch.cat([source.batch(step)["input_ids"] for step in range(3)])
    assert sorted(shown.tolist()) == rows.tolist()
    again = torch.cat([source.batch(step)["input_ids"] for step in range(3, 6)])
    assert sorted(again.tolist()) == rows.tolist()
    assert again.tolist() != shown.tolist()


def test_denoising_epoch_shows_every_text_once_within_the_budget():
    batches, names = epoch_of(denoising_batches(), 300)
    assert sorted(names) == list(range(10, 310))
    assert all(batch["input_ids"].numel() <= 256 for batch in batches)


def test_steps_are_repeatable_in_any_order():
    forwards = denoising_batches()
    backwards = denoising_batches()
    later = backwards.batch(60)
    first = backwards.batch(0)
    assert torch.equal(forwards.batch(0)["input_ids"], first["input_ids"])
    assert torch.equal(forwards.batch(60)["labels"], later["labels"])


def test_collation_pads_and_ends_both_sides():
    batch = collate_corrupted(
        [Corrupted([5, 1_000], [1_000, 6]), Corrupted([7], [1_000, 8, 9])], eos_id=1, pad_id=0
    )
    assert batch["input_ids"].tolist() == [[5, 1_000, 1], [7, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[1_000, 6, 1, IGNORED_LABEL], [1_000, 8, 9, 1]]
    assert tokens_in(batch, seq2seq=True) == 5 + 7


def test_a_causal_batch_predicts_answers_only_and_reads_each_token_once():
    batch = collate_answers([[5, 6], [7]], [[8], [9, 10, 11]], eos_id=1, pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 8, 1, 0], [7, 9, 10, 11, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    ignored = IGNORED_LABEL
    assert batch["labels"].tolist() == [[ignored, ignored, 8, 1, ignored], [ignored, 9, 10, 11, 1]]
    assert tokens_in(batch, seq2seq=False) == 4 + 5
