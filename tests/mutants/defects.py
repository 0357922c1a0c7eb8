"""Planted defects: a function, found by its name wherever it is, a pattern in it and a replacement.

Patterns are compared by token. Neither the file of a function, nor its indentation, nor how the
formatter wraps its lines matters, so that moved or reformatted code keeps its defects.
"""

from __future__ import annotations

import ast
import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEFECTS = Path(__file__).with_name("defects.yaml")

# Not the tokenize module: it refuses fragments with an open bracket, which patterns often are.
_TOKEN = re.compile(
    r"""
    (?P<space>  \s+ | \\\n | \#[^\n]*)
  | (?P<text>   [A-Za-z]{0,2}(?:\"\"\"(?:\\.|.)*?\"\"\"|'''(?:\\.|.)*?'''
                              |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
  | (?P<word>   \d(?:[eE][+-]|[\w.])*|\w+)
  | (?P<sign>   \*\*=?|//=?|<<=?|>>=?|->|\.\.\.|[-+*/%@&|^=!<>:]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Place:
    """A definition: its module, the file (relative to the folder of the package) and its lines."""

    module: str
    file: str
    source: str
    start: int
    end: int


class Package:
    """The definitions of a package by qualified name, e.g. `gae`, `PPOConfig`, `PPO.update`.

    Args:
        folder: The package's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, list[Place]] = {}
        for path in sorted(folder.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            file = path.relative_to(folder)
            parts = file.with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            for name, start, end in _definitions(source):
                place = Place(module, str(file), source, start, end)
                self._places.setdefault(name, []).append(place)

    def find(self, function: str, module: str = "") -> list[Place]:
        """Returns the definitions of a name in one module; a property has one for each accessor.

        Args:
            function: The qualified name of a function, class or variable.
            module: The last parts of the module's name, where several modules define the name.

        Raises:
            ValueError: No module or several modules define the name.
        """
        named = self._places.get(function, [])
        found = [
            place for place in named if f".{place.module}".endswith(f".{module}" if module else "")
        ]
        modules = sorted({place.module for place in found})
        where = f" in a module {module!r}" if module else ""
        if not modules:
            others = sorted({place.module for place in named})
            near = others or difflib.get_close_matches(function, self._places, 3)
            raise ValueError(
                f"no {function!r}{where}" + (f"; did you mean {', '.join(near)}?" if near else "")
            )
        if len(modules) > 1:
            raise ValueError(
                f"{function!r} is defined{where} in {', '.join(modules)}: add `module:`"
            )
        return found


@dataclass(frozen=True)
class Defect:
    """One defect of `defects.yaml`; `tests` are pytest's names without parameters."""

    id: str
    pitfall: str
    function: str
    pattern: str
    replacement: str
    tests: tuple[str, ...]
    module: str = ""

    def planted(self, package: Package) -> tuple[str, str]:
        """Returns the file to change, relative to the package, and its source with the defect.

        Raises:
            ValueError: The function or the pattern is not there exactly once, or nothing changes.
        """
        try:
            places = package.find(self.function, self.module)
        except ValueError as error:
            raise ValueError(f"{self.id}: {error}") from None
        found = [(place, *span) for place in places for span in _matches(place, self.pattern)]
        if len(found) != 1:
            raise ValueError(
                f"{self.id}: the pattern occurs {len(found)} times in {self.function} "
                f"({places[0].file}), must occur once: {self.pattern!r}"
            )
        place, start, end = found[0]
        line = place.source[place.source.rfind("\n", 0, start) + 1 : start]
        indentation = line[: len(line) - len(line.lstrip())]
        new = re.sub(r"\n(?=[^\n])", f"\n{indentation}", self.replacement.rstrip("\n"))
        if new == place.source[start:end]:
            raise ValueError(f"{self.id}: the replacement equals the pattern: {self.pattern!r}")
        return place.file, place.source[:start] + new + place.source[end:]


@functools.cache
def package_of() -> Package:
    """Returns the definitions of `lmrl_bench`, read once."""
    return Package(ROOT / "lmrl_bench")


def load_defects() -> list[Defect]:
    """Reads `defects.yaml`."""
    rows = yaml.safe_load(DEFECTS.read_text(encoding="utf-8"))
    return [Defect(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def _definitions(source: str) -> Iterator[tuple[str, int, int]]:
    """Yields name, start and end of each function, class and variable, but for those in functions."""
    starts = [0, *(match.end() for match in re.finditer("\n", source))]
    starts.append(len(source))

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
        for inner in ast.iter_child_nodes(node):
            names = []
            if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names = [inner.name]
            elif isinstance(inner, ast.Assign | ast.AnnAssign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            first = min(
                [inner, *getattr(inner, "decorator_list", [])],
                key=lambda n: getattr(n, "lineno", 0),
            )
            for name in names:
                yield f"{prefix}{name}", starts[first.lineno - 1], starts[inner.end_lineno]
            if isinstance(inner, ast.ClassDef):
                yield from walk(inner, f"{prefix}{inner.name}.")
            elif isinstance(inner, ast.If | ast.Try | ast.With):
                yield from walk(inner, prefix)

    yield from walk(ast.parse(source), "")


def _matches(place: Place, pattern: str) -> Iterator[tuple[int, int]]:
    """Yields where in the source the tokens of the pattern occur."""
    wanted = [token.group() for token in _tokens(pattern)]
    tokens = _tokens(place.source[place.start : place.end])
    texts = [token.group() for token in tokens]
    for number in range(len(texts) - len(wanted) + 1 if wanted else 0):
        if texts[number : number + len(wanted)] == wanted:
            end = place.start + tokens[number + len(wanted) - 1].end()
            # The comma at the end of a pattern is optional (see _tokens), but goes with it.
            comma = pattern.rstrip().endswith(",") and re.compile(r"\s*,").match(place.source, end)
            yield place.start + tokens[number].start(), comma.end() if comma else end


def _tokens(code: str) -> list[re.Match[str]]:
    """Returns the tokens of code; commas before a closing bracket come and go with the wrapping."""
    found = [match for match in _TOKEN.finditer(code) if match.lastgroup != "space"]
    following = [*(match.group() for match in found[1:]), ")"]
    return [
        match for match, after in zip(found, following, strict=True)
        if not (match.group() == "," and after in (")", "]", "}"))
    ]  # fmt: skip
