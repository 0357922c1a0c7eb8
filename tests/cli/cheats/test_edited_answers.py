"""Answers and curves edited by hand: refused, with the reason."""

from __future__ import annotations

import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.runs import call
from fixtures.submissions import PPO

from lmrl_bench.core.digests import file_sha256


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
    "a better answer": ("rescore", first(completion="a a a a"), "of the sample test-0 is"),
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
    "no token": ("validate", first(completion_ids=[None, 3]), "has an empty field in completion_ids"),
    "no score": ("validate", first(**{"metric/chrf": None}), "metric/chrf has a value for 3 of 4"),
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


def test_answers_that_are_not_text(handed, refuse):
    folder = handed.run()
    table = pq.read_table(folder / "samples.parquet")
    raw = [b"\xff\xfe", *(text.encode() for text in table["completion"].to_pylist()[1:])]
    column = pa.array(raw, pa.binary()).view(pa.string())
    position = table.column_names.index("completion")
    pq.write_table(table.set_column(position, "completion", column), folder / "samples.parquet")
    digest = file_sha256(folder / "samples.parquet")
    handed.edit(lambda content: content["samples"].update(sha256=digest))
    for command in ("validate", "rescore"):
        assert re.search("samples.parquet: cannot be read .*[Ii]nvalid UTF", refuse(command))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            {"metric/chrf": []},
            r"(iteration 0|curves\.jsonl:1): metric/chrf: Input should be a valid number",
        ),
        ({"reward": 1e308}, r"curves.jsonl: reward is 1e\+308, not a number up to 1e\+100"),
    ],
)
def test_points_of_a_curve_that_cannot_be_drawn(handed, refuse, capsys, value, reason):
    """Also the first one, of which no result is claimed; someone who builds the leaderboard at once loses the cell."""
    handed.edit_curves(lambda lines: lines[0].update(value))
    assert re.search(reason, refuse("validate"))
    places = ("--results", handed.folder.parent, "--out", handed.folder.parent / "out")
    done = call(capsys, "leaderboard", "build", handed.leaderboard, *places)
    assert (done.code, bool(re.search(reason, done.err))) == (0, True), done.err
    assert "small/toy/ppo/1: damaged: " in done.err


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
    names = ("tokens", "episodes", "iterations", "optimizer_steps")
    handed.edit(lambda content: content["budget"].update({name: short[name] for name in names}))
    assert re.search(r"training ended before the budget: \d+ of 60 tokens", refuse("validate"))


def test_the_best_evaluation_instead_of_the_last(handed, refuse):
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
