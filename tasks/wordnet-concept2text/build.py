"""Rebuilds `data/*.jsonl.gz` from the package wordnet-base. Requires a Debian system (apt-get).

    python tasks/wordnet-concept2text/build.py --check    # rebuild and compare with the shipped
    rows

A gloss in WordNet quotes usage examples of a word. Each example of at least six words becomes a
row: its content words, lemmatized with WordNet's own morphology and sorted alphabetically, are the
concepts.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import DataError
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.writing import split_of, write_or_compare

PACKAGE, VERSION = "wordnet-base", "1:3.0-37"
SHA256 = "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752"
DATABASE = Path("usr/share/wordnet")

MIN_WORDS, MAX_WORDS = 6, 20
MIN_CONCEPTS, MAX_CONCEPTS = 3, 6
NEAR_DUPLICATE = 0.8  # Jaccard similarity of the word sets of two examples

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
# Ambiguous forms count as verbs ("hidden", "leaves"), and adverbs are left to the writer.
CONTENT = ("verb", "noun", "adj")
# WordNet has entries for these, but a sentence is not about them.
FUNCTION_WORDS = frozenset([
    "about", "after", "all", "any", "are", "be", "been", "being", "can", "could", "did", "do",
    "does", "doing", "had", "has", "have", "having", "here", "his", "its", "just", "may", "might",
    "more", "most", "must", "only", "out", "over", "some", "then", "there", "very", "was", "were",
    "who", "will",
])  # fmt: skip
# Rules of detachment, man page morphy(7WN).
DETACHMENT = {
    "noun": [
        ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ],
    "verb": [
        ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
        ("ing", ""),
    ],
    "adj": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
}  # fmt: skip


class Example(NamedTuple):
    """A text with the lemmas of its content words, in alphabetical order."""

    text: str
    concepts: tuple[str, ...]


class Morphology:
    """WordNet's morphology: the exceptions, then the entry itself, then the rules of detachment."""

    def __init__(self, database: Path) -> None:
        self._entries = {part: _first_words(database / f"index.{part}") for part in CONTENT}
        self._exceptions = {part: _pairs(database / f"{part}.exc") for part in CONTENT}

    def lemma(self, word: str) -> str | None:
        """Returns the lemma in the first part of speech that has one; None for function words."""
        for part in CONTENT:
            lemma = self._lemma_as(word, part)
            if lemma is not None and lemma not in FUNCTION_WORDS:
                return lemma
        return None

    def _lemma_as(self, word: str, part: str) -> str | None:
        if word in self._exceptions[part]:
            return self._exceptions[part][word]
        stems = [
            word.removesuffix(end) + new for end, new in DETACHMENT[part] if word.endswith(end)
        ]
        return next((form for form in [word, *stems] if form in self._entries[part]), None)


def _first_words(path: Path) -> frozenset[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[0] for line in lines if not line.startswith("  "))


def _pairs(path: Path) -> dict[str, str]:
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0]: line[1] for line in lines}


def quoted_examples(database: Path) -> Iterator[str]:
    """Yields quoted texts in glosses; lines that start with two spaces contain the license."""
    for part in PARTS_OF_SPEECH:
        for line in (database / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):
                gloss = line.partition(" | ")[2]
                yield from (text.strip() for text in re.findall(r'"([^"]+)"', gloss))


def words(text: str) -> list[str]:
    """Returns the words of a text in lower case; inner apostrophes belong to the word."""
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def concepts_of(text: str, morphology: Morphology) -> tuple[str, ...]:
    """Returns the sorted lemmas of the content words; their order must not reveal the sentence."""
    content = [
        word
        for word in words(text)
        if len(word) > 2 and word.isalpha() and word not in FUNCTION_WORDS
    ]
    return tuple(sorted({lemma for word in content if (lemma := morphology.lemma(word))}))


def examples(texts: Iterable[str], morphology: Morphology) -> list[Example]:
    """Chooses single sentences of suitable size; texts and sets of concepts are unique."""
    chosen: dict[tuple[str, ...], Example] = {}
    seen: set[str] = set()
    for text in texts:
        key = text.casefold()
        concepts = concepts_of(text, morphology)
        if (
            key not in seen
            and MIN_WORDS <= len(words(text)) <= MAX_WORDS
            and MIN_CONCEPTS <= len(concepts) <= MAX_CONCEPTS
            and ";" not in text
            and "--" not in text
        ):
            chosen.setdefault(concepts, Example(text, concepts))
        seen.add(key)
    return list(chosen.values())


def drop_near_duplicates(rows: list[Example], of: list[Example]) -> list[Example]:
    """Drops examples with nearly the same words as one in `of`."""
    bags = [frozenset(words(example.text)) for example in of]
    holders: dict[str, list[int]] = defaultdict(list)
    for index, bag in enumerate(bags):
        for word in bag:
            holders[word].append(index)

    def near(example: Example) -> bool:
        bag = frozenset(words(example.text))
        shared = Counter(index for word in bag for index in holders.get(word, ()))
        return any(
            count / (len(bag) + len(bags[index]) - count) >= NEAR_DUPLICATE
            for index, count in shared.items()
        )

    return [example for example in rows if not near(example)]


def split_examples(found: list[Example]) -> dict[Split, list[Example]]:
    """Splits by text, and drops near-copies of rows in earlier splits."""
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for example in found:
        splits[split_of(example.text.casefold())].append(example)
    earlier: list[Example] = []
    for split in SPLITS:
        splits[split] = drop_near_duplicates(splits[split], earlier)
        earlier = earlier + splits[split]
    return splits


def as_rows(found: list[Example]) -> list[dict[str, object]]:
    """Returns rows ordered by id, a hash: the first n rows are a random sample."""
    rows: list[dict[str, object]] = [
        {
            "id": hashlib.sha1(example.text.encode()).hexdigest()[:12],
            "concepts": list(example.concepts),
            "text": example.text,
        }
        for example in found
    ]
    return sorted(rows, key=lambda row: str(row["id"]))


def fetch(folder: Path) -> Path:
    """Downloads and unpacks the pinned package; returns the folder of WordNet's files."""
    done = subprocess.run(
        ["apt-get", "download", f"{PACKAGE}={VERSION}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    files = list(folder.glob(f"{PACKAGE}_*.deb"))
    if done.returncode != 0 or not files:
        raise DataError(
            f"apt-get download {PACKAGE}={VERSION} failed: {done.stderr.strip()}\n"
            "Run apt-get update first; an older version is in Debian's snapshot archive."
        )
    if (found := file_sha256(files[0])) != SHA256:
        raise DataError(f"{files[0].name}: sha256 is {found}, expected {SHA256}")
    subprocess.run(["dpkg-deb", "-x", str(files[0]), str(folder / "root")], check=True)
    return folder / "root" / DATABASE


def build() -> dict[Split, list[dict[str, object]]]:
    """Runs the whole recipe."""
    with tempfile.TemporaryDirectory() as temporary:
        database = fetch(Path(temporary))
        found = examples(quoted_examples(database), Morphology(database))
    return {split: as_rows(rows) for split, rows in split_examples(found).items()}


def main() -> None:
    """Rebuilds, then writes or compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with data/, write nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    options = parser.parse_args()
    sys.exit(0 if write_or_compare(build(), options.out, compare=options.check) else 1)


if __name__ == "__main__":
    main()
