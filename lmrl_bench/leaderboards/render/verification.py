"""The verification level of an entry, as a word for tables."""

from __future__ import annotations

from lmrl_bench.leaderboards.table import EntryResults

BADGE = "checked"
"""Head of the column."""
LEGEND_LINE = (
    "*checked*: 0 declared (schema and digests fit), 1 rescored (metrics and rewards computed again "
    "from the stored answers), 3 retrained (one seed trained again), 4 replicated (every seed "
    "trained again). *Same bits* is strong; *interval only* says that the primary metric lies where "
    "one more seed is expected, which with three seeds is wide. A check holds only for the records "
    "that it was made of."
)


def badge(entry: EntryResults) -> str:
    """Returns "1 rescored"; of what was trained again, also how it agreed: "3 retrained, same bits"."""
    found = entry.verification
    bits, loose = len(found.bitwise), len(found.interval)
    how = f", {bits} same bits, {loose} interval only" if bits and loose else ""
    how = how or (", same bits" if bits else ", interval only" if loose else "")
    return f"{found.level} {found.word}{how}"


def checked(entry: EntryResults) -> str:
    """Returns "by NAME, 2026-01-02" and what training again gave, or that nobody has checked."""
    found = entry.verification
    if not found.by:
        return "checked by nobody yet"
    parts = [f"by {found.by}, {found.date}"]
    for seeds, what in (
        (found.bitwise, "gave the same bits"),
        (found.interval, "agrees inside the prediction interval only"),
    ):
        parts += [f"seed {seed} {what}" for seed in seeds]
    return "; ".join(parts)
