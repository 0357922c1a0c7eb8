"""`lmrl-bench task new`: creates a task folder that runs at once, from user data or toy data."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl_bench.config.yaml_core import dump_yaml
from lmrl_bench.core.errors import DataError, TaskError
from lmrl_bench.tasks import scaffold_texts as texts
from lmrl_bench.tasks.intake import Columns, Kept, Pairs, as_list, keep, source_rows
from lmrl_bench.tasks.readers import Row
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.task import Task
from lmrl_bench.tasks.writing import split_of, write_rows

_TOKENS_PER_WORD = 2.0  # rough, for the small vocabularies of the shipped policies
_LONGEST_PROMPT, _LONGEST_COMPLETION, _UNKNOWN_COMPLETION = 256, 128, 64

_OWN_SPLITS: Mapping[str, Split] = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test",
}  # fmt: skip
_SFT_STEPS = 400  # upper bound; a minute or two for a shipped policy
_LONGEST_NAME = 100


def new_task(
    name: str,
    folder: Path,
    from_file: Path | None = None,
    prompt_column: str | None = None,
    reference_column: str | Sequence[str] | None = None,
    *,
    references: bool = True,
    splits: Mapping[Split, Path] | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Path:
    """Creates the task folder `folder / name`: definition, card, data with digests, and settings.

    Args:
        name: Lower-case letters, digits and hyphens.
        folder: Parent folder; created if its own parent exists.
        from_file: Data file (.jsonl, .csv or .tsv, optionally with .gz, or .parquet), or a folder
            written by `save_to_disk`, whose splits are kept. Without it, a toy data set is written.
        prompt_column: Prompt column; inferred from the names by default.
        reference_column: Column or columns with reference texts; inferred by default. Data with a
            single column has none.
        references: Whether the rows have references.
        splits: One file per split, instead of `from_file`; missing splits are taken from `train`.
        say: Called with one line for everything that was dropped or changed.

    Returns:
        The new folder.

    Raises:
        TaskError: Invalid name, a folder that exists or cannot be created, or columns that cannot
            be inferred.
        DataError: A file cannot be read, a row is unusable, or there are too few rows to split.
    """
    target = folder / name
    _check_target(name, target)
    columns = [reference_column] if isinstance(reference_column, str) else reference_column or []
    if not references and columns:
        raise TaskError(
            "--no-references and --reference-column exclude each other; remove one of them"
        )
    wanted = Columns(prompt_column, columns if references else None)
    rows = _splits(from_file, splits or {}, wanted)
    for text in rows.notes:
        say(text)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise TaskError(
            f"{folder}: cannot be created ({error.strerror or error}); choose another with --out"
        ) from error
    # Built in a temporary folder and moved at the end: a failure leaves nothing half-finished.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as temporary:
        built = Path(temporary) / name
        _write(built, name, rows)
        for split in SPLITS:
            Task(built).samples(split)
        built.replace(target)
    return target


@dataclass
class _Rows:
    """Rows to write by split, with their origin and remarks for the user."""

    source: str
    how: str
    splits: dict[Split, Pairs]
    notes: list[str]
    columns: list[str]


def _splits(from_file: Path | None, files: Mapping[Split, Path], wanted: Columns) -> _Rows:
    """Reads the rows, keeping the splits of the data if it has any."""
    if from_file and files:
        raise TaskError(
            "--from gives one file to split, --train gives the file of a split; use only one of them"
        )
    if not from_file and not files:
        return _Rows(
            "the toy rows of `lmrl-bench task new`",
            texts.BY_HASH,
            _split(list(_toy()), None),
            [],
            [],
        )
    if files and "train" not in files:
        raise TaskError(
            "--validation and --test require --train; splits that are not given are taken from it"
        )
    sources = [(str(split), files[split]) for split in SPLITS if split in files]
    _require_other_files(sources)
    if from_file:
        sources = [("", from_file)]
    given: dict[str, tuple[Path, Iterable[Row]]] = {
        name: (path, rows)
        for key, path in sources
        for name, rows in _named_splits(key, path).items()
    }
    kept: dict[str, Kept] = {}
    for name, (path, split_rows) in sorted(given.items(), key=lambda item: item[0] != "train"):
        kept[name], chosen = keep(path, split_rows, wanted)
        wanted = dataclasses.replace(chosen, source=name)
    _same_references(kept)
    notes = [
        f"{name}: {text}" if name else text for name, part in kept.items() for text in part.notes
    ]
    columns = list(dict.fromkeys(column for part in kept.values() for column in part.columns))
    notes += [
        f"{name}: lacks the column '{column}' of another split"
        for name, part in kept.items()
        for column in columns
        if column not in part.columns
    ]
    if wanted.references is None:
        notes.append(
            "no references: the reward only checks the answer; choose your own in task.yaml"
        )
    source = ", ".join(dict.fromkeys(path.name for path, _ in given.values()))
    if list(kept) == [""]:
        return _Rows(source, texts.BY_HASH, _split(kept[""].rows, from_file), notes, columns)
    own = {_OWN_SPLITS[name]: part.rows for name, part in kept.items()}
    how, divided = _complete(own, given["train"][0])
    notes += [*_shared_prompts(divided), *_unique_ids(divided)]
    return _Rows(source, how, divided, notes, columns)


def _require_other_files(sources: Sequence[tuple[str, Path]]) -> None:
    """Rejects the same file for two splits: evaluation would test on training data."""
    for number, (name, path) in enumerate(sources):
        for other, earlier in sources[:number]:
            if path.resolve() == earlier.resolve():
                raise TaskError(
                    f"{path}: given for both --{other} and --{name}; give each split its own rows, or "
                    f"omit --{name} to take it from the training rows"
                )


def _shared_prompts(splits: Mapping[Split, Pairs]) -> Iterator[str]:
    """Yields a remark for each evaluation split that repeats training prompts."""
    trained = {row["prompt"] for row in splits["train"]}
    for split in SPLITS[1:]:
        shared = sum(row["prompt"] in trained for row in splits[split])
        if shared:
            yield (
                f"{split}: {shared} of {len(splits[split])} rows have a prompt of the training rows; good "
                "scores may reflect memorization, so remove these rows from one of the splits"
            )


def _named_splits(key: str, path: Path) -> Mapping[str, Iterable[Row]]:
    """Returns a file's rows under its split's name, or a folder's splits under their names."""
    rows = source_rows(path)
    if key or list(rows) == [""]:
        if len(rows) > 1:
            raise TaskError(f"{path}: has the splits {', '.join(rows)}; give it with --from only")
        return {key: next(iter(rows.values()))}
    unknown = [name for name in rows if name not in _OWN_SPLITS]
    names = [_OWN_SPLITS[name] for name in rows if name in _OWN_SPLITS]
    if unknown or "train" not in names or len(set(names)) < len(names):
        raise DataError(
            f"{path}: has the splits {', '.join(rows)}; supported are train and, optionally, "
            "validation and test: rename or remove splits, or save one of them on its own"
        )
    return {_OWN_SPLITS[name]: part for name, part in rows.items()}


def _same_references(kept: Mapping[str, Kept]) -> None:
    """Converts all references to lists if any row has several, so that one definition fits."""
    rows = [row for part in kept.values() for row in part.rows]
    if any(isinstance(row.get("reference"), list) for row in rows):
        for row in rows:
            row["reference"] = as_list(row["reference"])


def _complete(own: Mapping[Split, Pairs], path: Path) -> tuple[str, dict[Split, Pairs]]:
    """Takes missing validation and test splits from the training rows, by a hash of the prompt."""
    missing = [split for split in SPLITS if split not in own]
    if not missing:
        return texts.OWN_SPLITS, {split: own[split] for split in SPLITS}
    divided: dict[Split, Pairs] = {split: list(own.get(split, [])) for split in SPLITS}
    divided["train"] = []
    for row in own["train"]:
        split = split_of(row["prompt"])
        divided[split if split in missing else "train"].append(row)
    _require_rows(divided, own["train"], path)
    return texts.PARTLY_OWN.format(missing=" and ".join(missing)), divided


def _unique_ids(splits: Mapping[Split, Pairs]) -> list[str]:
    """Prefixes ids that repeat across splits with their split's name; returns remarks."""
    seen: set[str] = set()
    notes = []
    for split, rows in splits.items():
        taken = seen | {row["id"] for row in rows}
        again = [row for row in rows if row["id"] in seen]
        for row in again:
            while row["id"] in taken:
                row["id"] = f"{split}-{row['id']}"
        if again:
            notes.append(f"{split}: {len(again)} ids of another split now start with '{split}-'")
        seen |= {row["id"] for row in rows}
    return notes


def _check_target(name: str, target: Path) -> None:
    if (
        not name.replace("-", "").isalnum()
        or name != name.lower()
        or not name[0].isalnum()
        or not name.isascii()
    ):
        raise TaskError(
            f"{name!r:.100} is not a valid task name: use lower-case letters, digits and hyphens, for "
            "example 'my-task'"
        )
    if len(name) > _LONGEST_NAME:
        raise TaskError(
            f"'{name[:40]}...' has {len(name)} characters; a task name has at most {_LONGEST_NAME}"
        )
    if target.exists():
        raise TaskError(
            f"{target} exists and will not be overwritten; choose another name, or remove it"
        )
    folder = target.parent if target.parent.exists() else target.parent.absolute().parent
    if not os.access(folder, os.W_OK):
        raise TaskError(f"{folder} is not a writable folder; create it, or choose another one")


def _toy() -> Iterator[dict[str, Any]]:
    """Yields a few hundred rows of a toy task that a small policy learns fast: reordering words."""
    colors = ("red", "blue", "green", "black", "white", "gray", "brown", "pink")
    things = ("house", "boat", "hat", "door", "stone", "cup", "chair", "leaf", "lamp", "horse")
    sizes = ("small", "large", "old", "new")
    for size, color, thing in itertools.product(sizes, colors, things):
        prompt, reference = f"{size} {color} {thing}", f"the {thing} is {size} and {color}"
        identifier = hashlib.sha1(prompt.encode()).hexdigest()[:12]
        yield {"id": identifier, "prompt": prompt, "reference": reference}


def _split(rows: Pairs, path: Path | None) -> dict[Split, Pairs]:
    """Splits 80/10/10 by a hash of the prompt: equal prompts stay together, splits are stable."""
    splits: dict[Split, Pairs] = {"train": [], "validation": [], "test": []}
    for row in rows:
        splits[split_of(row["prompt"])].append(row)
    _require_rows(splits, rows, path)
    return splits


def _require_rows(splits: Mapping[Split, Pairs], rows: Pairs, path: Path | None) -> None:
    empty = [split for split, part in splits.items() if not part]
    if empty:
        prompts = len({row["prompt"] for row in rows})
        raise DataError(
            f"{path}: {len(rows)} distinct rows are too few, with {prompts} distinct prompts: the split "
            f"{' and '.join(empty)} would be empty, because equal prompts stay together; give at least "
            "a few dozen prompts"
        )


def _write(built: Path, name: str, rows: _Rows) -> None:
    files = "\n".join(
        texts.DATA_FILE.format(
            split=split,
            sha256=write_rows(built / "data" / f"{split}.jsonl.gz", rows.splits[split]),
            rows=len(rows.splits[split]),
        )
        for split in SPLITS
    )
    train = rows.splits["train"]
    completions = [text for row in train for text in as_list(row.get("reference", []))]
    steps = min(_SFT_STEPS, 3 * math.ceil(len(train) / 16))
    values = {
        "name": name,
        "yaml_name": dump_yaml(name).split("\n")[0],
        "references": "reference" if completions else "null",
        "start": "" if completions else texts.FROM_BASE,
        "files": files
        + texts.META.format(columns=_line(", ".join(rows.columns))) * bool(rows.columns),
        "source": _line(rows.source),
        "how": rows.how,
        "prompt_tokens": _limit([row["prompt"] for row in train], 16, _LONGEST_PROMPT),
        "completion_tokens": _limit(completions, 8, _LONGEST_COMPLETION)
        if completions
        else _UNKNOWN_COMPLETION,
        "rows": " / ".join(str(len(rows.splits[split])) for split in SPLITS),
        "columns": ", ".join(f"`{_line(column)}`" for column in rows.columns) or "none",
        "notes": "<br>".join(_line(note).replace("|", "\\|") for note in rows.notes) or "nothing",
        "first": json.dumps(train[0]["prompt"][:200], ensure_ascii=False),
        "steps": steps,
        **texts.METRICS[_kind(completions)],
    }
    (built / "algorithms").mkdir()
    for file, text in (
        ("task.yaml", texts.TASK),
        ("README.md", texts.CARD),
        ("algorithms/ppo.yaml", texts.PPO),
        *([("algorithms/sft.yaml", texts.SFT)] if completions else []),
    ):
        (built / file).write_text(text.format(**values), encoding="utf-8")


def _line(text: str) -> str:
    """Returns user text as a single encodable line."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def _kind(completions: Sequence[str]) -> str:
    """Returns `short`, `words` (readable by ROUGE), `characters`, or `checked` if there are none."""
    if not completions:
        return "checked"
    if all(_is_short(text) for text in completions):
        return "short"
    read = [
        text
        for text in completions
        if len(re.findall("[a-z0-9]", text.lower())) * 2 > len(text.split())
    ]
    return "words" if len(read) * 2 > len(completions) else "characters"


def _is_short(text: str) -> bool:
    """Returns whether a text is a label or number; scripts without spaces need fewer characters."""
    longest = 20 if re.search("[a-z0-9]", text.lower()) else 4
    return len(text.split()) <= 2 and len(text) <= longest


def _limit(rows: Sequence[str], step: int, longest: int) -> int:
    """Returns a token limit that fits about 95 % of the texts, rounded up to `step`."""
    words = sorted(len(text.split()) for text in rows)
    usual = words[min(len(words) - 1, math.floor(0.95 * len(words)))] * _TOKENS_PER_WORD + 4
    return min(longest, step * math.ceil(usual / step))
