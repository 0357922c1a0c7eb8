"""Records, files and histories that are not the run's own: refused, with the reason."""

from __future__ import annotations

import json
import os
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fixtures.runs import call
from fixtures.submissions import LEADERBOARD, PPO, disguise, result, small_leaderboard

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.leaderboards.spec import read_leaderboard
from lmrl_bench.verification import history, tree
from lmrl_bench.verification.submission import Submission


def test_a_missing_seed_and_a_missing_record(handed, refuse):
    shutil.rmtree(handed.run())
    found = refuse("validate")
    assert "ppo/1: missing: a leaderboard takes all its seeds or none (seeds 0, 1, 2)" in found
    handed.copy(f"{PPO}/0", f"{PPO}/1")
    (handed.run() / "record.json").unlink()
    assert "record.json: there is no record" in refuse("validate")


def test_more_seeds_rows_and_tasks_than_the_leaderboard_asks_for(handed, refuse):
    """The best of many seeds; a row that nobody entered; a task from elsewhere."""
    handed.copy(f"{PPO}/0", f"{PPO}/7")
    handed.copy(PPO, "toy/mine")
    handed.copy(f"{PPO}/0", "other/ppo/0")
    handed.copy(f"{PPO}/0", f"{PPO}/00")
    found = refuse("validate")
    assert "toy/ppo/7: '7' is not a seed of the leaderboard (seeds 0, 1, 2)" in found
    assert "toy/ppo/00: '00' is not a seed" in found
    assert (
        "the leaderboard has no entry 'mine'; add it to the entries of the leaderboard's leaderboard.yaml"
        in found
    )
    assert "other/ppo/0: the leaderboard has no task 'other'" in found


def test_a_record_copied_to_another_seed(handed, refuse):
    handed.copy(f"{PPO}/0", f"{PPO}/1")
    assert "holds the record of toy/ppo/0, which belongs elsewhere" in refuse("validate")
    handed.edit(lambda content: disguise(content, entry="ppo", seed=1))
    path = handed.run() / "config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    assert "ppo/1: its curves are those of" in refuse("validate")


def test_a_copy_with_other_curves(handed, refuse):
    """A space, an iteration count or a number does not make another run of it."""
    handed.copy(f"{PPO}/0", f"{PPO}/1")
    handed.edit(lambda content: disguise(content, entry="ppo", seed=1))
    path = handed.run() / "curves.jsonl"
    path.write_text(path.read_text().replace("{", "{ ", 1))
    named = {"path": path.name, "sha256": file_sha256(path)}
    handed.edit(lambda content: content["curves"].update(named))
    handed.edit(lambda content: content["budget"].update(iterations=0))
    found = refuse("validate")
    assert "ppo/1: its curves are those of" in found
    handed.edit_curves(lambda lines: lines[1].update(progress=0.123))
    found = refuse("validate")
    assert "ppo/1: its curves are" not in found
    assert "ppo/1: its completions are those of" in found


def test_a_record_copied_to_another_row(handed, refuse):
    small_leaderboard(handed.leaderboard.parent, "mine")
    shutil.rmtree(handed.leaderboard)
    shutil.copytree(handed.leaderboard.parent / "leaderboards" / LEADERBOARD, handed.leaderboard)
    handed.copy(PPO, "toy/mine")
    assert "toy/mine/0: holds the record of toy/ppo/0, which belongs elsewhere" in refuse(
        "validate"
    )

    def change(content):
        content["config"]["algorithm"]["learning_rate"] = 0.02
        disguise(content, entry="mine", seed=content["seed"])

    for seed in range(3):
        handed.edit(change, f"toy/mine/{seed}")
        content = json.loads((handed.folder / f"toy/mine/{seed}/record.json").read_text())
        resolved = content["config"] | {"entry": "mine", "seed": seed}
        (handed.folder / f"toy/mine/{seed}/config.yaml").write_text(yaml.safe_dump(resolved))
    found = refuse("validate")
    assert len(re.findall("toy/mine/.: its curves are those of", found)) == 3


LINKS = ["record.json", "samples.parquet", "curves.jsonl", "config.yaml"]


@pytest.mark.parametrize("name", [*LINKS, "."])
def test_links(handed, refuse, tmp_path, name):
    path = handed.run() / name if name != "." else handed.run()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert f"{path}: is a link; put the run's own" in refuse("validate")
    if name in ("curves.jsonl", "config.yaml"):
        assert f"{path}: is a link; put the run's own" in refuse("rescore")


def test_a_run_trained_again_through_a_link(handed, capsys, tmp_path):
    """The check would be written into the row that the link points at."""
    for place in (handed.run(), handed.run().parent):
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
        options = ("--write-verification", "--by", "me")
        done = call(capsys, "results", "retrain", handed.run(), *options)
        assert (done.code, "a folder on the way is a link" in done.err) == (2, True)
        assert not list(tmp_path.rglob("verification.json"))
        place.unlink()
        (tmp_path / "elsewhere").rename(place)


def test_seeds_next_to_the_row_do_not_widen_its_interval(handed, capsys):
    """Another setting's run, or a copy under another number, is not a further seed."""
    handed.edit(lambda c: c["results"]["test"]["metrics"]["chrf"].update(value=90.0))
    handed.copy("toy/start/0", f"{PPO}/7")
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, "ppo/7: holds toy/start/" in done.err) == (2, True), done.err
    handed.copy(f"{PPO}/0", f"{PPO}/7")
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, "ppo/7: holds toy/ppo/model/s0-" in done.err) == (2, True)
    assert "is not a seed of the entry there; remove it" in done.err


def test_older_rows_removed_through_a_link(handed, capsys, tmp_path):
    """Under the link's own name the folder would stand for further entries only."""
    shutil.rmtree(handed.folder / "toy" / "ppo")
    other = handed.folder.rename(tmp_path / "rows")
    handed.folder.symlink_to(other)
    options = ("--leaderboard", handed.leaderboard, "--against", handed.before)
    done = call(capsys, "results", "validate", handed.folder, *options)
    assert (done.code, f"{handed.folder}: is a link" in done.err) == (2, True)
    assert Submission(read_leaderboard(handed.leaderboard), handed.folder).whole


def test_what_a_run_leaves_behind_is_not_followed(handed, capsys, tmp_path):
    """A folder of further entries is laid over the earlier ones, without what git ignores."""
    rows = handed.folder.rename(tmp_path / "rows")
    inside = rows / PPO / "1" / "policy"
    inside.mkdir()
    (inside / "secret").symlink_to(tmp_path / "nowhere")
    options = ("--leaderboard", handed.leaderboard, "--against", handed.before)
    done = call(capsys, "results", "validate", rows, *options)
    assert done.code == 0, done.err


def test_what_is_not_a_file_of_a_run(handed, refuse):
    (handed.run() / "notes.txt").write_text("look")
    (handed.run("toy/ppo") / "setup.py").write_text("import os")
    os.mkfifo(handed.run("toy/start/0") / "pipe")
    (handed.run() / "checkpoint").mkdir()  # left by a run, and ignored by git
    found = refuse("validate")
    assert "notes.txt: does not belong here (allowed: record.json" in found
    assert "setup.py: does not belong here" in found
    assert "pipe: does not belong here" in found
    assert "checkpoint" not in found


@pytest.mark.parametrize("name", LINKS)
def test_huge_files_are_not_opened(handed, refuse, capsys, name, monkeypatch):
    with (handed.run() / name).open("ab") as stream:
        stream.truncate(tree.LIMITS[name] + 1)
    monkeypatch.setattr("lmrl_bench.verification.submission.read_record", _only_others)
    too_large = rf"toy/ppo/1/{name}: [\d,]+ bytes, more than the"
    assert re.search(too_large, refuse("validate"))
    monkeypatch.setattr("lmrl_bench.verification.rescore.read_record", _only_others)
    assert re.search(too_large, refuse("rescore"))
    monkeypatch.setattr("lmrl_bench.verification.retrain.read_record", _only_others)
    done = call(capsys, "results", "retrain", handed.run())
    assert (done.code, bool(re.search(too_large, done.err))) == (2, True)


def test_huge_files_and_links_are_not_read_for_their_digest(handed, refuse, monkeypatch, tmp_path):
    """Not even to see whether an older record, or a file of checks, has changed."""
    other = handed.run("toy/ppo/2").rename(tmp_path / "elsewhere")
    handed.run("toy/ppo/2").symlink_to(other)
    for path in (handed.run() / "curves.jsonl", handed.folder / PPO / "verification.json"):
        with path.open("ab") as stream:
            stream.truncate(tree.LIMITS[path.name] + 1)
    read = []
    monkeypatch.setattr(history, "file_sha256", lambda path: read.append(path) or "0")
    refuse("validate", "--against", handed.before)
    mine = {path.parent for path in read if path.is_relative_to(handed.folder / PPO)}
    assert mine == {handed.run(f"{PPO}/0")}


def _only_others(folder):
    from lmrl_bench.records.store import read_record

    assert folder.name != "1" or folder.parent.name != "ppo", "opened a file that is too large"
    return read_record(folder)


def exchange_answers(handed, table):
    """Writes a samples.parquet that the record of ppo/1 names."""
    path = handed.run() / "samples.parquet"
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < tree.LIMITS[path.name]
    named = {"sha256": file_sha256(path), "rows": table.num_rows}
    handed.edit(lambda content: content["samples"].update(named))


def test_many_rows_in_a_small_file(handed, refuse):
    """A dictionary and run lengths make a million equal rows a file of some kilobytes."""
    row = pq.read_table(handed.run() / "samples.parquet").slice(0, 1)
    exchange_answers(handed, row.take(pa.array([0] * 1_000_000)))
    assert "samples.parquet holds 1,000,000 rows, more than 3 times 4" in refuse("validate")


@pytest.mark.parametrize("name", ["completion", "references"])
def test_long_texts_in_a_small_file(handed, refuse, name, monkeypatch):
    """One text of 5 MB that many values of the dictionary's column name."""
    table = pq.read_table(handed.run() / "samples.parquet")
    text = "x" * 5_000_000
    monkeypatch.setattr(tree, "UNPACKED_LIMIT", 15_000_000)  # the stored 5 MB are below it
    values = [text] * table.num_rows if name == "completion" else [[text] * 9] + [[]] * 3
    column = pa.array(values, type=table.schema.field(name).type)
    position = table.column_names.index(name)
    exchange_answers(handed, table.set_column(position, name, column))
    for command in ("validate", "rescore"):
        assert "samples.parquet unpacks to more than 15,000,000 bytes" in refuse(command)


def test_long_lists_in_a_small_file(handed, refuse, monkeypatch):
    table = pq.read_table(handed.run() / "samples.parquet")
    values = [[7] * 2_000_000] + [[]] * 3
    position = table.column_names.index("completion_ids")
    column = pa.array(values, type=pa.list_(pa.int32()))
    monkeypatch.setattr(tree, "UNPACKED_LIMIT", 5_000_000)
    exchange_answers(handed, table.set_column(position, "completion_ids", column))
    for command in ("validate", "rescore"):
        assert "samples.parquet unpacks to more than 5,000,000 bytes" in refuse(command)


def test_older_records_stay_as_they_are(handed, refuse):
    """A changed one, also where nothing but its provenance changed; a removed one."""
    handed.edit(lambda content: content["provenance"].update(dirty=False, commit="a" * 40))
    found = refuse("validate", "--against", handed.before)
    assert "ppo/1: record.json changed: older records stay as they are" in found
    shutil.rmtree(handed.folder / "toy" / "start")
    found = refuse("validate", "--against", handed.before)
    assert "toy/start/2: removed: older records stay as they are, failed ones too" in found


def test_a_failed_record_that_is_replaced_or_removed(handed, refuse, tmp_path):
    """The old leaderboard has a failed seed; the new one has a better one instead, or no such row."""
    before = tmp_path / "before"
    shutil.copytree(handed.folder, before / LEADERBOARD)
    path = before / LEADERBOARD / PPO / "1" / "record.json"
    failed = json.loads(path.read_text())
    failed.update(status="failed", results={}, samples=None,
                  error={"type": "ValueError", "message": "a loss is not finite"})  # fmt: skip
    path.write_text(json.dumps(failed))
    found = refuse("validate", "--against", before)
    assert "ppo/1: record.json changed: older records stay as they are, failed ones too" in found
    shutil.rmtree(handed.folder / PPO)
    spec = yaml.safe_load((handed.leaderboard / "leaderboard.yaml").read_text())
    spec["entries"].pop()
    (handed.leaderboard / "leaderboard.yaml").write_text(yaml.safe_dump(spec))
    assert "ppo/1: removed" in refuse("validate", "--against", before)


def test_a_leaderboard_that_drops_the_seed_it_does_not_like(handed, refuse):
    spec = yaml.safe_load((handed.leaderboard / "leaderboard.yaml").read_text())
    (handed.leaderboard / "leaderboard.yaml").write_text(yaml.safe_dump(spec | {"seeds": [0, 2]}))
    assert "toy/ppo/1: '1' is not a seed of the leaderboard (seeds 0, 2)" in refuse("validate")
    for label in ("ppo", "start"):
        shutil.rmtree(handed.folder / "toy" / label / "1")
    assert "toy/ppo/1: removed" in refuse("validate", "--against", handed.before)


def test_all_problems_are_shown_together(handed, refuse):
    handed.edit(result("reward", 0.5))
    shutil.rmtree(handed.run(f"{PPO}/2"))
    (handed.run("toy/start/0") / "notes.txt").write_text("look")
    found = refuse("validate")
    for reason in ("test: reward is", "ppo/2: missing", "notes.txt: does not belong here"):
        assert reason in found
    assert found.rstrip().endswith("the submission is refused")


def test_a_check_that_the_submitter_wrote_himself(handed, capsys, refuse):
    """It is shown to the reviewer; a file that is not a check is refused."""
    done = call(capsys, "results", "rescore", handed.folder, "--write-verification", "--by", "me")
    assert done.code == 0, done.err
    options = ("--leaderboard", handed.leaderboard, "--against", handed.before)
    done = call(capsys, "results", "validate", handed.folder, *options)
    assert done.code == 0, done.err
    assert "it claims level 1 by me: was it they who wrote it?" in done.err
    claim = json.loads((handed.folder / PPO / "verification.json").read_text())["checks"][0]
    again = {"seed": 1, "how": "interval", "value": 1e9, "digest": "d" * 64}
    text = json.dumps({"checks": [claim | {"level": 3, "retrained": again}]})
    (handed.folder / PPO / "verification.json").write_text(text)
    assert "claims that seed 1, trained again, lies inside" in refuse("validate")
    (handed.folder / PPO / "verification.json").write_text('{"checks": [{"level": 5}]}')
    assert "verification.json: not a file of checks" in refuse("validate")
