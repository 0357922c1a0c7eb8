"""The table of pitfalls, the planted defects and the tests that both name stay together."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from mutants.defects import ROOT, Defect, Package, load_defects, package_of

TESTS = ROOT / "tests"
COUNTS = {"A": 15, "B": 12, "C": 14, "D": 10, "E": 6, "F": 10}
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
    """Its pattern occurs once in its function, the result is Python, and its tests exist."""
    file, planted = defect.planted(package_of())
    compile(planted, file, "exec")
    assert defect.tests
    assert [name for name in defect.tests if not exists(name, ROOT)] == []


MEAN = "def mean():\n    return 1\n"
SUM = """
class Sum:
    def update(self, values):
        total = self.total + values.sum(axis=0)
        return total
"""


def package(folder, **modules):
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    return Package(folder)


def defect(function, pattern, replacement, module=""):
    return Defect("broken", "A1", function, pattern, replacement, (), module)


@pytest.mark.parametrize(
    "update",
    [
        "total = self.total + values.sum(axis=0)\n    return total",
        "total = self.total + values.sum(  # of each column\n        axis=0,\n    )\n    return total",
    ],
)
@pytest.mark.parametrize("indent", ["  ", "    "])
def test_a_defect_applies_wherever_and_however_its_function_is_written(update, indent, tmp_path):
    source = f"class Sum:\n  def update(self, values):\n    {update}\n".replace("  ", indent)
    planted = defect(
        "Sum.update", "total = self.total + values.sum(axis=0)", "total = 1\nif total:\n    pass"
    )
    file, changed = planted.planted(package(tmp_path, elsewhere=source))
    assert file == "elsewhere.py"
    function = ast.parse(changed).body[0].body[0]
    assert [ast.unparse(line) for line in function.body] == [
        "total = 1", "if total:\n    pass", "return total"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (("Sum.updates", "total", "0"), "no 'Sum.updates'; did you mean Sum.update"),
        (("Sum.update", "tota", "0"), "occurs 0 times in Sum.update .sums.py."),
        (("Sum.update", "total", "0"), "occurs 3 times in Sum.update"),
        (("Sum.update", "return total", "return total"), "equals the pattern"),
        (("Sum", "return", "pass", "mean"), "no 'Sum' in a module 'mean'; did you mean sums"),
        (("mean", "return", "pass"), "'mean' is defined in means, more_means: add `module:`"),
    ],
)
def test_a_wrong_address_is_named(address, message, tmp_path):
    modules = package(tmp_path, sums=SUM, means=MEAN, more_means=MEAN)
    with pytest.raises(ValueError, match=f"^broken: .*{message}"):
        defect(*address).planted(modules)


def test_a_module_tells_two_functions_of_one_name_apart(tmp_path):
    planted = defect("mean", "1", "2", "means")
    file, changed = planted.planted(package(tmp_path, means=MEAN, more_means=MEAN))
    assert (file, changed) == ("means.py", MEAN.replace("1", "2"))
