"""Cheating with numbers, answers and versions is seen from the stored answers alone."""

from __future__ import annotations

import json
import shutil

import pytest
from fixtures.runs import call, make_world

from lmrl_bench.digests import file_sha256
from lmrl_bench.errors import RecordError
from lmrl_bench.records.samples import write_samples
from lmrl_bench.records.store import read_samples
from lmrl_bench.runs.rescore import rescore


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A small run; the module's tests change copies of its folder."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        world = make_world(root, patch.setenv)
        from lmrl_bench.runs.command import given_run
        from lmrl_bench.runs.execute import execute_with_start
        from lmrl_bench.runs.resolve import resolve

        loaded, given = given_run(world.run_file(), {})
        record = execute_with_start(resolve(loaded, given), loaded)
        assert record.status == "completed"
        yield root / "out"


@pytest.fixture
def run(honest, tmp_path):
    folder = tmp_path / "results" / "toy" / "ppo" / "0"
    shutil.copytree(honest, folder)
    return folder


def edit_record(folder, change):
    path = folder / "record.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_samples(folder, change):
    """Writes other answers and a record that names them, as somebody who cheats would."""
    rows = read_samples(folder).to_pylist()
    prompts = {row["sample_id"]: (row["prompt"], row["references"]) for row in rows}
    rows = change(rows)
    for row in rows:
        row["prompt"], row["references"] = prompts[row["sample_id"]]
    write_samples(folder, rows)

    def name_them(content):
        content["samples"]["sha256"] = file_sha256(folder / "samples.parquet")
        content["samples"]["rows"] = len(rows)

    edit_record(folder, name_them)


def test_an_honest_run_agrees(run, capsys):
    found = rescore(run.parents[2])
    assert found.records == 1
    assert found.left_out == ()
    assert found.numbers == 3 + 2 * (1 + 4)  # means; two metrics, of the corpus and of four answers
    done = call(capsys, "submission", "rescore", run)
    assert done.code == 0, done.err
    assert "1 records" in done.err


@pytest.mark.parametrize("value", [99.0, float("nan")])
def test_an_edited_number(run, value, capsys):
    def change(content):
        content["results"]["test"]["metrics"]["chrf"]["value"] = value

    edit_record(run, change)
    with pytest.raises(RecordError, match=r"test: chrf is (99|nan), but .* by the stored answers"):
        rescore(run)
    assert call(capsys, "submission", "rescore", run).code == 2


@pytest.mark.parametrize("key", ["reward", "mean_length"])
def test_an_edited_mean(run, key):
    def change(content):
        content["results"]["test"][key] += 1e-4

    edit_record(run, change)
    with pytest.raises(RecordError, match=f"test: {key} is"):
        rescore(run)


def test_an_edited_answer(run):
    def change(rows):
        rows[0]["output"] += " a"
        return rows

    edit_samples(run, change)
    with pytest.raises(RecordError, match="of the sample"):
        rescore(run)


def test_samples_that_changed_after_the_record(run):
    path = run / "samples.parquet"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(RecordError, match="changed since the record was written"):
        rescore(run)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows[::-1], "where .* belongs"),
        (lambda rows: rows[:-1], "3 answers, 4 in the record"),
        (lambda rows: [rows[0], *rows[:-1]], "is answered twice"),
    ],
)
def test_swapped_missing_and_repeated_answers(run, change, reason):
    edit_samples(run, change)
    with pytest.raises(RecordError, match=reason):
        rescore(run)


def test_a_reward_that_is_not_finite(run):
    def change(rows):
        rows[1]["reward"] = float("nan")
        return rows

    edit_samples(run, change)
    with pytest.raises(RecordError, match="a reward is not finite"):
        rescore(run)


def test_another_version_of_a_metric(run):
    def change(content):
        content["task"]["metric_signatures"]["chrf"] = "chrf|version:9"

    edit_record(run, change)
    with pytest.raises(RecordError, match=r"chrf is of another version: chrf\|version:9"):
        rescore(run)


def test_another_state_of_the_task_and_nothing_at_all(run, tmp_path):
    edit_record(run, lambda content: content["task"].update(digest="0" * 64))
    with pytest.raises(RecordError, match="another state of the task"):
        rescore(run)
    edit_record(run, lambda content: content.update(status="interrupted"))
    with pytest.raises(RecordError, match="nothing to score again"):
        rescore(run)


def test_links_and_paths(run, tmp_path):
    (run / "samples.parquet").rename(tmp_path / "elsewhere.parquet")
    (run / "samples.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(RecordError, match="is a link"):
        rescore(run)
    path = "../../../elsewhere.parquet"
    edit_record(run, lambda content: content["samples"].update(path=path))
    with pytest.raises(RecordError, match="is a path; a record names what lies in its own folder"):
        rescore(run)
