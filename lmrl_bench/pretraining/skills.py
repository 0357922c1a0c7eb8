"""Skills on short strings: rows of the verifiable tasks, and the mixtures of their base policies.

A family is a set of skills that read the same prompts, so that a prompt does not say which answer
is wanted. A base policy learns all of them; a task rewards one. Everything here is generated from
named seeds: `build.py` of each task writes the same rows again.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lmrl_bench.core.paths import bundled
from lmrl_bench.core.seeding import generator
from lmrl_bench.pretraining.corpus import json_rows
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.writing import write_or_compare

END_OF_PROMPT: Final = "="
"""Closes every prompt. A visible character: policies need not spend a token on a space."""

ROWS: Final[dict[Split, int]] = {"train": 20_000, "validation": 512, "test": 1_024}
LABELED_ROWS: Final = 500
"""First training rows, whose answers supervised fine-tuning may read."""


@dataclass(frozen=True)
class Skill:
    """A function from string to answer, and its share of the pretraining examples."""

    name: str
    share: float
    answer: Callable[[str], str]


@dataclass(frozen=True)
class Family:
    """Skills that share their prompts.

    Attributes:
        alphabet: Characters of the prompts, all equally likely.
        lengths: Numbers of characters, all equally likely.
        skills: The mixture.
    """

    alphabet: str
    lengths: range
    skills: tuple[Skill, ...]


@dataclass(frozen=True)
class SkillTask:
    """A task that rewards one skill of a family, on prompts of some lengths."""

    family: str
    skill: str
    lengths: range


def _digits(text: str) -> list[int]:
    return [int(character) for character in text]


FAMILIES: Final = {
    "letters": Family(
        string.ascii_lowercase,
        range(4, 10),
        (
            Skill("copy", 0.3, lambda text: text),
            Skill("reverse", 0.3, lambda text: text[::-1]),
            Skill("descending", 0.2, lambda text: "".join(sorted(text, reverse=True))),
            Skill("ascending", 0.2, lambda text: "".join(sorted(text))),
        ),
    ),
    "digits": Family(
        string.digits,
        range(4, 7),
        (
            Skill("max", 0.25, lambda text: str(max(_digits(text)))),
            Skill("range", 0.25, lambda text: str(max(_digits(text)) - min(_digits(text)))),
            Skill("odd-count", 0.25, lambda text: str(sum(digit % 2 for digit in _digits(text)))),
            Skill("sum", 0.25, lambda text: str(sum(_digits(text)))),
        ),
    ),
}
SKILL_TASKS: Final = {
    "letters": SkillTask("letters", "ascending", range(4, 9)),
    "letters-hard": SkillTask("letters", "ascending", range(5, 10)),
    "digits": SkillTask("digits", "sum", range(4, 7)),
}


def draw_texts(
    alphabet: str,
    lengths: range,
    count: int,
    rng: np.random.Generator,
    excluded: Collection[str] = (),
) -> list[str]:
    """Returns `count` random strings, none of them in `excluded`; repetitions are possible."""
    texts: list[str] = []
    while len(texts) < count:
        length = int(rng.integers(lengths.start, lengths.stop))
        text = "".join(alphabet[i] for i in rng.integers(len(alphabet), size=length))
        if text not in excluded:
            texts.append(text)
    return texts


def task_rows(name: str) -> dict[Split, list[dict[str, Any]]]:
    """Returns the rows of a task by split; no prompt occurs twice.

    Prompts on which another skill of the family gives the wanted answer, such as a string that is
    sorted already, are left out: a policy that uses another skill earns nothing.

    Args:
        name: A task in `SKILL_TASKS`.
    """
    task = SKILL_TASKS[name]
    family = FAMILIES[task.family]
    wanted = next(skill.answer for skill in family.skills if skill.name == task.skill)
    others = [skill.answer for skill in family.skills if skill.name != task.skill]
    seen: set[str] = set()
    splits: dict[Split, list[dict[str, Any]]] = {}
    for split in reversed(SPLITS):  # the held-out splits first: they are random among all strings
        rng = generator(0, "skills", name, split)
        rows: list[dict[str, Any]] = []
        while len(rows) < ROWS[split]:
            text = draw_texts(family.alphabet, task.lengths, 1, rng, seen)[0]
            seen.add(text)
            if wanted(text) not in {other(text) for other in others}:
                labeled = split != "train" or len(rows) < LABELED_ROWS
                rows.append(
                    {"prompt": text + END_OF_PROMPT, "reference": wanted(text), "labeled": labeled}
                )
        splits[split] = rows
    return {split: splits[split] for split in SPLITS}


def held_out_texts(family: str, folder: Path | None = None) -> frozenset[str]:
    """Returns the strings of validation and test prompts, which no base policy may see.

    Args:
        family: A name in `FAMILIES`.
        folder: Folder of the tasks; default: the shipped ones.
    """
    return frozenset(
        row["prompt"].removesuffix(END_OF_PROMPT)
        for path in data_folders(family, folder)
        for split, row in json_rows(path, ("prompt",))
        if split != "train"
    )


def data_folders(family: str, folder: Path | None = None) -> list[Path]:
    """Returns the data folders of a family's tasks."""
    root = bundled("tasks") if folder is None else folder
    return [root / name / "data" for name, task in SKILL_TASKS.items() if task.family == family]


def build(folder: Path) -> None:
    """Writes the data of the task in `folder`, or compares them (`--check`), and exits."""
    parser = argparse.ArgumentParser(description=f"Writes the data of the task {folder.name}.")
    parser.add_argument("--check", action="store_true", help="compare with data/, write nothing")
    parser.add_argument("--out", type=Path, default=folder / "data")
    options = parser.parse_args()
    sys.exit(
        0 if write_or_compare(task_rows(folder.name), options.out, compare=options.check) else 1
    )
