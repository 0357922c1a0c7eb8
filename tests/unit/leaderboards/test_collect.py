"""From records to the table: what is summed up, what is missing, what is refused."""

import json

import pytest
from fixtures.boards import fake_content, fake_spec, write_board, write_cell
from scipy import stats

from lmrl_bench.errors import RecordError
from lmrl_bench.leaderboards.collect import collect, summary
from lmrl_bench.leaderboards.spec import cells

SPEC = fake_spec()
HOLES = {
    ("docs-en-de", "a2c", 1): "diverged",
    ("docs-en-de", "nlpo", 0): None,
    ("docs-en-de", "nlpo", 2): "failed",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_board(folder, SPEC, HOLES)
    return folder


@pytest.fixture(scope="module")
def table(root):
    return collect(SPEC, root)


def row(table, task, label):
    return next(r for t in table.tasks if t.task == task for r in t.rows if r.label == label)


def change(root, cell, edit):
    """Rewrites one record of a small board after `edit` has changed its content."""
    content = fake_content(cell)
    edit(content)
    write_cell(root, SPEC.name, cell, content)


def test_a_full_row(table):
    found = row(table, "imdb-continuation", "ppo")
    expected = [
        fake_content(cell)["results"]["test"]["metrics"]["sentiment"]["value"]
        for cell in cells(SPEC)
        if (cell.task, cell.label) == ("imdb-continuation", "ppo")
    ]
    measured = found.splits["test"].metrics["sentiment"]
    assert measured.points == pytest.approx(expected, rel=1e-9)
    interval = stats.ttest_1samp(expected, 0).confidence_interval(0.95)
    assert measured.interval == pytest.approx((interval.low, interval.high), rel=1e-8)
    assert found.complete
    assert found.counts["completed"] == 3
    assert found.tokens.points == [40_448.0] * 3
    assert found.wall_s.points == [64.0, 65.0, 66.0]
    assert found.runs[0].folder == "fake/imdb-continuation/ppo/0"
    assert found.runs[0].command == "lmrl-bench bench fake --jobs 2"
    assert set(found.splits) == {"validation", "test", "test-greedy"}
    assert set(row(table, "imdb-continuation", "nlpo").splits) == {*found.splits, "test-unmasked"}


def test_missing_is_not_zero(table):
    holes = row(table, "docs-en-de", "nlpo")
    assert [run.status for run in holes.runs] == ["missing", "completed", "failed"]
    assert holes.runs[2].error == "ValueError: a loss is not finite"
    reward = holes.splits["test"].reward
    assert (len(reward.points), reward.mean, reward.interval) == (1, None, None)
    assert not holes.complete
    assert holes.best == []
    assert holes.comparisons == []
    assert row(table, "docs-en-de", "a2c").counts == {
        "completed": 2, "failed": 0, "diverged": 1, "interrupted": 0, "missing": 0,
    }  # fmt: skip


def test_below_three_seeds_only_points():
    assert summary([1.0, 2.0]).mean is None
    assert summary([1.0, 2.0, 3.0]).mean == 2.0


def test_marks_ties_and_directions(table):
    best = {r.label: set(r.best) for r in table.tasks[0].rows}
    assert "reward" in best["ppo"]
    assert "sentiment" in best["nlpo"]  # cannot be told from ppo
    assert "reward" not in best["supervised"]
    assert "perplexity" in best["zero-shot"]  # less is better
    assert not {"perplexity"} & best["ppo"]


def test_an_incomplete_row_is_never_best(tmp_path):
    write_board(tmp_path, SPEC, {("imdb-continuation", "ppo", 2): "diverged"})
    rows = collect(SPEC, tmp_path).tasks[0].rows
    assert [r.label for r in rows if "reward" in r.best] == ["nlpo"]


def test_comparisons_with_the_supervised_policy(table):
    found = {c.measure: c for c in row(table, "imdb-continuation", "ppo").comparisons}
    assert set(found) == {"reward", "sentiment"}
    assert found["reward"].verdict == "better"
    assert not found["reward"].intervals_overlap
    assert row(table, "imdb-continuation", "zero-shot").comparisons[0].verdict == "worse"
    assert row(table, "imdb-continuation", "supervised").comparisons == []
    none = fake_spec(reference={"zero_shot": None, "supervised": None})
    assert none.reference.labels() == []


def test_curves_and_samples(table):
    task = table.tasks[0]
    assert [c.label for c in task.curves] == ["ppo", "a2c", "nlpo"]
    assert task.curves[0].seeds[1].tokens == [13, 10_013, 20_013, 30_013, 40_013]
    assert len(task.samples) == 8
    assert [a.label for a in task.samples[0].answers] == table.labels
    assert task.samples[3].prompt == "The film number 3 of imdb-continuation <b>was</b>"
    assert task.samples[3].answers[0].scores == {"sentiment": 0.3}
    assert [a.label for a in table.tasks[1].samples[0].answers] == table.labels[
        :-1
    ]  # nlpo: no seed 0


def test_the_order_of_files_does_not_matter_and_unlisted_runs_are_named(root, tmp_path):
    write_board(tmp_path, SPEC, HOLES)
    extra = fake_spec(seeds=[7])
    write_cell(tmp_path, "fake", cells(extra)[0], fake_content(cells(extra)[0]))
    found = collect(SPEC, tmp_path)
    assert found.unlisted == ["fake/imdb-continuation/zero-shot/7"]
    assert found.model_copy(update={"unlisted": []}) == collect(SPEC, root)


def test_a_board_without_results(tmp_path):
    with pytest.raises(RecordError, match="no such results folder; run `lmrl-bench bench` first"):
        collect(SPEC, tmp_path)
    (tmp_path / "fake").mkdir()
    table = collect(SPEC, tmp_path)
    assert all(r.counts["missing"] == 3 for t in table.tasks for r in t.rows)
    assert all(t.info is None for t in table.tasks)


CELL = next(c for c in cells(SPEC) if (c.label, c.seed) == ("ppo", 1))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c: c["task"].update(version=2),
            "mixed task versions cannot stand in one table: 1 in",
        ),
        (lambda c: c["task"].update(digest="f" * 64), "mixed task digests"),
        (lambda c: c["task"].update(data={}), "mixed data digests"),
        (
            lambda c: c["task"]["metric_signatures"].update(sentiment="v:2"),
            "mixed metric signatures",
        ),
        (lambda c: c["task"].update(reward_signature="v:2"), "mixed reward signatures"),
        (lambda c: c["task"].update(primary_metric="rouge-l"), "mixed primary metrics"),
        (lambda c: c.update(config_digest="e" * 64), "mixed configuration digests"),
        (lambda c: c["results"].pop("test-greedy"), "mixed decodings or metrics"),
        (
            lambda c: c["config"]["budget"].update(tokens=9),
            "budget.tokens is 9 in the record, 40000 on",
        ),
        (lambda c: c["config"].pop("evaluation"), "evaluation.every is 'absent' in the record"),
        (lambda c: c["algorithm"].update(name="a2c"), "algorithm.name is 'a2c' in the record"),
        (lambda c: c.update(seed=2), "holds the record of imdb-continuation/ppo/2"),
        (lambda c: c.update(row="a2c"), "holds the record of imdb-continuation/a2c/1"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, edit, message):
    for cell in cells(SPEC)[:9]:
        write_cell(tmp_path, SPEC.name, cell, fake_content(cell))
    change(tmp_path, CELL, edit)
    with pytest.raises(RecordError) as caught:
        collect(SPEC, tmp_path)
    assert message in str(caught.value)
    assert "run these cells again" in str(caught.value)


def test_changed_files_and_foreign_prompts_are_refused(tmp_path):
    for cell in cells(SPEC)[:9]:
        write_cell(tmp_path, SPEC.name, cell, fake_content(cell))
    curves = CELL.folder(tmp_path, "fake") / "curves.jsonl"
    before = curves.read_text()
    curves.write_text(before.replace("28.0", "29.0"))
    with pytest.raises(RecordError, match="changed since the record was written"):
        collect(SPEC, tmp_path)
    curves.write_text(before)
    first = next(c for c in cells(SPEC) if (c.label, c.seed) == ("ppo", 0))
    other = next(c for c in cells(SPEC) if (c.task, c.label, c.seed) == ("docs-en-de", "ppo", 0))
    foreign = write_cell(tmp_path / "x", "fake", other, fake_content(other)) / "samples.parquet"
    folder = first.folder(tmp_path, "fake")
    (folder / "samples.parquet").write_bytes(foreign.read_bytes())
    content = json.loads((folder / "record.json").read_text())
    content["samples"] = json.loads((foreign.parent / "record.json").read_text())["samples"]
    (folder / "record.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match="the sample test-0 has different prompts in"):
        collect(SPEC, tmp_path)
