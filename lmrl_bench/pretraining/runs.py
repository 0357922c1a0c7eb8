"""Assembles the runs on texts from a recipe: texts, tokenizer, model and batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lmrl_bench.pretraining.architectures import build_causal, build_seq2seq
from lmrl_bench.pretraining.batches import (
    Batch,
    BatchSource,
    DenoisingBatches,
    DenoisingExample,
    PackedBatches,
)
from lmrl_bench.pretraining.card import CAUSAL_CARD, SEQ2SEQ_CARD, CardText
from lmrl_bench.pretraining.corpus import (
    Split,
    TranslationPair,
    data_files,
    read_descriptions,
    read_reviews,
    read_translation_pairs,
    sha256_of,
)
from lmrl_bench.pretraining.objectives import pack_documents
from lmrl_bench.pretraining.recipes import CausalRecipe, OptimizerRecipe, Seq2SeqRecipe
from lmrl_bench.pretraining.tokenizer import (
    N_SENTINELS,
    encode_plain,
    sentinel_token,
    train_causal_tokenizer,
    train_seq2seq_tokenizer,
)
from lmrl_bench.pretraining.train import batches_of

_VALIDATION_BATCHES = 12


@dataclass(frozen=True)
class PretrainingRun:
    """Everything that a training needs.

    Attributes:
        tokenizer: The trained tokenizer.
        model: The model with random weights.
        source: Training batches.
        validation: Validation batches by name.
        optimizer: Optimizer settings.
        data: Facts about the training data, for the log.
        card: Text of the model card.
        measure: Returns further facts about the stored model, for log and card.
    """

    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    source: BatchSource
    validation: Mapping[str, Sequence[Batch]]
    optimizer: OptimizerRecipe
    data: Mapping[str, Any]
    card: CardText
    measure: Callable[[PreTrainedModel], Mapping[str, Any]] = lambda _: {}


def prepare_causal(recipe: CausalRecipe, reviews: Path, descriptions: Path) -> PretrainingRun:
    """Prepares next-token prediction on film reviews and package descriptions."""
    reviews_of = _by_split([(row.split, row.text) for row in read_reviews(reviews)])
    documents_of = _by_split([(row.split, row.document) for row in read_descriptions(descriptions)])
    texts = reviews_of["train"] + documents_of["train"]
    tokenizer = train_causal_tokenizer(texts, recipe.vocabulary_size, recipe.sequence_length)
    seed = recipe.optimizer.seed

    def packed(rows: list[str]) -> PackedBatches:
        order = np.random.default_rng(seed).permutation(len(rows))
        encoded = encode_plain(tokenizer, [rows[i] for i in order])
        ids = pack_documents(encoded, recipe.sequence_length, tokenizer.eos_token_id)
        return PackedBatches(ids, recipe.batch_size, seed)

    torch.manual_seed(seed)
    return PretrainingRun(
        tokenizer=tokenizer,
        model=build_causal(recipe, tokenizer),
        source=packed(texts),
        validation={
            "reviews": list(batches_of(packed(reviews_of["validation"]), _VALIDATION_BATCHES)),
            "descriptions": list(
                batches_of(packed(documents_of["validation"]), _VALIDATION_BATCHES)
            ),
        },
        optimizer=recipe.optimizer,
        data={
            "reviews": train_rows(reviews, len(reviews_of["train"])),
            "descriptions": train_rows(descriptions, len(documents_of["train"])),
        },
        card=CAUSAL_CARD,
    )


def prepare_seq2seq(recipe: Seq2SeqRecipe, pairs: Path, descriptions: Path) -> PretrainingRun:
    """Prepares span corruption on documentation pairs, their two sides, and descriptions."""
    pairs_of: dict[Split, list[TranslationPair]] = {"train": [], "validation": [], "test": []}
    for pair in read_translation_pairs(pairs):
        pairs_of[pair.split].append(pair)
    documents_of = _by_split([(row.split, row.document) for row in read_descriptions(descriptions)])
    texts = [text for pair in pairs_of["train"] for text in (pair.source, pair.target)]
    texts += documents_of["train"]
    tokenizer = train_seq2seq_tokenizer(texts, recipe.vocabulary_size, recipe.maximum_length)
    seed = recipe.optimizer.seed

    def denoising(examples: list[DenoisingExample]) -> DenoisingBatches:
        ids = tokenizer.get_vocab()
        sentinels = [ids[sentinel_token(index)] for index in range(N_SENTINELS)]
        return DenoisingBatches(
            examples,
            recipe.tokens_per_batch,
            sentinels,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
            seed,
        )

    def examples(split: Split) -> dict[str, list[DenoisingExample]]:
        return {
            "pairs": _pair_examples(pairs_of[split], tokenizer, recipe),
            "documentation": _side_examples(pairs_of[split], tokenizer, recipe),
            "descriptions": _description_examples(documents_of[split], tokenizer, recipe),
        }

    training = examples("train")
    training["pairs"] *= recipe.pair_repeats
    torch.manual_seed(seed)
    return PretrainingRun(
        tokenizer=tokenizer,
        model=build_seq2seq(recipe, tokenizer),
        source=denoising([example for group in training.values() for example in group]),
        validation={
            name: list(batches_of(denoising(group), _VALIDATION_BATCHES))
            for name, group in examples("validation").items()
        },
        optimizer=recipe.optimizer,
        data={
            "documentation pairs": train_rows(pairs, len(pairs_of["train"])),
            "descriptions": train_rows(descriptions, len(documents_of["train"])),
        },
        card=SEQ2SEQ_CARD,
    )


def train_rows(path: Path, count: int) -> dict[str, Any]:
    """Returns what the log says about a data set that a run trains on."""
    sha256 = {file.name: sha256_of(file) for file in data_files(path)}
    return {"split": "train", "rows": count, "sha256": sha256}


def _by_split(rows: list[tuple[Split, str]]) -> dict[Split, list[str]]:
    texts: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
    for split, text in rows:
        texts[split].append(text)
    return texts


def _pair_examples(
    pairs: list[TranslationPair], tokenizer: PreTrainedTokenizerFast, recipe: Seq2SeqRecipe
) -> list[DenoisingExample]:
    """Joins pairs to "source <sep> target"; drops long ones, because half a pair is useless."""
    sources = encode_plain(tokenizer, [pair.source for pair in pairs])
    targets = encode_plain(tokenizer, [pair.target for pair in pairs])
    joined = [
        [*source, tokenizer.sep_token_id, *target]
        for source, target in zip(sources, targets, strict=True)
    ]
    return [
        DenoisingExample(ids, recipe.pairs) for ids in joined if len(ids) <= recipe.maximum_length
    ]


def _side_examples(
    pairs: list[TranslationPair], tokenizer: PreTrainedTokenizerFast, recipe: Seq2SeqRecipe
) -> list[DenoisingExample]:
    """Takes the English side of every other pair and the German side of the rest."""
    sides = [pair.source if index % 2 else pair.target for index, pair in enumerate(pairs)]
    return [
        DenoisingExample(ids[: recipe.maximum_length], recipe.documentation)
        for ids in encode_plain(tokenizer, sides)
    ]


def _description_examples(
    documents: list[str], tokenizer: PreTrainedTokenizerFast, recipe: Seq2SeqRecipe
) -> list[DenoisingExample]:
    """Takes the beginning of every description, as a summarization task reads it."""
    return [
        DenoisingExample(ids[: recipe.maximum_length], recipe.descriptions)
        for ids in encode_plain(tokenizer, documents)
    ]
