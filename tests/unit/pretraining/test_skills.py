"""Skills against closed forms, and the shipped rows against their generator."""

import gzip
import itertools
import json
import string

import numpy as np
import pytest

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.paths import bundled
from lmrl_bench.pretraining.skills import (
    FAMILIES,
    SKILL_TASKS,
    draw_texts,
    held_out_texts,
    task_rows,
)
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.spec import SPLITS
from lmrl_bench.tasks.writing import write_rows

ROWS = {"train": 20_000, "validation": 512, "test": 1_024}
CLOSED_FORMS = {
    "copy": lambda text: text,
    "reverse": lambda text: text[::-1],
    "ascending": lambda text: "".join(sorted(text)),
    "descending": lambda text: "".join(sorted(text, reverse=True)),
    "sum": lambda text: str(sum(map(int, text))),
    "max": lambda text: str(max(map(int, text))),
    "range": lambda text: str(max(map(int, text)) - min(map(int, text))),
    "odd-count": lambda text: str(sum(int(digit) % 2 for digit in text)),
}
TARGETS = {"letters": "ascending", "letters-hard": "ascending", "digits": "sum"}


def stored(name, split):
    path = bundled("tasks") / name / "data" / f"{split}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def test_every_skill_is_its_closed_form():
    for family in FAMILIES.values():
        texts = draw_texts(family.alphabet, family.lengths, 200, np.random.default_rng(1))
        for skill in family.skills:
            closed_form = CLOSED_FORMS[skill.name]
            assert [skill.answer(text) for text in texts] == [closed_form(text) for text in texts]
    assert [skill.answer("3190") for skill in FAMILIES["digits"].skills] == ["9", "9", "3", "13"]


def test_shares_of_a_mixture_add_up_to_one():
    for family in FAMILIES.values():
        assert sum(skill.share for skill in family.skills) == pytest.approx(1.0)
    assert {skill.name: skill.share for skill in FAMILIES["letters"].skills} == {
        "copy": 0.3, "reverse": 0.3, "descending": 0.2, "ascending": 0.2,
    }  # fmt: skip
    assert {skill.share for skill in FAMILIES["digits"].skills} == {0.25}


@pytest.mark.parametrize("name", SKILL_TASKS)
def test_shipped_rows_are_what_the_generator_gives(name, tmp_path):
    rows = task_rows(name)
    task = load_task(name)
    for split in SPLITS:
        assert stored(name, split) == rows[split]
        assert len(rows[split]) == ROWS[split]
    # Bytes: the smallest file, because compression is what takes the time.
    assert write_rows(tmp_path / "x.jsonl.gz", rows["validation"]) == (
        task.spec.data.validation.sha256
    )
    assert file_sha256(task.folder / "data" / "test.jsonl.gz") == task.spec.data.test.sha256


@pytest.mark.parametrize("name", SKILL_TASKS)
def test_rows_are_right_distinct_and_of_all_lengths(name):
    skill_task = SKILL_TASKS[name]
    family = FAMILIES[skill_task.family]
    rows = {split: stored(name, split) for split in SPLITS}
    everything = [row["prompt"] for split in SPLITS for row in rows[split]]
    assert len(set(everything)) == len(everything)
    for row in itertools.chain.from_iterable(rows.values()):
        text = row["prompt"].removesuffix("=")
        assert row["prompt"] == f"{text}="
        assert row["reference"] == CLOSED_FORMS[TARGETS[name]](text)
        assert len(text) in skill_task.lengths
        assert set(text) <= set(family.alphabet)
    for split in SPLITS:
        counts = np.bincount([len(row["prompt"]) - 1 for row in rows[split]])
        assert set(np.flatnonzero(counts)) == set(skill_task.lengths)


def test_letters_and_lengths_are_those_of_the_tasks():
    assert FAMILIES["letters"].alphabet == string.ascii_lowercase
    assert FAMILIES["digits"].alphabet == string.digits
    lengths = {name: (min(t.lengths), max(t.lengths)) for name, t in SKILL_TASKS.items()}
    assert lengths == {"letters": (4, 8), "letters-hard": (5, 9), "digits": (4, 6)}


@pytest.mark.parametrize("name", SKILL_TASKS)
def test_another_skill_of_the_mixture_earns_nothing(name):
    """Otherwise a policy that copies its prompt scores on rows that are sorted already."""
    skills = FAMILIES[SKILL_TASKS[name].family].skills
    for row in itertools.chain.from_iterable(stored(name, split) for split in SPLITS):
        text = row["prompt"][:-1]
        others = {skill.answer(text) for skill in skills if skill.name != TARGETS[name]}
        assert row["reference"] not in others


@pytest.mark.parametrize("name", SKILL_TASKS)
def test_only_the_first_rows_are_labeled(name):
    labeled = [row["labeled"] for row in stored(name, "train")]
    assert labeled == [True] * 500 + [False] * 19_500
    assert len(load_task(name).sft_samples()) == 500


def test_held_out_texts_are_those_of_every_task_of_the_family():
    held_out = held_out_texts("letters")
    expected = {
        row["prompt"][:-1]
        for name in ("letters", "letters-hard")
        for split in ("validation", "test")
        for row in stored(name, split)
    }
    assert len(held_out ^ expected) == 0  # a difference of sets this large takes minutes to print
    assert len(held_out_texts("digits")) == 1_536
