"""`lmrl-bench task new`: a task folder that runs at once, from the user's rows or toy rows."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl_bench.errors import DataError, TaskError, nearest
from lmrl_bench.tasks import scaffold_texts as texts
from lmrl_bench.tasks.readers import READERS, Row, reader_of_file
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.task import Task
from lmrl_bench.tasks.writing import split_of, write_rows

_PROMPT_NAMES = ("prompt", "source", "src", "document", "question", "input", "text", "context")
_REFERENCE_NAMES = ("reference", "target", "tgt", "summary", "answer", "response", "output")
_TOKENS_PER_WORD = 2.0  # of the shipped policies' small vocabularies, roughly
_LONGEST_PROMPT, _LONGEST_RESPONSE = 256, 128

Pairs = list[dict[str, Any]]


def new_task(
    name: str,
    folder: Path,
    from_file: Path | None = None,
    prompt_column: str | None = None,
    reference_column: str | None = None,
) -> Path:
    """Writes the task folder `folder / name`: definition, card, data with digests, settings of PPO.

    Args:
        name: Lower-case letters, digits and hyphens.
        folder: Where the task folder goes; made if its parent exists.
        from_file: Rows to start from (.jsonl, .csv, either with .gz, or .parquet); without it, a
            toy data set is written.
        prompt_column: Column with the prompt; guessed from its name if not given.
        reference_column: Column with the good response; guessed likewise.

    Returns:
        The new folder.

    Raises:
        TaskError: A bad name, a folder that is there already or cannot be made, or columns that cannot be guessed.
        DataError: The file cannot be read, a row is unusable, or there are too few rows to split.
    """
    target = folder / name
    _check_target(name, target)
    rows = _pairs(from_file, prompt_column, reference_column) if from_file else list(_toy())
    splits = _split(rows, from_file)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise TaskError(
            f"{folder}: cannot be made ({error.strerror or error}); choose another with --folder"
        ) from error
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as temporary:
        built = Path(temporary) / name
        _write(built, name, splits, from_file)
        for split in SPLITS:
            Task(built).samples(split)
        built.replace(target)
    return target


def _check_target(name: str, target: Path) -> None:
    if (
        not name.replace("-", "").isalnum()
        or name != name.lower()
        or not name[0].isalnum()
        or not name.isascii()
    ):
        raise TaskError(
            f"'{name}' is no task name: use lower-case letters, digits and hyphens, for example "
            "'my-task'"
        )
    if target.exists():
        raise TaskError(
            f"{target} exists and is not overwritten; choose another name, or remove it"
        )
    folder = target.parent if target.parent.exists() else target.parent.absolute().parent
    if not os.access(folder, os.W_OK):
        raise TaskError(f"{folder} is no writable folder; make it, or choose another one")


def _pairs(path: Path, prompt_column: str | None, reference_column: str | None) -> Pairs:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    rows = list(READERS.get(reader_of_file(path))(path))
    if not rows:
        raise DataError(f"{path}: no rows")
    columns = [str(column) for column in rows[0].values]
    prompt = _column(prompt_column, _PROMPT_NAMES, columns, path, "--prompt-column")
    others = [column for column in columns if column != prompt]
    reference = _column(reference_column, _REFERENCE_NAMES, others, path, "--reference-column")
    return list(_unique(_pair(row, prompt, reference) for row in rows))


def _column(
    given: str | None, usual: Sequence[str], columns: Sequence[str], path: Path, option: str
) -> str:
    if given is not None:
        if given not in columns:
            raise TaskError(
                f"{path}: no column '{given}'{nearest(given, columns)} (columns: "
                f"{', '.join(columns)}); correct {option}"
            )
        return given
    for name in usual:
        if name in columns:
            return name
    raise TaskError(
        f"{path}: which column is meant? Say it with {option} (columns: {', '.join(columns)})"
    )


def _pair(row: Row, prompt: str, reference: str) -> dict[str, Any]:
    for column in (prompt, reference):
        value = row.values.get(column)
        if not isinstance(value, str) or not value.strip():
            raise DataError(
                f"{row.place}: the column '{column}' is empty or no text ({value!r:.60}); "
                "complete or remove the row"
            )
    texts_of_row = {"prompt": row.values[prompt], "reference": row.values[reference]}
    identifier = hashlib.sha1("\0".join(texts_of_row.values()).encode()).hexdigest()[:12]
    rest = {
        str(key): value
        for key, value in row.values.items()
        if key not in {prompt, reference, "id", "prompt", "reference"} and _plain(value)
    }
    return {"id": identifier, **texts_of_row, **rest}


def _plain(value: Any) -> bool:
    """Whether JSON can hold it; dates of a Parquet file, for one, are left out."""
    if isinstance(value, list):
        return all(_plain(part) for part in value)
    return value is None or isinstance(value, str | int | float | bool)


def _unique(pairs: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Drops exact repetitions of a prompt with its reference."""
    seen: set[str] = set()
    for pair in pairs:
        if pair["id"] not in seen:
            seen.add(pair["id"])
            yield pair


def _toy() -> Iterator[dict[str, Any]]:
    """A few hundred rows of a task that a small policy learns fast: say it in the other order."""
    colours = ("red", "blue", "green", "black", "white", "grey", "brown", "pink")
    things = ("house", "boat", "hat", "door", "stone", "cup", "chair", "leaf", "lamp", "horse")
    sizes = ("small", "large", "old", "new")
    for size, colour, thing in itertools.product(sizes, colours, things):
        prompt, reference = f"{size} {colour} {thing}", f"the {thing} is {size} and {colour}"
        identifier = hashlib.sha1(prompt.encode()).hexdigest()[:12]
        yield {"id": identifier, "prompt": prompt, "reference": reference}


def _split(rows: Pairs, path: Path | None) -> dict[Split, Pairs]:
    """80/10/10 by a hash of the prompt: equal prompts stay together, new rows move no old one."""
    splits: dict[Split, Pairs] = {"train": [], "validation": [], "test": []}
    for row in rows:
        splits[split_of(row["prompt"])].append(row)
    empty = [split for split, part in splits.items() if not part]
    if empty:
        raise DataError(
            f"{path}: {len(rows)} different rows are too few: the split {' and '.join(empty)} "
            "would be empty; "
            "give at least a few dozen rows"
        )
    return splits


def _write(built: Path, name: str, splits: Mapping[Split, Pairs], from_file: Path | None) -> None:
    files = "\n".join(
        texts.DATA_FILE.format(
            split=split,
            sha256=write_rows(built / "data" / f"{split}.jsonl.gz", splits[split]),
            rows=len(splits[split]),
        )
        for split in SPLITS
    )
    train = splits["train"]
    source = from_file.name if from_file else "the toy rows of `lmrl-bench task new`"
    values = {
        "name": name,
        "files": files,
        "source": source,
        "prompt_tokens": _limit([row["prompt"] for row in train], 16, _LONGEST_PROMPT),
        "response_tokens": _limit([row["reference"] for row in train], 8, _LONGEST_RESPONSE),
        "rows": " / ".join(str(len(splits[split])) for split in SPLITS),
        "first": json.dumps(train[0]["prompt"][:200], ensure_ascii=False),
    }
    (built / "algorithms").mkdir()
    (built / "task.yaml").write_text(texts.TASK.format(**values), encoding="utf-8")
    (built / "README.md").write_text(texts.CARD.format(**values), encoding="utf-8")
    (built / "algorithms" / "ppo.yaml").write_text(texts.PPO.format(**values), encoding="utf-8")


def _limit(rows: Sequence[str], step: int, longest: int) -> int:
    """A limit in tokens that holds about 95 % of the texts, rounded up to `step`."""
    words = sorted(len(text.split()) for text in rows)
    usual = words[min(len(words) - 1, math.floor(0.95 * len(words)))] * _TOKENS_PER_WORD + 4
    return min(longest, step * math.ceil(usual / step))
