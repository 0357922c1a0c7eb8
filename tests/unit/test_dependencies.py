"""Imports of tests and of the builders of tasks are declared: a clean environment must have them."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def declared():
    """Returns the names of all distributions that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return {normal(re.match(r"[\w.-]+", text)[0]) for text in texts}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(path):
    """Returns the top-level modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_what_tests_and_tasks_import_is_declared():
    files = [path for name in ("tests", "tasks") for path in (ROOT / name).rglob("*.py")]
    own = {"lmrl_bench", *(path.stem for path in files), *(path.parent.name for path in files)}
    names, distributions = declared(), packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in set(imported(path)) - own - sys.stdlib_module_names
        if not names & {normal(found) for found in distributions.get(module, [module])}
    }
    assert not missing
