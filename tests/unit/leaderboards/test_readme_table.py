"""The table in README is the quickstart leaderboard's, to the letter."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def first_table(text: str) -> str:
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| entry |"))
    stop = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    return "\n".join(lines[start:stop])


def test_the_readme_shows_what_the_leaderboard_says():
    leaderboard = first_table((ROOT / "leaderboards" / "quickstart" / "README.md").read_text())
    shown = (ROOT / "README.md").read_text().split("<!-- leaderboard:begin -->")[1]
    assert first_table(shown.split("<!-- leaderboard:end -->")[0]) == leaderboard
