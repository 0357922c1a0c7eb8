"""`lmrl-bench board list | build | export | statistics | power`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmrl_bench.cli.output import OUTPUT, JsonOption, note, show, show_one
from lmrl_bench.core.wording import counted

if TYPE_CHECKING:
    from lmrl_bench.leaderboards.spec import BoardSpec
    from lmrl_bench.leaderboards.table import BoardTable

app = typer.Typer(
    help="Boards: tables, pages and plots from committed records.", no_args_is_help=True
)

ResultsOption = Annotated[Path, typer.Option(help="Folder of all results.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Lists the boards."""
    from lmrl_bench.leaderboards.spec import board_names, load_board

    rows = [{"name": name, "title": load_board(name).title} for name in board_names()]
    show(rows, as_json=as_json)


@app.command()
def build(
    board: Annotated[str, typer.Argument(help="Board name or folder.")],
    results: ResultsOption = Path("results"),
    out: Annotated[
        Path | None, typer.Option(*OUTPUT, help="Where to write; default: the board's folder.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the files are fresh.")
    ] = False,
) -> None:
    """Builds the files of a board from its records.

    With --check, exits with 3 if they are stale.
    """
    from lmrl_bench.leaderboards.spec import load_board

    spec = load_board(board)
    if check:
        from lmrl_bench.leaderboards.build import check as check_board
        from lmrl_bench.runs.expectations import of_board

        check_board(spec, results, out or board_folder(spec), of_board(spec))
        note(f"{spec.name}: the files are fresh")
        return
    for path in build_files(spec, results, out):
        note(f"wrote {path}")


@app.command()
def export(
    board: Annotated[str, typer.Argument(help="Board name or folder.")],
    output: Annotated[Path, typer.Option(*OUTPUT, help="The Parquet file to write.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Writes all results of a board as one Parquet file.

    It has one row per record and metric.
    """
    from lmrl_bench.leaderboards.export import export as export_board
    from lmrl_bench.leaderboards.spec import load_board
    from lmrl_bench.runs.expectations import of_board

    spec = load_board(board)
    rows = export_board(spec, results, output, of_board(spec), note)
    note(f"wrote {output}: {counted(rows, 'row')}")


@app.command()
def statistics(
    board: Annotated[str, typer.Argument(help="Board name or folder.")],
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compares the rows over all tasks.

    Prints IQM, optimality gap, ranks, ties and tests, with intervals.
    """
    from lmrl_bench.leaderboards.overview import overview
    from lmrl_bench.leaderboards.render.overview import overview_text

    found = overview(_table(board, results))
    show_one(found.model_dump(mode="json"), as_json=as_json, text=overview_text(found))


@app.command()
def power(
    board: Annotated[str, typer.Argument(help="Board name or folder.")],
    difference: Annotated[
        float | None,
        typer.Option(min=0.0, help="Also say how many seeds it needs; in units of the metric."),
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Prints the smallest difference that a board can detect.

    That is with a probability of 0.8; also says what more seeds would give.
    """
    from lmrl_bench.leaderboards.power import board_power

    found = board_power(_table(board, results), difference)
    show([task.line() for task in found], as_json=as_json)


def _table(board: str, results: Path) -> BoardTable:
    """Sums up the records of a board; says which cells are left out because their files are damaged."""
    from lmrl_bench.leaderboards.collect import collect, damaged_cells
    from lmrl_bench.leaderboards.spec import load_board
    from lmrl_bench.runs.expectations import of_board

    spec = load_board(board)
    table = collect(spec, results, of_board(spec))
    for text in damaged_cells(table):
        note(text)
    return table


def build_files(spec: BoardSpec, results: Path, out: Path | None = None) -> list[Path]:
    """Builds a board into its folder, or into `out`."""
    from lmrl_bench.leaderboards.build import build as build_board
    from lmrl_bench.runs.expectations import of_board

    return build_board(spec, results, out or board_folder(spec), of_board(spec), note)


def board_folder(spec: BoardSpec) -> Path:
    """Returns where a board's files are written: its own folder, or ./leaderboards/<board> of a bundled one."""
    return spec.folder
