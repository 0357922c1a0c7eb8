"""The sentences that the Markdown page and the HTML page share."""

from __future__ import annotations

from lmrl_bench.leaderboards.render.columns import number
from lmrl_bench.leaderboards.table import BoardTable, TaskTable

VERDICT_HEADS = ("row", "measure", "difference [95 % interval]", "verdict", "own intervals")
LEGEND = (
    "Numbers are mean ± half of the 95 % Student-t interval over training seeds (n = seeds). "
    "Episodes are averaged inside each seed's number; they are not the sample.",
    "Below three seeds the single values are shown, and no mean: an interval would say nothing.",
    "Missing is not zero: seeds that failed, diverged or are missing are named under *seeds*, and "
    "their row is never marked best, because the seeds that survived flatter it.",
    "**Bold** is the best mean of a column, and every row that cannot be told from it: Welch's "
    "95 % interval of the difference contains 0. Several bold rows are one tie.",
    "*Against the supervised policy*: difference of the means with Welch's 95 % interval. "
    "'not separated' means that it contains 0. *own intervals*: whether the two rows' intervals "
    "in the table overlap, which is the stricter question.",
    "Rows that train nothing evaluate a policy as it is, once per seed: their interval is over "
    "evaluation sampling only, and must not be read as the spread of a training.",
    "↑ more is better, ↓ less is better. *Held-out* metrics are no part of the reward: where the "
    "reward rises and they fall, the reward was exploited.",
    "*KL*: nats per episode to the policy that the row started from. *length*: response tokens. "
    "*cut*: share of responses that reached the length cap without an end.",
    "*greedy*: most probable tokens in place of the task's decoding. *no mask*: NLPO's policy "
    "without its top-p mask.",
    "*tokens*: response tokens generated while training, the budget of the board. *wall s* and "
    "*CPU s* come from the records, so they say what that machine needed, evaluation included.",
)


def rebuild_command(board: BoardTable) -> str:
    """Returns the command that makes the board's files."""
    return f"lmrl-bench board build {board.name}"


def untrained_note(board: BoardTable) -> str:
    """Returns which rows train nothing, or an empty text."""
    names = [row.label for row in board.tasks[0].rows if row.evaluation_only]
    if not names:
        return ""
    return (
        f"Rows that train nothing: {', '.join(names)}. Their intervals are over evaluation "
        "sampling only."
    )


def verdicts(table: TaskTable) -> list[tuple[str, str, str, str, str]]:
    """Returns, for each comparison with the supervised policy, the cells of `VERDICT_HEADS`."""
    lines: list[tuple[str, str, str, str, str]] = []
    for row in table.rows:
        for found in row.comparisons:
            places = 3 if max(map(abs, found.interval)) < 10 else 2
            low, high = (number(value, places) for value in found.interval)
            sign = "+" if found.difference > 0 else ""
            difference = f"{sign}{number(found.difference, places)} [{low}, {high}]"
            intervals = "overlap" if found.intervals_overlap else "do not overlap"
            lines.append((row.label, found.measure, difference, found.verdict, intervals))
    return lines
