"""From records to the table: what is summed up, what is missing, what is refused."""

import json
from dataclasses import replace

import pytest
from fixtures.leaderboards import (
    fake_content,
    fake_expected,
    fake_spec,
    write_cell,
    write_leaderboard,
)
from scipy import stats

from lmrl_bench.core.digests import digest
from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.collect import collect, damaged_cells, summary
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.expected import ExpectedInitialPolicy

SPEC = fake_spec()
HOLES = {
    ("docs-en-de", "a2c", 1): "diverged",
    ("docs-en-de", "nlpo", 0): None,
    ("docs-en-de", "nlpo", 2): "failed",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_leaderboard(folder, SPEC, HOLES)
    return folder


@pytest.fixture(scope="module")
def table(root):
    return collect(SPEC, root, fake_expected)


def entry(table, task, label):
    return next(r for t in table.tasks if t.task == task for r in t.entries if r.entry == label)


def change(root, cell, edit):
    """Rewrites one record of a small leaderboard after `edit` has changed its content."""
    content = fake_content(cell)
    edit(content)
    write_cell(root, SPEC.name, cell, content)


def test_a_full_row(table):
    found = entry(table, "imdb-continuation", "ppo")
    expected = [
        fake_content(cell)["results"]["test"]["metrics"]["sentiment"]["value"]
        for cell in cells(SPEC)
        if (cell.task, cell.entry) == ("imdb-continuation", "ppo")
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
    assert found.runs[0].command == "lmrl-bench leaderboard run fake --jobs 2"
    assert set(found.splits) == {"validation", "test", "test-greedy"}
    assert set(entry(table, "imdb-continuation", "nlpo").splits) == {
        *found.splits,
        "test-unfiltered",
    }


def test_a_row_with_a_mask_is_marked_without_its_other_numbers_too(tmp_path):
    for cell in cells(SPEC):
        content = fake_content(cell)
        content["results"].pop("test-unfiltered", None)
        write_cell(tmp_path, "fake", cell, content)
    for task in collect(SPEC, tmp_path, fake_expected).tasks:
        assert [entry.entry for entry in task.entries if entry.filtered] == ["nlpo"]


def test_missing_is_not_zero(table):
    holes = entry(table, "docs-en-de", "nlpo")
    assert [run.status for run in holes.runs] == ["missing", "completed", "failed"]
    assert holes.runs[2].error == "ValueError: a loss is not finite"
    reward = holes.splits["test"].reward
    assert (len(reward.points), reward.mean, reward.interval) == (1, None, None)
    assert not holes.complete
    assert holes.best == []
    assert holes.comparisons == []
    assert entry(table, "docs-en-de", "a2c").counts == {
        "completed": 2, "failed": 0, "diverged": 1, "interrupted": 0, "missing": 0,
    }  # fmt: skip


def test_below_three_seeds_only_points():
    assert summary([1.0, 2.0]).mean is None
    assert summary([1.0, 2.0, 3.0]).mean == 2.0


def test_marks_ties_and_directions(table):
    best = {r.entry: set(r.best) for r in table.tasks[0].entries}
    assert "reward" in best["ppo"]
    assert "sentiment" in best["nlpo"]  # cannot be distinguished from ppo
    assert "reward" not in best["sft"]
    assert "perplexity" in best["zero-shot"]  # less is better
    assert not {"perplexity"} & best["ppo"]


def test_an_incomplete_row_is_never_best(tmp_path):
    write_leaderboard(tmp_path, SPEC, {("imdb-continuation", "ppo", 2): "diverged"})
    entries = collect(SPEC, tmp_path, fake_expected).tasks[0].entries
    assert [r.entry for r in entries if "reward" in r.best] == ["nlpo"]


def test_comparisons_with_the_sft_policy(table):
    found = {c.measure: c for c in entry(table, "imdb-continuation", "ppo").comparisons}
    assert set(found) == {"reward", "sentiment"}
    assert found["reward"].verdict == "better"
    assert not found["reward"].intervals_overlap
    assert entry(table, "imdb-continuation", "zero-shot").comparisons[0].verdict == "worse"
    assert entry(table, "imdb-continuation", "sft").comparisons == []
    filtered = entry(table, "imdb-continuation", "nlpo").comparisons
    assert [(c.measure, c.decoding) for c in filtered] == [
        ("reward", "test-unfiltered"), ("sentiment", "test-unfiltered"),
        ("reward", "test"), ("sentiment", "test"),
    ]  # fmt: skip
    assert filtered[2].difference - filtered[0].difference == pytest.approx(0.01)
    none = fake_spec(baselines={"zero_shot": None, "sft": None})
    assert none.baselines.names() == []


def test_curves_and_samples(table):
    task = table.tasks[0]
    assert [c.entry for c in task.curves] == ["ppo", "a2c", "nlpo"]
    assert task.curves[0].seeds[1].tokens == [13, 10_013, 20_013, 30_013, 40_013]
    assert len(task.samples) == 8
    assert [a.entry for a in task.samples[0].completions] == table.entries
    assert task.samples[3].prompt == "The film number 3 of imdb-continuation <b>was</b>"
    assert task.samples[3].completions[0].scores == {"sentiment": 0.3}
    assert [a.entry for a in table.tasks[1].samples[0].completions] == table.entries[
        :-1
    ]  # nlpo: no seed 0


def test_the_order_of_files_does_not_matter_and_unlisted_runs_are_named(root, tmp_path):
    write_leaderboard(tmp_path, SPEC, HOLES)
    extra = fake_spec(seeds=[7])
    write_cell(tmp_path, "fake", cells(extra)[0], fake_content(cells(extra)[0]))
    found = collect(SPEC, tmp_path, fake_expected)
    assert found.unlisted == ["fake/imdb-continuation/zero-shot/7"]
    assert found.model_copy(update={"unlisted": []}) == collect(SPEC, root, fake_expected)


def test_a_leaderboard_without_results(tmp_path):
    with pytest.raises(
        RecordError, match="no such results folder; run `lmrl-bench leaderboard run` first"
    ):
        collect(SPEC, tmp_path, fake_expected)
    (tmp_path / "fake").mkdir()
    table = collect(SPEC, tmp_path, fake_expected)
    assert all(r.counts["missing"] == 3 for t in table.tasks for r in t.entries)
    assert all(t.info is None for t in table.tasks)


CELL = next(c for c in cells(SPEC) if (c.entry, c.seed) == ("ppo", 1))


def other_settings(content):
    """Another configuration with a digest that fits it."""
    content["config"]["budget"]["tokens"] = 9
    content["config_digest"] = digest(content["config"])


def other_algorithm(content):
    content["config"]["algorithm"]["clip_range"] = 0.3
    content["algorithm"]["clip_range"] = 0.3
    content["config_digest"] = digest(content["config"])


def an_empty_setting(content):
    content["config"]["extra"] = {}
    content["config_digest"] = digest(content["config"])


FIELDS = [
    (lambda c: c["task"].update(version=2), "task.version is 2 in the record, 1 today"),
    (lambda c: c["task"].update(digest="f" * 64), "task.digest is ffffffffffff… in the record, "),
    (other_settings, "budget.tokens is 9 in the record, 40000 today"),
    (an_empty_setting, "extra is {} in the record, 'absent' today"),
    (other_algorithm, "algorithm.clip_range is 0.3 in the record, 'absent' today"),
    (
        lambda c: c["config"].pop("evaluation"),
        "evaluation.every is 'absent' in the record, 5 today",
    ),
    (lambda c: c["algorithm"].update(name="a2c"), "algorithm is {'name': 'a2c'} in the record"),
    (lambda c: c.update(config_digest="e" * 64), "config_digest is eeeeeeeeeeee… in the record"),
    (
        lambda c: c["policy"].update(weights_sha256="3" * 64),
        "policy.weights_sha256 is 333333333333…",
    ),
    (
        lambda c: c["policy"].update(tokenizer_sha256="3" * 64),
        "policy.tokenizer_sha256 is 333333333333… in the record, 222222222222… today",
    ),
    (
        lambda c: c["policy"].update(base_weights_sha256=None),
        "policy.base_weights_sha256 is 'absent' in the record, 000000000000… today",
    ),
    (lambda c: c.update(seed=2), "holds the record of imdb-continuation/ppo/2"),
    (lambda c: c.update(entry="a2c"), "holds the record of imdb-continuation/a2c/1"),
]


@pytest.mark.parametrize(("edit", "message"), FIELDS)
def test_a_record_that_is_not_of_its_cell_today_is_refused(tmp_path, edit, message):
    write_cell(tmp_path, SPEC.name, cells(SPEC)[0], fake_content(cells(SPEC)[0]))
    change(tmp_path, CELL, edit)
    with pytest.raises(RecordError) as caught:
        collect(SPEC, tmp_path, fake_expected)
    (line, remedy) = str(caught.value).splitlines()
    assert line.startswith(f"{CELL.folder(tmp_path, 'fake')}: ")
    assert message in line
    assert "lmrl-bench leaderboard run fake --rerun stale" in remedy


def test_all_records_that_are_stale_are_named_in_one_error(tmp_path):
    write_leaderboard(tmp_path, SPEC, {})

    def tomorrow(cell):
        expected = fake_expected(cell)
        return replace(expected, task_version=2) if cell.task == "docs-en-de" else expected

    with pytest.raises(RecordError) as caught:
        collect(SPEC, tmp_path, tomorrow)
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    assert all("docs-en-de" in line for line in lines[:10])
    assert lines[10] == "and 5 more records"


def test_what_this_machine_cannot_know_the_rows_must_agree_on(tmp_path):
    """A start that each machine trains for itself: its recipe counts, and all entries share its bits."""

    def unknown(cell):
        start = ExpectedInitialPolicy(base_weights="0" * 64, recipe="5" * 64)
        return replace(fake_expected(cell), initial_policy=start)

    def write(cell, weights, recipe="5" * 64):
        content = fake_content(cell)
        content["policy"].update(weights_sha256=weights, sft_recipe_sha256=recipe)
        write_cell(tmp_path, SPEC.name, cell, content)

    sft = [c for c in cells(SPEC) if c.task == "docs-en-de" and c.entry in ("ppo", "a2c")]
    for cell in sft:
        write(cell, "4" * 64)
    assert collect(SPEC, tmp_path, unknown).tasks[1].entries[2].complete
    write(sft[0], "4" * 64, recipe="6" * 64)
    with pytest.raises(RecordError, match=r"sft_recipe_sha256 is 666666666666… in the record"):
        collect(SPEC, tmp_path, unknown)
    write(sft[0], "7" * 64)
    with pytest.raises(
        RecordError, match="mixed weights or tokenizers of initial policies cannot stand in one"
    ):
        collect(SPEC, tmp_path, unknown)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["task"].update(data={}), "mixed data digests"),
        (
            lambda c: c["task"]["metric_signatures"].update(sentiment="v:2"),
            "mixed metric signatures",
        ),
        (lambda c: c["task"].update(reward_signature="v:2"), "mixed reward signatures"),
        (lambda c: c["task"].update(primary_metric="rouge-l"), "mixed primary metrics"),
        (lambda c: c["results"].pop("test-greedy"), "mixed decodings or metrics"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, edit, message):
    for cell in cells(SPEC)[:9]:
        write_cell(tmp_path, SPEC.name, cell, fake_content(cell))
    change(tmp_path, CELL, edit)
    with pytest.raises(RecordError) as caught:
        collect(SPEC, tmp_path, fake_expected)
    assert message in str(caught.value)
    assert "run these cells again" in str(caught.value)


def test_a_folder_of_a_cell_that_is_a_link_is_refused(tmp_path):
    write_cell(tmp_path / "elsewhere", SPEC.name, CELL, fake_content(CELL))
    folder = CELL.folder(tmp_path, "fake")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(CELL.folder(tmp_path / "elsewhere", "fake"))
    with pytest.raises(RecordError, match=r"ppo/1: a folder on the way is a link"):
        collect(SPEC, tmp_path, fake_expected)
    # All results may lie elsewhere.
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    assert collect(SPEC, tmp_path / "linked", fake_expected).tasks[0].info


def test_changed_files_cost_their_cell_and_foreign_prompts_are_refused(tmp_path):
    for cell in cells(SPEC)[:9]:
        write_cell(tmp_path, SPEC.name, cell, fake_content(cell))
    curves = CELL.folder(tmp_path, "fake") / "curves.jsonl"
    before = curves.read_text()
    curves.write_text(before.replace("28.0", "29.0"))
    (damaged,) = damaged_cells(collect(SPEC, tmp_path, fake_expected))
    assert f"/{CELL.entry}/{CELL.seed}: damaged: " in damaged
    assert "changed since the record was written" in damaged
    assert "lmrl-bench leaderboard run fake runs it again" in damaged
    curves.write_text(before)
    first = next(c for c in cells(SPEC) if (c.entry, c.seed) == ("ppo", 0))
    other = next(c for c in cells(SPEC) if (c.task, c.entry, c.seed) == ("docs-en-de", "ppo", 0))
    foreign = write_cell(tmp_path / "x", "fake", other, fake_content(other)) / "samples.parquet"
    folder = first.folder(tmp_path, "fake")
    (folder / "samples.parquet").write_bytes(foreign.read_bytes())
    content = json.loads((folder / "record.json").read_text())
    content["samples"] = json.loads((foreign.parent / "record.json").read_text())["samples"]
    (folder / "record.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match="the sample test-0 has different prompts in"):
        collect(SPEC, tmp_path, fake_expected)
