"""The plots: where marks stand, what is left out and said, and colors that are the same everywhere."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from fixtures.leaderboards import (
    LEVELS,
    fake_content,
    fake_expected,
    fake_spec,
    write_cell,
    write_leaderboard,
)
from hypothesis import given
from hypothesis import strategies as st

from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.overview import with_statistics
from lmrl_bench.leaderboards.render.curves import _half_width, curves_svg
from lmrl_bench.leaderboards.render.intervals import interval_svg
from lmrl_bench.leaderboards.render.palette import order, styles
from lmrl_bench.leaderboards.render.profiles import drift_svg, profile_svg
from lmrl_bench.leaderboards.render.svg import Axis, apart, numbers, pixel, span, standalone
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.stats.intervals import mean_interval


@pytest.fixture(scope="module")
def leaderboard(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    spec = fake_spec(tasks=[{"task": "docs-en-de"}])
    write_leaderboard(root, spec, {})
    return with_statistics(collect(spec, root, fake_expected))


def marks(svg, entry, kind):
    """The elements of a class among the marks of an entry."""
    groups = [g for g in ElementTree.fromstring(svg).iter("g") if g.get("data-entry") == entry]
    return [mark for g in groups for mark in g if mark.get("class") == kind]


def test_an_interval_stands_where_its_numbers_are(leaderboard):
    svg = interval_svg(leaderboard, leaderboard.tasks[0])
    ticks = [(float(t.text), float(t.get("x"))) for t in ElementTree.fromstring(svg).iter("text")
             if t.get("class") == "tick" and t.get("text-anchor") == "middle"]  # fmt: skip
    (value, pixel_of_value), (other, pixel_of_other) = ticks[0], ticks[-1]
    slope = (pixel_of_other - pixel_of_value) / (other - value)
    entry = next(entry for entry in leaderboard.tasks[0].entries if entry.entry == "ppo")
    summary = entry.splits["test"].metrics["sentiment"]
    (bar,) = marks(svg, "ppo", "interval")
    for number, place in zip(summary.interval, (bar.get("x1"), bar.get("x2")), strict=True):
        assert float(place) == pytest.approx(pixel_of_value + slope * (number - value), abs=0.2)
    assert len(marks(svg, "ppo", "seed")) == 3


def test_a_zero_shot_row_far_away_is_named_at_the_edge(tmp_path):
    spec = fake_spec(tasks=[{"task": "docs-en-de"}])
    for cell in cells(spec):
        content = fake_content(cell)
        if cell.entry == "zero-shot":
            content["results"]["test"]["metrics"]["sentiment"]["value"] = -40.0 + cell.seed
        write_cell(tmp_path, spec.name, cell, content)
    table = collect(spec, tmp_path, fake_expected)
    svg = interval_svg(table, table.tasks[0])
    (text,) = marks(svg, "zero-shot", "tick")
    assert text.text == "◂ -39.00"
    assert marks(svg, "zero-shot", "seed") == []
    assert len(marks(svg, "ppo", "seed")) == 3


def test_the_band_of_a_curve_is_students(leaderboard):
    curve = next(c for c in leaderboard.tasks[0].curves if c.entry == "ppo")
    import numpy as np

    values = np.array([run.reward for run in curve.seeds])
    expected = [mean_interval(list(column)) for column in values.T]
    assert _half_width(values) == pytest.approx([one.high - one.mean for one in expected])
    svg = curves_svg(leaderboard, leaderboard.tasks[0])
    assert len(marks(svg, "ppo", "band")) == len(marks(svg, "ppo", "curve")) == 1
    assert marks(svg, "sft", "dashes")


def test_drift_is_drawn_for_rows_that_have_one(leaderboard):
    svg = drift_svg(leaderboard, leaderboard.tasks[0], "perplexity")
    assert "perplexity ↓" in svg
    assert len(marks(svg, "ppo", "seed")) == 3
    assert 'data-entry="zero-shot"' not in svg
    assert drift_svg(leaderboard, leaderboard.tasks[0], "nothing") is None


def test_a_profile_falls_in_steps(leaderboard):
    (line,) = marks(profile_svg(leaderboard, leaderboard.overview), "ppo", "curve")
    points = [tuple(map(float, p.split())) for p in line.get("d")[1:].split("L")]
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(points))
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(points))


def test_more_rows_than_colors(tmp_path, monkeypatch):
    """The best eight keep colors, the others are gray without a name; the references are neither."""
    labels = ["zero-shot", "sft", *(f"row-{n}" for n in range(10))]
    for number, label in enumerate(labels[2:]):
        monkeypatch.setitem(LEVELS, label, 0.5 + 0.05 * number)
    entries = [
        {"entry": n, "algorithm": "ppo" if n.startswith("row-") else "no-training"} for n in labels
    ]
    spec = fake_spec(tasks=[{"task": "docs-en-de"}], entries=entries)
    write_leaderboard(tmp_path, spec, {})
    table = with_statistics(collect(spec, tmp_path, fake_expected))
    style = styles(table)
    assert order(table)[:2] == ["row-9", "row-8"]
    assert {style[f"row-{n}"] for n in range(2, 10)} == {f"s{n}" for n in range(8)}
    assert style["row-0"] == style["row-1"] == "other"
    assert style["sft"] == "reference"
    svg = curves_svg(table, table.tasks[0])
    assert marks(svg, "row-0", "curve")
    assert not marks(svg, "row-0", "label")
    assert marks(svg, "row-9", "label")


def test_a_file_of_its_own_has_its_colors_for_light_and_dark(leaderboard):
    svg = standalone(curves_svg(leaderboard, leaderboard.tasks[0]))
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    style = root.find("{http://www.w3.org/2000/svg}style").text
    assert "prefers-color-scheme: dark" in style
    used = set(re.findall(r'class="(s\d|reference|other)"', svg))
    assert used
    assert all(f".{name}" in style for name in used)
    assert "fill=" not in svg  # nothing has a color that dark mode cannot change


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low, width):
    axis = Axis(*span([low, low + width]), 0, 100)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 6
    assert all(axis.low - width * 1e-6 <= tick <= axis.high + width * 1e-6 for tick in ticks)
    texts = numbers(ticks)
    assert len(set(texts)) == len(texts) or width < 1e-5


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_labels_keep_apart_and_in_order(wanted):
    placed = apart(wanted, 13, 0, 200)
    ranked = sorted(range(len(wanted)), key=lambda n: wanted[n])
    heights = [placed[n] for n in ranked]
    assert all(b - a >= 13 - 1e-9 for a, b in itertools.pairwise(heights))
    assert all(-1e-9 <= height <= 200 for height in heights)


def test_pixels_have_one_zero():
    assert [pixel(v) for v in (-0.04, 0.0, 2.0, 2.04, -3.26)] == ["0", "0", "2", "2", "-3.3"]
