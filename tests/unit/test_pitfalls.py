"""The table of pitfalls, the planted defects and the tests that both name stay together."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from mutants.run import ROOT, load_defects

TESTS = ROOT / "tests"
COUNTS = {"A": 15, "B": 12, "C": 14, "D": 10, "E": 6, "F": 8}
DEFECTS = load_defects()


def table():
    """Returns the rows of PITFALLS.md: pitfall to text, tests and defects."""
    rows = {}
    for line in (TESTS / "PITFALLS.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[A-F]\d+", cells[0]):
            assert cells[0] not in rows
            rows[cells[0]] = (cells[1], *(re.findall(r"`([^`]+)`", cell) for cell in cells[2:]))
    return rows


@functools.cache
def names_of(path):
    """Returns the names of the tests in a file, with their classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{inner.name}" for inner in node.body if hasattr(inner, "name")}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return {name for name in names if name.split("::")[-1].startswith("test_")}


def exists(name, root):
    file, _, test = name.partition("::")
    return (root / file).is_file() and test in names_of(root / file)


def test_every_pitfall_has_tests_that_exist():
    rows = table()
    assert list(rows) == [
        f"{letter}{n}" for letter, count in COUNTS.items() for n in range(1, count + 1)
    ]
    for pitfall, (_, tests, _) in rows.items():
        assert tests, pitfall
        assert [name for name in tests if not exists(name, TESTS)] == [], pitfall


def test_every_pitfall_has_a_defect_or_the_reason_why_it_cannot_occur():
    rows = table()
    planted = {pitfall: [d.id for d in DEFECTS if d.pitfall == pitfall] for pitfall in rows}
    assert sum(map(len, planted.values())) == len(DEFECTS)
    for pitfall, (text, _, defects) in rows.items():
        assert sorted(defects) == sorted(planted[pitfall]), pitfall
        assert bool(defects) != ("Cannot occur:" in text), pitfall


def test_there_are_enough_defects_each_named_once():
    assert len(DEFECTS) == len({defect.id for defect in DEFECTS}) >= 40


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.id)
def test_a_defect_still_applies(defect):
    """Its text stands in the code exactly once, the result is Python, and its tests exist."""
    source = (ROOT / "lmrl_bench" / defect.file).read_text(encoding="utf-8")
    compile(defect.planted(source), defect.file, "exec")
    assert defect.tests
    assert [name for name in defect.tests if not exists(name, ROOT)] == []


def test_a_text_that_is_gone_or_there_twice_is_refused():
    defect = DEFECTS[0]
    for source in ("", 2 * defect.text):
        with pytest.raises(ValueError, match=defect.id):
            defect.planted(source)
    assert defect.planted(f"x{defect.text}y") == f"x{defect.replacement}y"
