"""The word check finds a planted violation of every kind, and the documented rules are the checked ones."""

import pytest
from check_words import ROOT, checked_paths, findings


def table() -> list[str]:
    """Returns the forbidden words of the table in CONTRIBUTING.md."""
    section = (
        (ROOT / "CONTRIBUTING.md")
        .read_text(encoding="utf-8")
        .split("### Words")[1]
        .split("\n### ")[0]
    )
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")][
        2:
    ]
    return [
        word.strip(" `")
        for _, forbidden in rows
        if '"' not in forbidden
        for word in forbidden.split(", ")
    ]


def words(text: str, path: str = "x.md") -> list[str]:
    return [finding.words for finding in findings(path, text)]


def test_every_word_of_the_documented_table_is_found() -> None:
    assert len(table()) > 15
    for word in table():
        assert words(f"One {word} here."), word


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# the optimiser's state", "optimiser"),
        ("optimiser_steps = 1", "optimiser"),
        ("class TokeniserRules: pass", "Tokeniser"),
        ("MAX_COLOURS = 2", "COLOURS"),
        ("# it is told\n# from PPO", "told from"),
        ('raise ValueError(f"{key!r} is no index")', "is no index"),
        ("help = 'weights that are here'", "that are here"),
        ('"""Which episodes make a gradient step."""', "Which"),
        ('def f():\n    """Whether it ended."""', "Whether"),
        ('class A:\n    """What one step met."""', "What"),
        ('X = 1\n"""Of whole numbers."""', "Of"),
    ],
)
def test_a_planted_violation_is_found(text: str, found: str) -> None:
    assert words(text, "x.py") == [found]


@pytest.mark.parametrize(
    "text",
    [
        "there is no index, and it is no longer used; besides, a recommendation",
        "the analyses; likewise, otherwise, an exercise, a promise, a surprise, precise",
        'class A:\n    @property\n    def ended(self):\n        """Whether it ended."""',
    ],
)
def test_plain_english_passes(text: str) -> None:
    assert words(text, "x.py" if "class" in text else "x.md") == []


def test_findings_name_file_line_and_remedy() -> None:
    assert (
        str(findings("a.md", "one\n\nbeside it")[0])
        == "a.md:3: beside: next to, with, compared with"
    )


def test_the_checked_files_are_clean() -> None:
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in checked_paths()}
    found = [finding for path, text in texts.items() for finding in findings(path, text)]
    assert not found, "\n".join(map(str, found))
