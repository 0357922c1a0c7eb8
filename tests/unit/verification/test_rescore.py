"""Cheating with numbers, answers and versions is seen from the stored answers alone."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version

import pyarrow.parquet as pq
import pytest
from fixtures.runs import call, make_world

import lmrl_bench
from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import DataError, DownloadError, RecordError, VerificationError
from lmrl_bench.metrics.overlap import ChrF
from lmrl_bench.records.samples import write_samples
from lmrl_bench.records.store import read_samples
from lmrl_bench.verification.completions import answers
from lmrl_bench.verification.rescore import rescore


def train(world):
    """Makes a small run; returns its folder."""
    assert lmrl_bench.run("toy", "ppo", config=world.given()).status == "completed"
    return world.root / "out"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A small run; the module's tests change copies of its folder."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        yield train(make_world(root, patch.setenv))


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
    """Writes other answers and a record that names them, as someone who cheats would."""
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
    assert list(found.records) == [run]
    assert found.left_out == {run: set()}
    # Means; two metrics, of the corpus and of four answers; the reward of four answers and its part.
    assert found.numbers == 4 + 2 * (1 + 4) + 2 * 4
    assert found.largest == {"chrf": 0.0, "bleu": 0.0, "reward": pytest.approx(0.0, abs=1e-7)}
    done = call(capsys, "results", "rescore", run)
    assert done.code == 0, done.err
    assert "1 records" in done.err


def test_an_edited_number(run, capsys):
    def change(content):
        content["results"]["test"]["metrics"]["chrf"]["value"] = 99.0

    edit_record(run, change)
    with pytest.raises(VerificationError, match=r"test: chrf is 99, but .* by the stored answers"):
        rescore(run)
    assert call(capsys, "results", "rescore", run).code == 3


@pytest.mark.parametrize("key", ["reward", "mean_length"])
def test_an_edited_mean(run, key):
    def change(content):
        content["results"]["test"][key] += 1e-4

    edit_record(run, change)
    with pytest.raises(VerificationError, match=f"test: {key} is"):
        rescore(run)


def test_an_edited_answer(run):
    def change(rows):
        rows[0]["completion"] += " a"
        return rows

    edit_samples(run, change)
    with pytest.raises(VerificationError, match="of the sample"):
        rescore(run)


def test_samples_that_changed_after_the_record(run):
    path = run / "samples.parquet"
    whole = path.read_bytes()
    pq.write_table(pq.read_table(path), path, compression="none")
    with pytest.raises(VerificationError, match="changed since the record was written"):
        rescore(run)
    path.write_bytes(whole + b"\0")
    with pytest.raises(VerificationError, match=r"samples\.parquet: cannot be read"):
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
    with pytest.raises(VerificationError, match=reason):
        rescore(run)


def test_a_reward_that_is_not_finite(run):
    def change(rows):
        rows[1]["reward"] = float("nan")
        return rows

    edit_samples(run, change)
    with pytest.raises(VerificationError, match="test: reward is not finite"):
        rescore(run)


def test_another_version_of_a_metric(run):
    def change(content):
        content["task"]["metric_signatures"]["chrf"] = "chrf|version:9"

    edit_record(run, change)
    with pytest.raises(VerificationError, match=r"chrf is of another version: chrf\|version:9"):
        rescore(run)


def test_another_state_of_the_task_and_nothing_at_all(run, tmp_path):
    edit_record(run, lambda content: content["task"].update(digest="0" * 64))
    with pytest.raises(VerificationError, match="made with a changed task"):
        rescore(run)
    edit_record(run, lambda content: content.update(status="interrupted"))
    with pytest.raises(RecordError, match="nothing to score again"):
        rescore(run)


def test_a_task_that_is_not_here_and_data_that_cannot_be_read_are_problems_of_their_runs(
    run, monkeypatch
):
    """Between them a run whose number was edited: none hides another."""
    row = run.parent
    for seed in ("1", "2"):
        shutil.copytree(run, row / seed)

    def change(content):
        content["results"]["test"]["metrics"]["chrf"]["value"] = 99.0

    edit_record(row / "0", lambda content: content["task"].update(name="nowhere"))
    edit_record(row / "1", change)

    def damaged(folder, record, task):
        if folder == row / "2":
            raise DataError("test.jsonl: has another sha256")
        return answers(folder, record, task)

    monkeypatch.setattr("lmrl_bench.verification.rescore.answers", damaged)
    with pytest.raises(VerificationError) as caught:
        rescore(row)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{row / '0'}: ")
    assert "nowhere" in lines[0]
    assert f"{row / '1'}: test: chrf is 99" in lines[1]
    assert lines[-2] == f"{row / '2'}: test.jsonl: has another sha256"


def test_links_and_paths(run, tmp_path):
    (run / "samples.parquet").rename(tmp_path / "elsewhere.parquet")
    (run / "samples.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(VerificationError, match="is a link"):
        rescore(run)
    (run / "samples.parquet").unlink()
    path = "../../../elsewhere.parquet"
    edit_record(run, lambda content: content["samples"].update(path=path))
    with pytest.raises(
        VerificationError, match="is a path; a record only names files in its own folder"
    ):
        rescore(run)


def test_a_reward_of_a_plug_in(tmp_path, monkeypatch):
    """With its models and plug-ins the reward is recomputed; without them it is named."""
    monkeypatch.chdir(tmp_path)
    world = make_world(tmp_path, monkeypatch.setenv)
    world.add_reward("steps", "0.25 * batch.lengths + batch.terminated")
    folder = train(world)
    assert rescore(folder, models=False).left_out == {folder: {"reward"}}
    assert rescore(folder).left_out == {folder: set()}

    def change(rows):  # the mean stays
        for row, amount in zip(rows, (0.5, -0.5, 0, 0), strict=True):
            row["reward"] += amount
            row["reward/steps"] += amount
        return rows

    edit_samples(folder, change)
    assert rescore(folder, models=False)
    with pytest.raises(VerificationError, match="test: reward of the sample test-0 is"):
        rescore(folder)


@pytest.mark.parametrize(("shift", "agrees"), [(5e-6, True), (2e-5, False)])
def test_single_answers_of_a_model_may_be_rounded_otherwise(tmp_path, monkeypatch, shift, agrees):
    """A plug-in stands for whatever is not computed from the texts alone."""
    monkeypatch.chdir(tmp_path)
    world = make_world(tmp_path, monkeypatch.setenv)
    name = f"rounded-{agrees}".lower()
    world.add_reward(name, "0.1 * batch.terminated")
    folder = train(world)

    def change(rows):
        for row, sign in zip(rows, (1, -1, 0, 0), strict=True):
            row["reward"] += sign * shift
            row[f"reward/{name}"] += sign * shift
        return rows

    edit_samples(folder, change)
    if agrees:
        assert rescore(folder).largest["reward"] == pytest.approx(shift, rel=0.02)
    else:
        with pytest.raises(VerificationError, match="test: reward of the sample test-0 is"):
            rescore(folder)


def test_scores_of_texts_may_not(run):
    def change(rows):
        rows[0]["metric/chrf"] += 2e-6 * max(1.0, rows[0]["metric/chrf"])
        return rows

    edit_samples(run, change)
    with pytest.raises(VerificationError, match="test: chrf of the sample test-0 is"):
        rescore(run)


def test_a_model_that_is_not_here(run, monkeypatch):
    def missing(self, key):
        raise DownloadError("download 'x' is not usable. Install it: lmrl-bench download install x")

    monkeypatch.setattr("lmrl_bench.tasks.task.Task.metric", missing)
    with pytest.raises(
        DownloadError, match=r"download install x\nor leave out .* with --no-models"
    ):
        rescore(run)


def test_another_version_of_a_library_is_named_and_of_anything_else_refused(run, monkeypatch):
    """Whose version stands in the signature as the one that was installed."""

    class Signed(ChrF):
        signature = f"chrf|transformers:{version('transformers')}|order:6"

    monkeypatch.setattr("lmrl_bench.metrics.overlap.ChrF.signature", Signed.signature)
    old = "chrf|transformers:4.0.0|order:6"

    def sign(text, installed="4.0.0"):
        def change(content):
            content["task"]["metric_signatures"]["chrf"] = text
            reward = content["task"]["reward_signature"]
            content["task"]["reward_signature"] = (
                f"1*[{text}|scale:0..100|sign:+]" if reward else ""
            )
            content["provenance"]["packages"]["transformers"] = installed

        return change

    edit_record(run, sign(old))
    assert rescore(run).libraries == {f"transformers 4.0.0 → {version('transformers')}"}
    edit_record(run, sign(old, "3.9.9"))
    with pytest.raises(VerificationError, match="chrf is of another version"):
        rescore(run)
    edit_record(run, sign(old.replace("order:6", "order:5")))
    with pytest.raises(VerificationError, match="chrf is of another version"):
        rescore(run)
