"""A leaderboard over all tasks: scales, missing and collapsed runs, order, and the text."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.leaderboards import (
    fake_content,
    fake_expected,
    fake_spec,
    write_cell,
    write_leaderboard,
)

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.overview import _differences, overview, with_statistics
from lmrl_bench.leaderboards.render.overview import overview_text
from lmrl_bench.leaderboards.scores import scale_of
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.record import ScoreNormalization
from lmrl_bench.records.store import read_record
from lmrl_bench.stats.aggregates import interquartile_mean
from lmrl_bench.stats.bootstrap import resample

FEW = 400


def made(tmp_path, statuses=(), **changes):
    spec = fake_spec(**changes)
    write_leaderboard(tmp_path, spec, dict(statuses))
    return collect(spec, tmp_path, fake_expected)


def by_name(found):
    return {entry.name: entry for entry in found.entries}


def test_numbers(tmp_path):
    table = made(tmp_path)
    found = overview(table, FEW)
    entries = by_name(found)
    assert list(entries) == ["zero-shot", "sft", "ppo", "a2c", "nlpo", "nlpo, filtered †"]
    assert entries["zero-shot"].mean.value == pytest.approx(0.0, abs=1e-9)
    assert entries["sft"].mean.value == pytest.approx(1.0)
    scores = []
    for task, scale in zip(table.tasks, found.scales, strict=True):
        values = (
            next(r for r in task.entries if r.entry == "ppo").splits["test"].metrics["sentiment"]
        )
        scores.append((np.array(values.points) - scale.floor) / (scale.ceiling - scale.floor))
    assert entries["ppo"].mean.value == pytest.approx(np.mean(scores))
    assert entries["ppo"].iqm.low < entries["ppo"].iqm.value < entries["ppo"].iqm.high
    assert entries["nlpo, filtered †"].rank is None
    assert not entries["nlpo, filtered †"].ranked
    assert found.groups[-1] == ["zero-shot"]
    assert entries["zero-shot"].rank == (5, 5)
    assert found.groups[:2] == [["ppo"], ["nlpo"]]  # nlpo without its filter, 0.01 lower
    assert len(found.improvements) == 10
    assert len(found.tests) == 20
    assert all(test.p_holm >= test.p for test in found.tests)
    assert found.provisional


def test_order_does_not_matter(tmp_path):
    table = made(tmp_path)
    found = overview(table, FEW)
    turned = made(tmp_path / "turned", seeds=[2, 0, 1])
    turned = turned.model_copy(update={"tasks": turned.tasks[::-1], "labels": turned.entries[::-1]})
    again = overview(turned, FEW)
    assert again.digest == found.digest
    assert by_name(again) == by_name(found)
    assert again.improvements == found.improvements
    assert again.groups == found.groups
    assert again.tests == found.tests


def test_a_crashed_run_scores_the_floor_and_is_shown(tmp_path):
    statuses = {("docs-en-de", "ppo", 1): "failed", ("docs-en-de", "ppo", 2): "diverged"}
    whole = by_name(overview(made(tmp_path / "whole"), FEW))["ppo"]
    entry = by_name(overview(made(tmp_path / "crashed", statuses), FEW))["ppo"]
    assert (entry.collapsed, entry.missing) == (2, 0)
    assert entry.mean.value < whole.mean.value
    assert entry.mean.low < whole.mean.low
    assert entry.profile[0].value == pytest.approx(4 / 6)  # above 0: all but the crashed


@pytest.mark.parametrize("status", [None, "interrupted"])
def test_missing_is_not_zero(tmp_path, status):
    found = overview(made(tmp_path, {("docs-en-de", "ppo", 1): status}), FEW)
    entry = by_name(found)["ppo"]
    assert (entry.collapsed, entry.missing) == (0, 1)
    assert entry.iqm is None
    assert entry.rank is None
    assert all("ppo" not in group for group in found.groups)
    assert {test.task for test in found.tests if "ppo" in (test.first, test.second)} == {
        "imdb-continuation"
    }
    line = next(text for text in overview_text(found).splitlines() if text.startswith("ppo"))
    assert line.split() == ["ppo", "missing", "missing", "missing", "0", "1"]


def test_less_is_better(tmp_path):
    """A metric of which less is better: the ceiling lies below the floor."""
    spec = fake_spec()
    for cell in cells(spec):
        content = fake_content(cell)
        for split in content["results"].values():
            split["metrics"]["sentiment"]["value"] *= -1
        content["task"]["lower_is_better"] = ["perplexity", "sentiment"]
        write_cell(tmp_path / "turned", "fake", cell, content)
    turned = overview(collect(spec, tmp_path / "turned", fake_expected), FEW)
    found = overview(made(tmp_path / "plain"), FEW)
    assert turned.digest == found.digest
    assert by_name(turned) == by_name(found)


def test_the_tasks_own_scale_comes_first(tmp_path):
    spec = fake_spec(tasks=[{"task": "docs-en-de"}])
    for cell in cells(spec):
        content = fake_content(cell)
        content["task"]["score_normalization"] = {"floor": -9.0, "ceiling": 0.1, "source": "mine"}
        write_cell(tmp_path, "fake", cell, content)
    scale = ScoreNormalization(floor=0.2, ceiling=0.7, source="a paper")
    table = collect(
        spec, tmp_path, lambda cell: replace(fake_expected(cell), score_normalization=scale)
    )
    scale = scale_of(table.tasks[0], table)
    assert (scale.floor, scale.ceiling) == (0.2, 0.7)
    record = read_record(cells(spec)[0].folder(tmp_path, "fake"))
    value = record.results["test"].metrics["sentiment"].value
    assert scale.score(value) == pytest.approx((value - 0.2) / 0.5)


def test_what_has_no_scale_or_too_few_seeds_is_refused(tmp_path):
    with pytest.raises(
        RecordError, match=r"give `score_normalization` in task\.yaml, or two baselines"
    ):
        overview(made(tmp_path / "a", {("docs-en-de", "sft", 1): None}), FEW)
    with pytest.raises(RecordError, match="has 2 seeds; statistics need 3"):
        overview(made(tmp_path / "b", seeds=[0, 1]), FEW)
    nothing = {(cell.task, cell.entry, cell.seed): None for cell in cells(fake_spec())}
    spec = fake_spec()
    (tmp_path / "c" / "fake").mkdir(parents=True)
    write_leaderboard(tmp_path / "c", spec, nothing)
    with pytest.raises(RecordError, match="no run of the leaderboard has completed yet"):
        overview(collect(spec, tmp_path / "c", fake_expected), FEW)


def test_without_an_overview_the_table_says_why(tmp_path):
    table = with_statistics(made(tmp_path / "a", {("docs-en-de", "sft", 1): None}))
    assert table.overview is None
    assert "scores need a scale" in table.no_overview
    assert [power.task for power in table.power] == ["imdb-continuation", "docs-en-de"]
    table = with_statistics(made(tmp_path / "b", seeds=[0]))
    assert (table.overview, table.power) == (None, [])


def test_behind_is_the_difference_to_the_leader(tmp_path):
    found = overview(made(tmp_path), FEW)
    entries = by_name(found)
    leader = entries[found.groups[0][0]]
    assert leader.behind is None
    for entry in found.entries:
        if entry is not leader:
            assert entry.behind.value == pytest.approx(leader.iqm.value - entry.iqm.value)
            if entry.ranked:
                assert (entry.behind.low > 0) == (entry.group > 1)
    assert entries["sft"].behind.low > 0


def test_profiles_are_shares_of_the_scores(tmp_path):
    found = overview(made(tmp_path), FEW)
    entry = by_name(found)["ppo"]
    scores = np.concatenate([entry.scores[task] for task in sorted(entry.scores)])
    shares = [estimate.value for estimate in entry.profile]
    assert shares == pytest.approx([(scores > t).mean() for t in found.thresholds])
    assert shares == sorted(shares, reverse=True)
    assert (found.thresholds[0], shares[-1]) == (0.0, 0.0)
    assert found.thresholds[-1] >= max(1.0, scores.max())
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in entry.profile)


def test_rows_that_are_equal_are_seldom_told_apart():
    """Ties by the widened interval of the difference of two IQMs: five seeds, six tasks, no difference."""
    rng = np.random.default_rng(9)
    told = []
    for _ in range(400):
        entries = {name: resample(rng.normal(0, 0.1, size=(5, 6)), rng, 300) for name in "ab"}
        iqms = {n: float(interquartile_mean(r.scores)) for n, r in entries.items()}
        told.append(not _differences(iqms, entries)["a", "b"].contains(0.0))
    assert 0.01 < np.mean(told) < 0.1


def test_text(tmp_path):
    text = overview_text(overview(made(tmp_path), FEW))
    assert text.startswith("fake: 3 seeds; provisional: fewer than five seeds")
    assert "probability of improvement:" in text
    assert "after Holm's correction" in text
