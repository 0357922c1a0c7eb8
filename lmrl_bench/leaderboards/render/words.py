"""The sentences that the Markdown page and the HTML page share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmrl_bench.leaderboards.ranking import DAGGER, filtered_title
from lmrl_bench.leaderboards.render.columns import number
from lmrl_bench.leaderboards.render.verification import LEGEND_LINE
from lmrl_bench.leaderboards.table import ControlKind, EntryResults, LeaderboardTable, TaskTable
from lmrl_bench.records.record import Flag
from lmrl_bench.stats.intervals import MINIMUM_SEEDS

VERDICT_HEADS = ("entry", "measure", "difference [95 % interval]", "verdict", "own intervals")
FLAGS: dict[Flag, str] = {
    "max_logprob_difference": "the policy that was scored is not the one that sampled",
    "first_clip_fraction": "ratios were clipped before the first step of an update",
    "truncated_share": "hardly any completion ended by itself",
}
"""The meaning of each exceeded bound, in words."""
CONTROLS: dict[ControlKind, str] = {
    "text": "answers that no policy wrote, the same for every seed",
    "reward": "the reward picks one of several completions",
    "policy": "the initial policy, answering in another way",
    "decoding": "decoded unlike the other entries",
}
"""Each kind of control, in words."""
LEGEND = (
    "Numbers are mean ± half of the 95 % Student-t interval over training seeds (n = seeds). "
    "Episodes are averaged inside each seed's number; they are not the sample.",
    "Below three seeds the single values are shown, and no mean: an interval would say nothing.",
    "Missing is not zero: seeds that failed, diverged or are missing are named under *seeds*, and "
    "their entry is never marked best, because the seeds that survived flatter it.",
    "**Bold** is the best mean of a column, and every entry that cannot be distinguished from it: Welch's "
    "95 % interval of the difference contains 0. Several bold entries are one tie.",
    "*Against the SFT policy*: difference of the means with Welch's 95 % interval. "
    "'not separated' means that it contains 0. *own intervals*: whether the two entries' intervals "
    "in the table overlap, which is the stricter question.",
    "Entries that train nothing evaluate a policy as it is, once per seed: their interval is over "
    "evaluation sampling only, and must not be read as the spread of a training.",
    "*(control)* marks what can be had without training, or without decoding alike: it has no rank and is never marked "
    "best. An entry that does not beat the controls has shown little. *(oracle)* is a control that reads the reference "
    "texts: a bound, not a method.",
    "↑ more is better, ↓ less is better; without an arrow, neither is. **Held-out* metrics are not part of the reward: "
    "where the reward rises and they fall, the reward was exploited.",
    "*KL*: nats per episode to the policy that the entry started from. *tokens per completion*: mean length of the "
    "completions. *cut*: share of completions that reached the length cap without an end.",
    "**greedy*: most probable tokens instead of the task's decoding.",
    f"{DAGGER} marks the numbers of an entry through a token filter of its own (NLPO's top-p filter), as it acts and "
    "trains. The filter cuts unlikely tokens off, which can raise sampled scores without any learning, so these "
    "numbers have no rank and are never marked best. Ranked is the line above: the same policy, decoded like "
    "every other entry. KL is then to the initial policy through the same filter; learning curves and greedy "
    "decoding are through it as well.",
    "*tokens*: completion tokens generated while training, the budget of the leaderboard. *wall s* and "
    "*CPU s* come from the records, so they say what that machine needed, evaluation included.",
    LEGEND_LINE,
)


def rebuild_command(leaderboard: LeaderboardTable) -> str:
    """Returns the command that makes the leaderboard's files."""
    return f"lmrl-bench leaderboard build {leaderboard.name}"


def check_command(leaderboard: LeaderboardTable) -> str:
    """Returns the command that fails if the leaderboard's files are stale."""
    return f"lmrl-bench leaderboard check {leaderboard.name}"


def untrained_note(leaderboard: LeaderboardTable) -> str:
    """Returns which entries train nothing, or an empty text."""
    names = [entry.entry for entry in leaderboard.tasks[0].entries if entry.evaluation_only]
    if not names:
        return ""
    return (
        f"Entries that train nothing: {', '.join(names)}. Their intervals are over evaluation "
        "sampling only."
    )


def control_note(leaderboard: LeaderboardTable) -> str:
    """Returns which entries are controls, with the reason, or an empty text."""
    found: dict[str, list[str]] = {}
    for entry in leaderboard.tasks[0].entries:
        if entry.control is not None:
            found.setdefault(CONTROLS[entry.control], []).append(entry.entry)
    if not found:
        return ""
    parts = [f"{', '.join(names)}: {words}" for words, names in found.items()]
    text = f"Controls, which have no rank and are never marked best. {'; '.join(parts)}."
    oracles = [
        table.task for table in leaderboard.tasks if any(entry.oracle for entry in table.entries)
    ]
    if oracles:
        text += (
            f" On {', '.join(oracles)} the reward reads the reference texts, so its choice is an oracle, "
            "which nobody could use."
        )
    return text


def decoding_note(leaderboard: LeaderboardTable) -> str:
    """Returns which entries were evaluated with another decoding than their task's, or an empty text."""
    entries = {
        (entry.entry, entry.temperature) for table in leaderboard.tasks for entry in table.entries
    }
    found = sorted((entry_name, value) for entry_name, value in entries if value is not None)
    if not found:
        return ""
    parts = ", ".join(f"{entry_name} at temperature {value:g}" for entry_name, value in found)
    return f"Evaluated with another decoding than the task's: {parts}."


def table_caption(leaderboard: LeaderboardTable) -> str:
    """Returns how the table of all tasks is ordered and what its cells are."""
    entries = [entry for table in leaderboard.tasks for entry in table.entries]
    if leaderboard.overview and leaderboard.overview.groups:
        order = "Best first; a line divides groups of ties."
    else:
        order = "In the order of the leaderboard, which ranks nothing."
    return f"{order} Tasks: primary metric on the test split, {cells_words(entries)}."


def cells_words(entries: Sequence[EntryResults]) -> str:
    """Returns what the numbers of these entries are, and what is marked among them, if anything is."""
    found = [
        summary
        for entry in entries
        if (split := entry.tested)
        for summary in split.metrics.values()
    ]
    if any(summary.mean is not None for summary in found):
        words = "mean ± half of the 95 % interval over seeds"
    else:
        words = f"the value of each seed (an interval needs at least {MINIMUM_SEEDS})"
    if any(entry.best for entry in entries):
        words += "; marked cells are the best of their column and its ties"
    return words


def tuning_note(leaderboard: LeaderboardTable) -> str:
    """Returns how the settings were chosen, or an empty text if the leaderboard declares nothing."""
    if leaderboard.tuning is None:
        return ""
    found = leaderboard.tuning
    seeds = f"seed{'s' if len(found.seeds) > 1 else ''} {', '.join(map(str, found.seeds))}"
    return (
        f"Tuning: {found.trials} settings for each algorithm on each task, the one that was there among them, "
        f"judged by the primary metric on {found.validation_samples} validation prompts after "
        f"{100 * found.budget_share:g} % of the token budget, with {seeds}; the leaderboard has other seeds."
    )


def filtered_note(entries: Iterable[EntryResults]) -> str:
    """Returns the footnote of the entries that act through their own token filter, or an empty text."""
    names = list(dict.fromkeys(entry.entry for entry in entries if entry.filtered))
    if not names:
        return ""
    verb = "acts" if len(names) == 1 else "act"
    return (
        f"{DAGGER} {', '.join(names)} {verb} through a token filter that the other entries do not have; "
        "the filter alone can raise sampled scores, so numbers through it are not ranked. Ranked is the same policy, "
        "decoded like the other entries. Learning curves are through the filter."
    )


def fidelity_note(entries: Iterable[EntryResults]) -> str:
    """Returns which runs exceeded a fidelity bound and what that says of them, or an empty text."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        for run in entry.runs:
            for flag in run.flags:
                seeds.setdefault((entry.entry, FLAGS[flag]), []).append(run.seed)
    if not seeds:
        return ""
    parts = [
        f"{entry_name} (seeds {', '.join(map(str, numbers))}): {words}"
        for (entry_name, words), numbers in seeds.items()
    ]
    return f"**Marked runs**, which exceeded a fidelity bound: {'; '.join(parts)}."


def verdicts(table: TaskTable) -> list[tuple[str, tuple[str, str, str, str, str]]]:
    """Returns the name and the cells of `VERDICT_HEADS` of each comparison with the SFT policy."""
    lines: list[tuple[str, tuple[str, str, str, str, str]]] = []
    for entry in table.entries:
        for found in entry.comparisons:
            places = 3 if max(map(abs, found.interval)) < 10 else 2
            low, high = (number(value, places) for value in found.interval)
            sign = "+" if found.difference > 0 else ""
            difference = f"{sign}{number(found.difference, places)} [{low}, {high}]"
            intervals = "overlap" if found.intervals_overlap else "do not overlap"
            ranked = found.decoding == entry.decoding
            name = entry.entry if ranked else filtered_title(entry.entry)
            lines.append((entry.entry, (name, found.measure, difference, found.verdict, intervals)))
    return lines
