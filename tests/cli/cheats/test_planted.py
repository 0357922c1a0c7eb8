"""Every planted cheat is refused; what is believed is listed, with the reason."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

import pytest
from fixtures.runs import call
from planted import BELIEVED, CHEATS
from pydantic import BaseModel

from lmrl_bench.leaderboards.verification import Check
from lmrl_bench.records.curves import TrainingPoint, ValidationPoint
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.samples import COLUMNS
from lmrl_bench.verification.bounds_table import BOUNDS, table


def accepted(handed, capsys) -> tuple[bool, str]:
    """Returns whether `validate` and `rescore` both accept the results; a traceback is not a refusal."""
    said = ""
    for command in (
        ("validate", handed.folder, "--leaderboard", handed.leaderboard),
        ("rescore", handed.folder),
    ):
        done = call(capsys, "results", *command)
        assert "Traceback" not in done.err
        assert done.code in (0, 3), (done.code, done.err)
        said += done.err
        if done.code == 3:
            return False, said
    return True, said


@pytest.mark.parametrize("name", CHEATS)
def test_a_planted_cheat_is_refused(handed, capsys, name):
    CHEATS[name](handed)
    taken, said = accepted(handed, capsys)
    assert not taken
    file = name.split(":")[0]
    assert "toy/" in said
    assert file == "record.json" or file in said or "toy/ppo/1" in said, said


def test_an_answer_that_is_not_the_text_of_its_ids_is_named(handed, capsys):
    """Whatever else refuses it: a cheater who also moves the scores meets this check alone."""
    CHEATS["samples.parquet: completion: another text"](handed)
    assert "is not the text of completion_ids" in accepted(handed, capsys)[1]


@pytest.mark.parametrize("name", BELIEVED)
def test_what_is_believed(handed, capsys, name):
    BELIEVED[name](handed)
    taken, said = accepted(handed, capsys)
    assert taken, said


def covers(field: str, pattern: str) -> bool:
    """Returns whether a cheat about `field` violates the bound of `pattern`."""
    plain = pattern.replace(".*", "").rstrip("*")
    return fnmatch(field, pattern) or field.startswith(plain) or plain.startswith(field)


@pytest.mark.parametrize(
    "bound", [bound for bound in BOUNDS if bound.bound], ids=lambda b: f"{b.file}: {b.fields[0]}"
)
def test_every_bound_has_a_cheat(bound):
    keys = [name.split(": ")[:2] for name in CHEATS]
    found = [
        field
        for file, field in keys
        if file == bound.file and any(covers(field, p) for p in bound.fields)
    ]
    assert found


@pytest.mark.parametrize(
    ("file", "model"),
    [("record.json", RunRecord), ("curves.jsonl", TrainingPoint), ("curves.jsonl", ValidationPoint),
     ("verification.json", Check)],
)  # fmt: skip
def test_every_field_has_a_bound(file, model):
    patterns = [pattern for bound in BOUNDS if bound.file == file for pattern in bound.fields]
    fields = [name for name in leaves(model) if name not in ("kind",)]
    assert len(fields) > 4
    lacking = [
        name
        for name in fields
        if not any(fnmatch(n, p) for n in (name, f"{name}.x") for p in patterns)
    ]
    assert lacking == []


def test_every_column_has_a_bound():
    patterns = [
        pattern for bound in BOUNDS if bound.file == "samples.parquet" for pattern in bound.fields
    ]
    assert [
        name for name in COLUMNS if not any(fnmatch(name, pattern) for pattern in patterns)
    ] == []


def leaves(model, path=""):
    """The fields of a model, those of models inside it by their path."""
    for name, info in model.model_fields.items():
        inner = [kind for kind in kinds(info.annotation) if issubclass(kind, BaseModel)]
        whole = f"{path}{info.alias or name}"
        if inner:
            several = "dict" in str(info.annotation)
            yield from leaves(inner[0], f"{whole}.*." if several else f"{whole}.")
        else:
            yield whole


def kinds(annotation):
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in kinds(part)]


def test_the_documentation_shows_the_table(capsys):
    text = (Path(__file__).parents[3] / "results" / "README.md").read_text()
    assert text.split("<!-- bounds -->\n")[1].split("\n<!-- /bounds -->")[0] == table()
    assert call(capsys, "results", "bounds").out.strip() == table()


def test_there_are_enough():
    assert len(CHEATS) >= 120
