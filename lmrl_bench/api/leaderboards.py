"""Leaderboards from their records: list, sum up, build the pages, check, export, compare. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmrl_bench.api.progress import Say, nothing
from lmrl_bench.leaderboards.build import build, check
from lmrl_bench.leaderboards.collect import collect, damaged_cells
from lmrl_bench.leaderboards.estimates import LeaderboardOverview, TaskPower
from lmrl_bench.leaderboards.spec import LeaderboardSpec, leaderboard_names, read_leaderboard
from lmrl_bench.leaderboards.table import LeaderboardTable
from lmrl_bench.planning.cells import of_leaderboard

RESULTS = Path("results")


@dataclass(frozen=True)
class LeaderboardSummary:
    """One line of `list_leaderboards`."""

    name: str
    title: str
    tasks: int
    entries: int
    seeds: int


def list_leaderboards() -> list[LeaderboardSummary]:
    """Returns the leaderboards of ./leaderboards and the bundled ones."""
    found = [read_leaderboard(name) for name in leaderboard_names()]
    return [
        LeaderboardSummary(
            spec.name, spec.title, len(spec.tasks), len(spec.entries), len(spec.seeds)
        )
        for spec in found
    ]


def load_leaderboard(leaderboard: str | Path) -> LeaderboardSpec:
    """Reads the definition of a leaderboard: its tasks, entries, seeds and shared configuration.

    Args:
        leaderboard: Its name, its folder, or its `leaderboard.yaml`.

    Raises:
        ConfigError: There is no such leaderboard, or its file is wrong.
    """
    return read_leaderboard(leaderboard)


def leaderboard_table(
    leaderboard: str | Path | LeaderboardSpec, *, results: str | Path = RESULTS, say: Say = nothing
) -> LeaderboardTable:
    """Sums up the records of a leaderboard, without writing anything.

    Args:
        leaderboard: Its name, its folder, or its definition.
        results: Folder of all results.
        say: Takes a line for each cell that is left out because its files are damaged.

    Raises:
        ConfigError: There is no such leaderboard, or its file is wrong.
        RecordError: There are no results, or a record is not of the leaderboard as it is now.
    """
    spec = definition_of(leaderboard)
    table = collect(spec, Path(results), of_leaderboard(spec))
    for text in damaged_cells(table):
        say(text)
    return table


def build_leaderboard(
    leaderboard: str | Path | LeaderboardSpec,
    *,
    results: str | Path = RESULTS,
    out: str | Path | None = None,
    say: Say = nothing,
) -> list[Path]:
    """Writes the pages, tables and plots of a leaderboard; the same records give the same bytes.

    Args:
        leaderboard: Its name, its folder, or its definition.
        results: Folder of all results.
        out: Folder to write; default: the leaderboard's own.
        say: Takes a line for each cell that is left out because its files are damaged.

    Returns:
        The files, sorted.

    Raises:
        ConfigError: There is no such leaderboard, or `out` holds another one.
        RecordError: Records are not of the leaderboard as it is now, or `out` cannot be written.
    """
    spec = definition_of(leaderboard)
    return build(spec, Path(results), pages_folder(spec, out), of_leaderboard(spec), say)


def check_leaderboard(
    leaderboard: str | Path | LeaderboardSpec,
    *,
    results: str | Path = RESULTS,
    out: str | Path | None = None,
) -> None:
    """Checks that the files of a leaderboard are what its records say.

    Args:
        leaderboard: Its name, its folder, or its definition.
        results: Folder of all results.
        out: Folder of the files; default: the leaderboard's own.

    Raises:
        VerificationError: Lists the files that are missing or stale.
        LmrlBenchError: As in `build_leaderboard`.
    """
    spec = definition_of(leaderboard)
    check(spec, Path(results), pages_folder(spec, out), of_leaderboard(spec))


def export_leaderboard(
    leaderboard: str | Path | LeaderboardSpec,
    out: str | Path,
    *,
    results: str | Path = RESULTS,
    say: Say = nothing,
) -> int:
    """Writes every number of a leaderboard into one Parquet file, one row per record and metric.

    Args:
        leaderboard: Its name, its folder, or its definition.
        out: The file to write; its name ends with `.parquet`.
        results: Folder of all results.
        say: Takes a line for each cell that is left out because its files are damaged.

    Returns:
        The number of rows.

    Raises:
        LmrlBenchError: As in `build_leaderboard`.
    """
    from lmrl_bench.leaderboards.export import export

    spec = definition_of(leaderboard)
    return export(spec, Path(results), Path(out), of_leaderboard(spec), say)


def leaderboard_stats(
    leaderboard: str | Path | LeaderboardSpec, *, results: str | Path = RESULTS, say: Say = nothing
) -> LeaderboardOverview:
    """Compares the entries over all tasks: IQM, optimality gap, ranks, ties and tests.

    Args:
        leaderboard: Its name, its folder, or its definition.
        results: Folder of all results.
        say: Takes a line for each cell that is left out because its files are damaged.

    Raises:
        RecordError: Fewer than three seeds, or a task without a completed run.
    """
    from lmrl_bench.leaderboards.overview import overview

    return overview(leaderboard_table(leaderboard, results=results, say=say))


def leaderboard_power(
    leaderboard: str | Path | LeaderboardSpec,
    *,
    difference: float | None = None,
    results: str | Path = RESULTS,
    say: Say = nothing,
) -> list[TaskPower]:
    """Returns the smallest difference that each task can detect with power 0.8.

    Args:
        leaderboard: Its name, its folder, or its definition.
        difference: Also return how many seeds this difference needs; in units of the metric.
        results: Folder of all results.
        say: Takes a line for each cell that is left out because its files are damaged.

    Raises:
        ConfigError: The difference is not positive.
        RecordError: No entry that trains has two completed seeds.
    """
    from lmrl_bench.leaderboards.power import leaderboard_power

    return leaderboard_power(leaderboard_table(leaderboard, results=results, say=say), difference)


def definition_of(leaderboard: str | Path | LeaderboardSpec) -> LeaderboardSpec:
    """Returns the definition of a leaderboard that is named, or given as such."""
    return (
        leaderboard if isinstance(leaderboard, LeaderboardSpec) else read_leaderboard(leaderboard)
    )


def pages_folder(spec: LeaderboardSpec, out: str | Path | None) -> Path:
    """Returns where the files of a leaderboard are written."""
    return spec.folder if out is None else Path(out)
