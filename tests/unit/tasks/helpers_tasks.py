"""A small task in a temporary folder, whose parts the tests break one at a time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from lmrl_bench.tasks.task import Task
from lmrl_bench.tasks.writing import write_rows

SPLITS = ("train", "validation", "test")
WORDS = "red blue green black white house boat hat door stone cup chair leaf lamp horse tree"


def word(number: int) -> str:
    """One of sixteen words."""
    return WORDS.split()[number % 16]


def rows(split: str, count: int = 40) -> list[dict]:
    """Rows whose prompts differ between splits."""
    start = SPLITS.index(split) * 100
    return [
        {
            "id": f"{split}-{number}",
            "prompt": f"{split} {word(number)} {word(number + 5)} {start + number}",
            "reference": f"the {word(number)} near the {word(number + 5)} number {start + number}",
            "label": ("positive", "negative")[number % 2],
        }
        for number in range(count)
    ]


def definition(**changes) -> dict:
    """`task.yaml` as data, without the data files."""
    spec = {
        "schema": 1,
        "name": "small",
        "version": 1,
        "summary": "A task for tests.",
        "license": "none",
        "data": {"reader": "jsonl", "id": "id", "references": "reference", "meta": ["label"]},
        "prompt": {"template": "{{ prompt }}", "max_tokens": 32},
        "completion": {"max_tokens": 16},
        "reward": {"terms": [{"name": "rouge-l"}]},
        "metrics": {"primary": {"name": "rouge-l"}, "held_out": [{"name": "chrf"}]},
        "policy": {"default": "nano-seq2seq", "kinds": ["seq2seq"]},
    }
    return {**spec, **changes}


def write_task(folder: Path, spec: dict | None = None, data: dict | None = None) -> Path:
    """Writes the task folder `folder / small`; `data` overrides the rows of splits."""
    target = folder / "small"
    spec = spec or definition()
    for split in SPLITS:
        if split in spec["data"]:
            continue
        chosen = (data or {}).get(split, rows(split))
        sha256 = write_rows(target / "data" / f"{split}.jsonl.gz", chosen)
        spec["data"][split] = {
            "path": f"data/{split}.jsonl.gz",
            "sha256": sha256,
            "rows": len(chosen),
        }
    target.mkdir(exist_ok=True)
    (target / "task.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return target


def small_task(folder: Path, spec: dict | None = None, data: dict | None = None) -> Task:
    """Writes and opens the task."""
    return Task(write_task(folder, spec, data))


def file_of(path: Path, content: bytes, **more) -> dict:
    """Writes a file and describes it as a split."""
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return {"path": path.name, "sha256": sha256, **more}


def count_words(texts) -> list[int]:
    """A tokenizer for lint: words and one special token."""
    return [len(text.split()) + 1 for text in texts]
