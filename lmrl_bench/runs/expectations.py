"""What the cells of a board resolve to today, so that no other record can stand on it. No torch."""

from __future__ import annotations

from functools import cache

from lmrl_bench.leaderboards.collect import Expectation
from lmrl_bench.leaderboards.spec import BoardSpec, Cell, cells
from lmrl_bench.records.expected import ExpectedRun
from lmrl_bench.runs.declared import require_declared
from lmrl_bench.runs.resolve import resolve_unchecked
from lmrl_bench.runs.starts import expected_run
from lmrl_bench.tasks.catalog import load_task


def of_board(board: BoardSpec) -> Expectation:
    """Returns what the record of each cell must say: settings, task and start, as they are now.

    The seeds of a row share one answer, which is found when it is first asked for.

    Raises:
        ConfigError: The board declares a tuning by which its settings were not made.
        LmrlBenchError: When called: a task or a setting of the board is wrong, or a shipped start
            was made from other weights.
    """
    require_declared(board)
    first: dict[tuple[str, str], Cell] = {}
    for cell in cells(board):
        first.setdefault((cell.task, cell.label), cell)
    task_of = cache(load_task)

    @cache
    def of_row(task: str, label: str) -> ExpectedRun:
        return expected_run(
            task_of(task), resolve_unchecked(task_of(task), first[task, label].located)
        )

    def of_cell(cell: Cell) -> ExpectedRun:
        return of_row(cell.task, cell.label)

    return of_cell
