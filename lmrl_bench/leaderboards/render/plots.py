"""Plots as SVG from matplotlib: learning curves and intervals.

The same table gives the same bytes, whatever the user's matplotlib settings are.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lmrl_bench.leaderboards.render.columns import row_title
from lmrl_bench.leaderboards.statistics import MINIMUM_SEEDS, mean_interval
from lmrl_bench.leaderboards.table import BoardTable, Curve, Row, Summary, TaskTable

INK = "#24292f"
_GRID = "#8c959f"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a63d2", "#7f7f00")
_REFERENCES = ("#8c959f", "#6e7781")
_DASHES = (":", "--", "-.")
_POINTS = 41
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def colours(board: BoardTable) -> dict[str, str]:
    """Returns a colour per row: greys for the reference rows, a colour-blind safe palette else."""
    references = board.reference.labels()
    others = [label for label in board.labels if label not in references]
    found = dict(zip(references, _REFERENCES, strict=False))
    return found | {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(others)}


def curves_svg(board: BoardTable, table: TaskTable) -> str:
    """Returns validation reward by generated tokens: mean and 95 % t band over seeds, or the runs.

    Values between evaluations are interpolated on a common grid; below three seeds each run is
    drawn for itself. Dashed lines are the rows that train nothing.
    """
    with _style(f"curves-{board.name}-{table.task}"):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        colour = colours(board)
        title = {row.label: row_title(row) for row in table.rows}
        for curve in table.curves:
            _draw_curve(axes, curve, colour[curve.label], title[curve.label])
        untrained = [row for row in table.rows if row.evaluation_only]
        for row, dashes in zip(untrained, cycle(_DASHES)):
            level = _validation_reward(row)
            if level is not None:
                axes.axhline(level, color=colour[row.label], linestyle=dashes, label=row.label)
        axes.set_xlabel("generated tokens (thousands)")
        axes.set_ylabel("validation reward")
        axes.grid(color=_GRID, alpha=0.3, linewidth=0.5)
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _svg(figure)


def intervals_svg(board: BoardTable, table: TaskTable) -> str:
    """Returns the primary metric of every row: all seeds as points, mean and 95 % t interval."""
    info = table.info
    if info is None:
        raise ValueError("nothing was measured")
    with _style(f"intervals-{board.name}-{table.task}"):
        figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(table.rows)), layout="constrained")
        axes = figure.add_subplot()
        colour = colours(board)
        for position, row in enumerate(table.rows):
            split = row.splits.get("test")
            if split is not None and info.primary_metric in split.metrics:
                _draw_interval(
                    axes, position, split.metrics[info.primary_metric], colour[row.label]
                )
        axes.set_yticks(range(len(table.rows)), [row_title(row) for row in table.rows])
        axes.set_ylim(len(table.rows) - 0.5, -0.5)
        axes.set_xlabel(f"{info.primary_metric} on the test split")
        axes.grid(color=_GRID, alpha=0.3, linewidth=0.5, axis="x")
        return _svg(figure)


def inline(svg: str, prefix: str) -> str:
    """Returns the SVG for the inside of a page: own ids, the page's text colour, no background."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = body.replace("fill: #ffffff", "fill: none")
    return body.replace(INK, "currentColor")


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """Sets the plots' style; the salt makes the ids inside the SVG repeatable."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        mpl.rcParams["svg.hashsalt"] = salt
        yield


def _draw_curve(axes: Any, curve: Curve, colour: str, title: str) -> None:
    start = max(min(run.tokens) for run in curve.seeds)
    end = min(max(run.tokens) for run in curve.seeds)
    if len(curve.seeds) < MINIMUM_SEEDS or end <= start:
        for index, run in enumerate(curve.seeds):
            label = title if index == 0 else None
            axes.plot(_thousands(run.tokens), run.reward, color=colour, linewidth=1.2, label=label)
        return
    grid = np.linspace(start, end, _POINTS)
    values = np.stack([np.interp(grid, run.tokens, run.reward) for run in curve.seeds])
    bands = [mean_interval(list(column)) for column in values.T]
    axes.plot(grid / 1000, [b.mean for b in bands], color=colour, linewidth=1.8, label=title)
    axes.fill_between(
        grid / 1000, [b.low for b in bands], [b.high for b in bands], color=colour, alpha=0.15, lw=0
    )


def _draw_interval(axes: Any, position: int, summary: Summary, colour: str) -> None:
    if summary.interval is not None:
        axes.plot(summary.interval, [position] * 2, color=colour, linewidth=2.2)
        axes.plot([summary.mean], [position], marker="|", markersize=12, color=colour)
    axes.plot(summary.points, [position] * summary.n, "o", markersize=4, color=colour, alpha=0.6)


def _validation_reward(row: Row) -> float | None:
    split = row.splits.get("validation")
    if split is None or not split.reward.points:
        return None
    return sum(split.reward.points) / split.reward.n


def _thousands(tokens: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray(tokens, dtype=np.float64) / 1000


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"
