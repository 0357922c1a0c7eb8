"""Odd command lines."""

from __future__ import annotations

import random

from fuzz.kinds import Command

ODD = (
    "", " ", "x" * 256, "x" * 5000, "9" * 5000, "é", "\udcff\udcfe", "a\nb", "a\rb\x1b[31m", "-1",
    "0", "1e400", "nan", "..", ".", "no/such/place", "/dev/null/x", "/proc/1/mem", "~nobody/x",
    "--", "-", "{}", "[", "null", "'", '"', "%s%n", "\u202e", "*", "a b", "toy", "rows.csv",
    "run.yaml", "results", "model", "tasks/toy", "leaderboards/small", "a" * 100_000, "../" * 300,
    "owner/name", "http://localhost:1/x", "CON", "toy\x7f", "\u2028", "1_000", "0x10", "٣", "true",
)  # fmt: skip

KEYS = (
    "", "a", ".", "a.b.c.d", "algorithm", "algorithm.", ".name", "algorithm.name",
    "algorithm.learning_rate", "algorithm.kl.coefficient", "algorithm.epochs", "budget.tokens",
    "policy", "policy.model", "policy.adapter", "policy.adapter.rank", "evaluation.every",
    "evaluation.greedy", "runtime.output", "runtime.checkpoint_every", "runtime.device", "seed",
    "task", "row", "trackers", "x.y." + "7" * 5000, "x." * 3000 + "x", "é", "\udcff", "a\nb", "0",
    "algorithm.learning_rate.x", "budget.tokens[0]", "__class__", "schema", "sampling.temperature",
)  # fmt: skip

VALUES = (
    "", "1", "-1", "0", "1e400", "nan", ".inf", "9" * 5000, "[", "{", "{a: 1}", "[1, 2]", "null",
    "~", "yes", "é", "\udcff", "a\nb: 1", "!!python/object/apply:os.abort []", "&a [*a]",
    "[" * 5000, "{a: 1, a: 2}", "1 # x", "'", "2026-01-01", "0x10", "1_000", "x" * 70_000, "*x",
)  # fmt: skip

PLACE = "?"
TEMPLATES: tuple[Command, ...] = (
    ("task", "list"), ("task", "show", PLACE), ("task", "preview", PLACE), ("task", "lint", PLACE),
    ("task", "preview", "toy", "--count", PLACE), ("task", "new", PLACE),
    ("task", "new", PLACE, "--out", PLACE), ("task", "new", "made", "--from", PLACE),
    ("task", "new", "made", "--from", "rows.csv", "--prompt-column", PLACE),
    ("task", "new", "made", "--from", "rows.csv", "--reference-column", PLACE, "--out", PLACE),
    ("algorithm", "list"), ("algorithm", "show", PLACE), ("download", "list"),
    ("run", PLACE, "--dry-run"), ("run", "--task", PLACE, "--dry-run"),
    ("run", "run.yaml", "--dry-run", "--algorithm", PLACE),
    ("run", "run.yaml", "--dry-run", "--policy", PLACE),
    ("run", "run.yaml", "--dry-run", "--seed", PLACE),
    ("run", "run.yaml", "--dry-run", "--out", PLACE),
    ("run", "run.yaml", "--policy", PLACE, "--rerun", "all"),
    ("leaderboard", "list"), ("leaderboard", "build", PLACE, "--out", "page"),
    ("leaderboard", "check", "leaderboards/small", "--results", PLACE),
    ("leaderboard", "build", "leaderboards/small", "--results", "results", "--out", PLACE),
    ("leaderboard", "export", "leaderboards/small", "--results", "results", "--out", PLACE),
    ("leaderboard", "stats", PLACE, "--results", PLACE),
    ("leaderboard", "power", "leaderboards/small", "--results", "results", "--difference", PLACE),
    ("leaderboard", "run", PLACE, "--dry-run"),
    ("leaderboard", "run", "leaderboards/small", "--dry-run", "--results", PLACE),
    ("leaderboard", "run", "leaderboards/small", "--dry-run", "--results", "results", "--jobs", PLACE),
    ("leaderboard", "tune", PLACE, "--dry-run"),
    ("leaderboard", "tune", "leaderboards/small", "--dry-run", "--trials", PLACE),
    ("leaderboard", "tune", "leaderboards/small", "--dry-run", "--task", PLACE, "--algorithm", PLACE),
    ("results", "validate", PLACE), ("results", "validate", "results/small", "--leaderboard", PLACE),
    ("results", "validate", "results/small", "--leaderboard", "leaderboards/small", "--against", PLACE),
    ("results", "validate", "results/small", "--leaderboard", "leaderboards/small", "--report", PLACE),
    ("results", "rescore", PLACE), ("results", "retrain", PLACE),
    ("results", "rescore", "results/small", "--write-verification", "--by", PLACE),
    ("settings", PLACE), ("doctor", PLACE), ("leaderboard", "show", PLACE),
    ("leaderboard", "show", "leaderboards/small", "--results", PLACE),
    ("results", "list", PLACE), ("results", "list", "results", "--task", PLACE, "--entry", PLACE),
    ("results", "list", "results", "--sort", PLACE, "--status", PLACE),
    ("results", "show", PLACE), ("results", "show", PLACE, "--results", PLACE),
    ("results", "compare", PLACE, PLACE), ("results", "compare", PLACE, "results/small/toy/ppo/1"),
    ("results", "samples", PLACE), ("results", "samples", "results/small/toy/ppo/1", "--split", PLACE),
    ("results", "samples", "results/small/toy/ppo/1", "-n", PLACE), (PLACE,), (PLACE, PLACE), ("metric", "show", PLACE),
    ("reward", "show", PLACE), ("metric", "list"), ("reward", "list"),
)  # fmt: skip


def command_line(rng: random.Random) -> Command:
    """Returns odd arguments; a third of them are forms of `--set`."""
    if rng.random() < 0.33:
        pairs = [_setting(rng) for _ in range(rng.choice([1, 1, 2]))]
        target = rng.choice(
            [
                ("run", "run.yaml", "--dry-run"),
                ("leaderboard", "run", "leaderboards/small", "--dry-run"),
            ]
        )
        return (*target, *(part for pair in pairs for part in ("--set", pair)))
    template = rng.choice(TEMPLATES)
    filled = tuple(rng.choice(ODD) if part == PLACE else part for part in template)
    if rng.random() < 0.1:
        filled = (*filled, rng.choice(["--json", "--no-such", "--help", "-x", rng.choice(ODD)]))
    return filled


def _setting(rng: random.Random) -> str:
    form = rng.choice(
        ["{key}={value}"] * 6 + ["{key}", "={value}", "{key}=={value}", "{key} = {value}"]
    )
    return form.replace("{key}", rng.choice(KEYS)).replace("{value}", rng.choice(VALUES))
