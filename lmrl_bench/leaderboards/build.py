"""From records to the files of a leaderboard, and the check that committed files still say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lmrl_bench.core.digests import canonical_json
from lmrl_bench.core.errors import ConfigError, VerificationError
from lmrl_bench.leaderboards.collect import Expectation, collect, damaged_cells
from lmrl_bench.leaderboards.overview import with_statistics
from lmrl_bench.leaderboards.render.curves import curves_svg
from lmrl_bench.leaderboards.render.files import csv_long, csv_wide, json_text, latex, schema_text
from lmrl_bench.leaderboards.render.intervals import overall_svg
from lmrl_bench.leaderboards.render.markdown import markdown
from lmrl_bench.leaderboards.render.page import page
from lmrl_bench.leaderboards.render.svg import standalone
from lmrl_bench.leaderboards.spec import LEADERBOARD_FILE, LeaderboardSpec, read_leaderboard
from lmrl_bench.leaderboards.table import LeaderboardTable
from lmrl_bench.records.files import check_writable, write_atomic
from lmrl_bench.records.parsing import parse_json
from lmrl_bench.speedups.garbage import collector_off

_PLOTS = ("curves-*.svg", "overview.svg")


def build(
    leaderboard: LeaderboardSpec,
    results_root: Path,
    out: Path,
    expected: Expectation,
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Writes a leaderboard's files; the same records give the same bytes.

    Args:
        leaderboard: The leaderboard.
        results_root: The folder of all results.
        out: The folder of the leaderboard; plots that it no longer has are removed.
        expected: What the record of each cell must say; see `collect`.
        say: Takes a line for each cell that is left out because its files are damaged.

    Returns:
        The files, sorted.

    Raises:
        ConfigError: `out` holds another leaderboard.
        RecordError: Records cannot be read or are not the leaderboard's, or `out` is not writable.
    """
    require_own(leaderboard, out)
    with collector_off():
        table = collect(leaderboard, results_root, expected)
        files = render(table)
    for text in damaged_cells(table):
        say(text)
    check_writable(out, option="--out")
    for name, content in files.items():
        write_atomic(out / name, content)
    for path in _left_over(out, files):
        path.unlink()
    return [out / name for name in sorted(files)]


def require_own(leaderboard: LeaderboardSpec, out: Path) -> None:
    """Refuses to write over the files of another leaderboard.

    Raises:
        ConfigError: The folder holds the definition of another leaderboard, or its files.
    """
    file, made = out / LEADERBOARD_FILE, out / "leaderboard.json"
    if file.is_file():
        other = canonical_json(read_leaderboard(file).definition) != canonical_json(
            leaderboard.definition
        )
    elif made.is_file():
        try:
            name = parse_json(made.read_bytes()).get("name")
        except (ValueError, AttributeError):
            name = None
        other = name != leaderboard.name
    else:
        other = False
    if other:
        raise ConfigError(
            f"{out}: holds another leaderboard than '{leaderboard.name}' as it is defined; name another folder "
            "with --out"
        )


def check(
    leaderboard: LeaderboardSpec, results_root: Path, out: Path, expected: Expectation
) -> None:
    """Builds in memory and compares with the files.

    Raises:
        RecordError: As in `build`.
        VerificationError: Lists the files that are missing, stale or left over, and the remedy.
    """
    with collector_off():
        table = collect(leaderboard, results_root, expected)
        files = render(table)
    problems = damaged_cells(table)
    for name, content in sorted(files.items()):
        path = out / name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.read_bytes() != content:
            problems.append(f"{path}: stale")
    problems += [f"{path}: left over" for path in _left_over(out, files)]
    if problems:
        raise VerificationError(
            "\n".join(
                [
                    *problems,
                    "the records say otherwise; rebuild the files with `lmrl-bench leaderboard build`",
                ]
            )
        )


def render(table: LeaderboardTable) -> dict[str, bytes]:
    """Returns the content of every file by its name, statistics over all tasks included."""
    table = with_statistics(table)
    curves = {task.task: curves_svg(table, task) for task in table.tasks if task.curves}
    files = {
        "README.md": markdown(table),
        "index.html": page(table, curves),
        "leaderboard.json": json_text(table),
        "leaderboard.schema.json": schema_text(),
        "table.csv": csv_long(table),
        "table_wide.csv": csv_wide(table),
        "table.tex": latex(table),
    }
    files |= {f"curves-{task}.svg": standalone(svg) for task, svg in curves.items()}
    if table.overview is not None:
        files["overview.svg"] = standalone(overall_svg(table, table.overview))
    return {name: text.encode() for name, text in files.items()}


def _left_over(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Returns the plots of an earlier build that this one does not have."""
    found = {path for pattern in _PLOTS for path in out.glob(pattern)}
    return sorted(found - {out / name for name in files})
