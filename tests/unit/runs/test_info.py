"""A reward's further information, from a task's plug-in to samples.parquet and back."""

from __future__ import annotations

import json

import pytest
from fixtures.runs import call

from lmrl_bench import run
from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import VerificationError
from lmrl_bench.records.samples import info_of, read_samples, write_samples
from lmrl_bench.records.store import read_record
from lmrl_bench.verification.bounds import problems
from lmrl_bench.verification.rescore import rescore

PLUGIN = '''
from lmrl_bench.rewards import RewardOutput

def vowels(completions, samples):
    """The share of vowels, and what a checker of programs would say."""
    counts = [sum(map(text.count, "aeiou")) for text in completions]
    scores = [count / max(len(text), 1) for count, text in zip(counts, completions)]
    verdicts = ["passed" if count else None for count in counts]
    return RewardOutput(scores, info={"verdict": verdicts, "count": counts, "share": scores})

REWARDS = {"vowels": vowels}
'''
NAMES = ["reward/vowels/count", "reward/vowels/share", "reward/vowels/verdict"]


@pytest.fixture
def telling(world):
    """A world whose reward is the plug-in above."""
    (world.folder / "plugin.py").write_text(PLUGIN)
    world.edit_task(reward={"terms": [{"name": "vowels"}]})
    return world


@pytest.fixture
def trained(telling):
    runtime = {"output": str(telling.root / "out"), "keep_policy": True}
    record = run("toy", "reinforce", config=telling.given(
        algorithm={"name": "reinforce", "episodes_per_iteration": 4}, runtime=runtime,
    ))  # fmt: skip
    assert record.status == "completed", record.error
    return telling.root / "out"


def edit(folder, change):
    """Changes the facts of the first answer, and the record's digest of the file with it."""
    rows = read_samples(folder).to_pylist()
    shown = {row["sample_id"]: row for row in rows}
    for row in rows:
        row["info"] = info_of(row)
        row["prompt"] = shown[row["sample_id"]]["prompt"]
    change(rows[0]["info"])
    write_samples(folder, rows)
    record = json.loads((folder / "record.json").read_text())
    record["samples"]["sha256"] = file_sha256(folder / "samples.parquet")
    (folder / "record.json").write_text(json.dumps(record))


def test_facts_are_stored_with_each_answer_and_scored_again(telling, trained):
    rows = read_samples(trained).to_pylist()
    for row in rows:
        info = info_of(row)
        assert sorted(info) == NAMES
        count = sum(map(row["completion"].count, "aeiou"))
        assert info["reward/vowels/count"] == count
        assert type(info["reward/vowels/count"]) is int
        assert info["reward/vowels/verdict"] == ("passed" if count else None)
        assert info["reward/vowels/share"] == pytest.approx(row["reward"], abs=1e-6)
    found = rescore(trained)
    # As without facts, and two numbers for each of the four answers.
    assert found.numbers == 4 + 2 * (1 + 4) + 2 * 4 + 2 * 4
    assert list(problems(trained, read_record(trained), telling.task)) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda info: info.update({NAMES[2]: "solved"}), "verdict is 'solved', but "),
        (lambda info: info.update({NAMES[0]: 99}), "count is 99, but [0-9]+ by the stored answers"),
        (lambda info: info.update({NAMES[0]: True}), "count is True, but"),
        (lambda info: info.pop(NAMES[1]), "info of the sample .* has .*, where scoring again give"),
        (lambda info: info.update({"reward/mine/x": 1}), "has .*'reward/mine/x'.*, where scoring"),
    ],
)
def test_facts_that_do_not_follow_from_the_answers_are_refused(trained, change, reason):
    edit(trained, change)
    with pytest.raises(VerificationError, match=reason):
        rescore(trained)


def test_commands_show_what_a_reward_says(trained, capsys):
    drawn = call(capsys, "policy", "sample", trained, "-n", "2", "--reward")
    assert drawn.code == 0, drawn.err
    assert drawn.out.count("vowels/verdict: ") == drawn.out.count("reward:    ") == 2
    rows = call(capsys, "policy", "sample", trained, "-n", "2", "--reward", "--json").json
    assert sorted(rows[0]["info"]) == [name.removeprefix("reward/") for name in NAMES]
    plain = call(capsys, "policy", "sample", trained, "-n", "2")
    assert "verdict" not in plain.out
    refused = call(capsys, "policy", "sample", trained, "--prompt", "a", "--reward")
    assert (refused.code, "leave out --prompt" in refused.err) == (2, True)


def test_a_preview_shows_what_the_reward_says_of_the_reference(telling, capsys):
    shown = call(capsys, "task", "preview", "toy")
    assert shown.code == 0, shown.err
    assert "info       vowels/verdict passed, vowels/count " in shown.out
