"""Checks the words of code and documentation: American spelling, plain phrases, one word per thing.

Run by `make lint`; prints `file:line: words: what to write` for every finding and exits with 1.
The table under "Words" in CONTRIBUTING.md shows the rules; `test_check_words.py` keeps the two together.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

SUFFIXES = frozenset(
    {".py", ".md", ".yaml", ".yml", ".toml", ".html", ".j2", ".css", ".js", ".cff"}
)
"""Only files that people write and read; `Makefile` is added by name."""

EXCLUDED = (
    "tests/language/*",  # quotes the forbidden words
    "tests/fixtures/*",  # texts of toy tasks
    "results/*/*",  # records of runs
    "leaderboards/*/README.md",  # generated, with texts that policies wrote
    "leaderboards/*/index.html",
    "tasks/*/data/*",
)

ALLOWED = (
    "CHANGELOG.md: *",  # says what was renamed
    "CONTRIBUTING.md: *",  # has the table of words to avoid, which a test reads
    "tasks/: licences?",
    "tests/cli/test_commands.py: board",  # an option that is gone
    "lmrl_bench/tasks/intake.py: response",  # a common name of a column
    "tasks/imdb-continuation/: NEIGHBOURS|neighbours",  # plugin.py is part of the task's digest
)
"""`path prefix: pattern` of findings that are right, such as names that another library chose."""


class Rule(NamedTuple):
    """A forbidden pattern and what to write instead."""

    pattern: str
    write: str
    case_sensitive: bool = False


_IZE = (
    r"apolog|atom|author|canonical|categor|central|character|critic|custom|digit|discret|emphas|equal"
    r"|factor|final|formal|general|harmon|homogen|initial|item|linear|local|material|maxim|memor|minim"
    r"|modern|neutral|normal|optim|organ|parallel|parameter|parametr|penal|pessim|polar|prior|quant"
    r"|random|rational|real|recogn|regular|serial|special|stabil|standard|subsid|summar|symbol"
    r"|synchron|token|util|vector|visual"
)
_OUR = r"behavi|col|fav|flav|hon|hum|lab|neighb|harb|endeav|rum|vap|arm"

SPELLING = (
    Rule(
        rf"(?:de|un|re)?(?:{_IZE})is(?:e[drs]?|ers|ing|ation|ations|able)",
        "-ize, -ization",
    ),
    Rule(rf"(?:{_OUR})our(?:s|ed|ing|able|ite|al|ally|less|ful|hood|s')?", "-or"),
    Rule(r"analys(?:e|ed|er|ers|ing)", "analyze"),
    Rule(r"(?:licence|defence|offence|pretence)[sd]?", "-ense: license, defense"),
    Rule(r"(?:centre|fibre|theatre)[sd]?", "center, fiber, theater"),
    Rule(r"catalogue[sd]?", "catalog"),
    Rule(
        r"(?:cancel|channel|label|level|model|signal|total|travel|marshal|fuel)l(?:ed|ing|er|ers)",
        "one l: labeled",
    ),
    Rule(r"artefacts?", "artifact"),
    Rule(r"(?:learnt|spelt|burnt|whilst|amongst)", "learned, spelled, burned, while, among"),
    Rule(r"(?:gr)ey", "gray"),
    Rule(r"(?:judgement|ageing|fulfil|skilful|programmes?|sceptic\w*)", "American spelling"),
    Rule(r"maths", "math"),
)

PHRASES = (
    Rule(r"beside", "next to, with, compared with"),
    Rule(r"mend(?:s|ed|ing)?", "fix"),
    Rule(r"anew", "again"),
    Rule(
        r"(?<!there )(?:is|are|was|were) no(?! (?:longer|more|less|larger|smaller|better|worse|matter)\b) [a-z]\w*",
        "is not a …; has no …",
    ),
    Rule(r"that (?:is|are) (?:here|there)", "current, existing, installed"),
    Rule(r"told (?:\w+ )?from", "distinguished from"),
    Rule(r"so many", "this many, that many"),
    Rule(r"(?:goes|go|going|went) on with", "continue"),
    Rule(r"some(?:body|body's)", "someone, a user"),
    Rule(r"in place of", "instead of"),
    Rule(r"of (?:itself|themselves|its own accord)", "by itself; its own"),
    Rule(r"(?<=[.:;] )Else\b,? [a-z]", "Otherwise", case_sensitive=True),
    Rule(r"lies? (?:beside|next|at hand)", "is next to, is available"),
)

WORDS = (
    Rule(r"(?<!Tensor )boards?", "leaderboard"),
    Rule(r"responses?", "completion"),
    Rule(r"action mask", "token filter"),
    Rule(r"assets?", "download"),
    Rule(r"score ranges?", "score normalization"),
    Rule(r"start(?:ing)? polic(?:y|ies)", "initial policy"),
    Rule(r"supervised (?:polic(?:y|ies)|starts?|entr(?:y|ies)|samples?|steps?)", "SFT policy"),
    Rule(r"nlpo[ -]released", "nlpo-rl4lms"),
)
"""One word per thing: former names of things."""

OPENINGS = re.compile(
    r"(?:What|Which|Where|Who|How (?:many|much|far|often|probably|long|varied)|Of)\b"
)
"""A summary names the thing or says what the function does; it is not an indirect question."""
WHETHER = re.compile(r"Whether\b")


@dataclass(frozen=True)
class Finding:
    """Words at a place, and what to write instead."""

    path: str
    line: int
    words: str
    write: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.words}: {self.write}"


def compiled(rules: Iterable[Rule]) -> list[tuple[re.Pattern[str], str]]:
    """Returns the patterns of whole words with what to write instead."""
    return [
        (
            re.compile(
                rf"(?<![A-Za-z])(?:{rule.pattern})(?![A-Za-z])",
                0 if rule.case_sensitive else re.IGNORECASE,
            ),
            rule.write,
        )
        for rule in rules
    ]


def words_of(text: str) -> tuple[str, list[int]]:
    """Splits identifiers into words and joins wrapped lines, so that one pattern finds all spellings.

    Returns:
        The text on one line, and the line number (from 1) of each of its characters.
    """
    pieces: list[str] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        # A comment's or a quotation's marker must not separate the words of one sentence.
        line = re.sub(r"^\s*(?:#:?|>|\*|//)?\s*", "", line)
        line = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_|\s+", " ", line) + " "
        pieces.append(line)
        lines += [number] * len(line)
    return "".join(pieces), lines


def find_words(path: str, text: str, rules: Iterable[Rule]) -> Iterator[Finding]:
    """Yields every match of the rules in a text of any kind."""
    joined, lines = words_of(text)
    for pattern, write in compiled(rules):
        for match in pattern.finditer(joined):
            yield Finding(path, lines[match.start()], match.group(), write)


def find_openings(path: str, text: str) -> Iterator[Finding]:
    """Yields docstring summaries of Python code that are indirect questions."""
    for node, is_property, docstring in _docstrings(ast.parse(text)):
        opening = OPENINGS.match(docstring)
        if opening:
            yield Finding(
                path, node.lineno, opening.group(), "name the thing, or start with a verb"
            )
        elif WHETHER.match(docstring) and isinstance(node, ast.FunctionDef) and not is_property:
            yield Finding(path, node.lineno, "Whether", "Returns whether …")


def _docstrings(tree: ast.Module) -> Iterator[tuple[ast.stmt, bool, str]]:
    """Yields docstrings of modules, classes, functions and attributes with their statement."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for before, statement in pairwise([None, *node.body]):
            if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
                continue
            docstring = statement.value.value
            if not isinstance(docstring, str):
                continue
            if before is None:
                owner = statement if isinstance(node, ast.Module) else node
                yield owner, _is_property(node), docstring.lstrip()
            elif isinstance(before, ast.Assign | ast.AnnAssign):
                yield statement, True, docstring.lstrip()


def _is_property(node: ast.AST) -> bool:
    names = [
        getattr(item, "attr", getattr(item, "id", ""))
        for item in getattr(node, "decorator_list", [])
    ]
    return bool({"property", "cached_property"} & set(names))


def findings(path: str, text: str) -> list[Finding]:
    """Returns all findings in one file, by line."""
    found = find_words(path, text, chain(SPELLING, PHRASES, WORDS))
    if path.endswith(".py"):
        found = chain(found, find_openings(path, text))
    allowed = [entry.split(": ", 1) for entry in ALLOWED]
    kept = [
        finding
        for finding in found
        if not any(
            path.startswith(prefix)
            and (pattern == "*" or re.fullmatch(pattern, finding.words, re.IGNORECASE))
            for prefix, pattern in allowed
        )
    ]
    return sorted(kept, key=lambda finding: finding.line)


def checked_paths() -> list[str]:
    """Returns the tracked files that are checked, relative to the root of the repository."""
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [
        path
        for path in listing.splitlines()
        if (Path(path).suffix in SUFFIXES or path == "Makefile")
        and not any(fnmatch(path, pattern) for pattern in EXCLUDED)
        and (ROOT / path).is_file()
    ]


def main(arguments: list[str]) -> int:
    """Checks the given files, or all."""
    paths = arguments or checked_paths()
    count = 0
    for path in paths:
        for finding in findings(path, (ROOT / path).read_text(encoding="utf-8")):
            print(finding)
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
