"""How far a row was checked, as a word for tables."""

from __future__ import annotations

from lmrl_bench.leaderboards.table import Row

BADGE = "checked"
"""Head of the column."""
LEGEND_LINE = (
    "*checked*: 0 declared (schema and digests fit), 1 rescored (metrics and rewards computed again "
    "from the stored answers), 3 retrained (one seed trained again), 4 replicated (every seed "
    "trained again). A check holds only for the records that it was made of."
)


def badge(row: Row) -> str:
    """Returns "1 rescored"."""
    return f"{row.verification.level} {row.verification.word}"


def checked(row: Row) -> str:
    """Returns "by NAME, 2026-01-02", or that nobody has."""
    found = row.verification
    return f"by {found.by}, {found.date}" if found.by else "checked by nobody yet"
