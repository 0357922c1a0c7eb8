"""Options that several commands share: one spelling and one help text for each."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer


class RerunChoice(Enum):
    """Selects the finished runs that are run again."""

    ALL = "all"
    FAILED = "failed"
    STALE = "stale"


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the same facts as JSON on standard output.")
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of all results.")]
TasksOption = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="NAME", help="Only this task; may be repeated."),
]
EntriesOption = Annotated[
    list[str] | None,
    typer.Option("--entry", metavar="NAME", help="Only this entry; may be repeated."),
]
AlgorithmsOption = Annotated[
    list[str] | None,
    typer.Option("--algorithm", metavar="NAME", help="Only this algorithm; may be repeated."),
]
SeedsOption = Annotated[
    list[int] | None,
    typer.Option("--seed", metavar="INTEGER", help="Only this seed; may be repeated."),
]
JobsOption = Annotated[
    int, typer.Option("--jobs", min=1, help="Worker processes, one thread each.")
]
RerunOption = Annotated[
    list[RerunChoice] | None,
    typer.Option(
        "--rerun",
        metavar="all|failed|stale",
        help="Run finished cells again: all; those that failed; or stale ones, recorded with other "
        "settings, another task version or another initial policy. May be repeated.",
    ),
]
RuntimeSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="runtime.KEY=VALUE",
        help="Set a field of runtime for all runs, e.g. runtime.device=cuda. The leaderboard fixes "
        "everything else. May be repeated.",
    ),
]


def rerun_names(choices: Sequence[RerunChoice] | None) -> list[str]:
    """Returns the words that the Python calls take."""
    return [choice.value for choice in choices or ()]


def runtime_settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Returns what `--set runtime.KEY=VALUE` gives.

    Raises:
        ConfigError: A pair sets something else, or is not `key=value`.
    """
    from lmrl_bench.config.overrides import apply_overrides
    from lmrl_bench.planning.cells import require_runtime_only

    require_runtime_only(pairs or ())
    found = apply_overrides({}, pairs or ()).data
    runtime: dict[str, Any] = found.get("runtime", {})
    return runtime
