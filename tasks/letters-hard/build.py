"""Writes `data/*.jsonl.gz` again, or compares them with the generator's rows (`--check`)."""

from pathlib import Path

from lmrl_bench.pretraining.skills import build

if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
