"""Small tasks of many kinds, made as users make them: each lints as it should, and one fact is one finding."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers_tasks import count_words, definition, rows, small_task

from lmrl_bench.core.errors import DataError, TaskError
from lmrl_bench.envs.task_checks import _views_agree as views_agree
from lmrl_bench.rewards.base import RewardFunction, RewardOutput
from lmrl_bench.tasks.lint import lint
from lmrl_bench.tasks.preview import preview
from lmrl_bench.tasks.scaffold import new_task
from lmrl_bench.tasks.task import Task

ROWS = 300

ANSWERS = {
    "yes or no": lambda n: ("yes", "no")[n % 2],
    "capitals and full stops": lambda n: ("Yes.", "No.")[n % 2],
    "three labels": lambda n: ("positive", "negative", "neutral")[n % 3],
    "digits": lambda n: str(n % 10),
    "numbers": lambda n: n * 7,
    "truth values": lambda n: n % 3 == 0,
    "decimals": lambda n: n / 4,
    "JSON": lambda n: json.dumps({"name": f"item {n}", "count": n % 7}),
    "code": lambda n: f"def f{n}(x):\n    return x + {n}\n",
    "several references": lambda n: [f"the answer {n}", f"answer {n} it is"],
    "Chinese": lambda n: f"答案是第{n}个红色的房子",
    "one Chinese character": lambda n: chr(0x4E00 + n % 50),
    "Arabic": lambda n: f"البيت رقم {n} " + ("أحمر", "أزرق")[n % 2],
    "emoji": lambda n: ("😀😀", "😢😢", "🎉")[n % 3],
    "one letter": lambda n: "ABCD"[n % 4],
    "long": lambda n: " ".join(f"word{n % 7}{k}" for k in range(60)),
    "a copy of the prompt": lambda n: f"question {n} about thing {n % 5}",
    "one word repeated": lambda n: " ".join([("ha", "ho")[n % 2]] * (2 + n % 3)),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_task_made_of_these_answers_lints_without_errors(tmp_path, kind):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"q": f"question {n} about thing {n % 5}", "a": ANSWERS[kind](n)}) + "\n"
            for n in range(ROWS)
        )
    )
    task = Task(new_task("mine", tmp_path, path, "q", "a"))
    findings = lint(task, count_words)
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert len(preview(task, 3, "test", count_words)) == 3


def test_one_and_the_same_reference_is_one_warning(tmp_path):
    data = {
        s: [{**row, "reference": "always this"} for row in rows(s)]
        for s in ("train", "validation", "test")
    }
    findings = lint(small_task(tmp_path, data=data), count_words)
    assert [finding.severity for finding in findings] == ["warning"]
    assert "the same reference, 'always this'" in findings[0].message


def test_a_metric_that_cannot_read_the_references_is_one_error(tmp_path):
    """ROUGE as reward and metric of Chinese text: reward, metric and canaries all fail by the same fact."""
    data = {
        s: [{**row, "reference": f"红色的房子{chr(0x4E00 + n)}"} for n, row in enumerate(rows(s))]
        for s in ("train", "validation", "test")
    }
    findings = lint(small_task(tmp_path, data=data), count_words)
    assert [finding.severity for finding in findings] == ["error"]
    assert findings[0].message == (
        "rouge-l: the reference scores 0, the best value is 1 (references of other rows: 0): it cannot distinguish "
        "these references from others; neither can the reward"
    )
    assert "chrf reads every script" in findings[0].remedy


class Check(RewardFunction):
    """A reward that reads the answer alone."""

    name = signature = "check"

    def __init__(self, good):
        self.good = good

    def __call__(self, batch):
        return RewardOutput(np.array([float(self.good(text)) for text in batch.completions]))


def with_check(task: Task, good) -> Task:
    reward = Check(good)
    reward.terms = {}
    task._reward = reward
    return task


def test_an_open_ended_reward_that_references_fail_is_one_error(tmp_path):
    findings = lint(
        with_check(small_task(tmp_path), lambda text: text.startswith("{")), count_words
    )
    assert [finding.place for finding in findings] == ["reward canary"]
    message = findings[0].message
    assert "empty reply gets 0 on average, the reference 0" in message
    assert "copied prompt" in message
    assert "one word repeated" in message


def test_an_open_ended_reward_that_references_pass_has_no_error(tmp_path):
    """Others' references pass it, too: it reads no row, so nothing can be asked of them."""
    task = with_check(
        small_task(tmp_path), lambda text: text.startswith("the ") and "number" in text
    )
    assert lint(task, count_words) == []


# Rows without references

CHECKED = {
    "reward": {"terms": [{"name": "length-penalty", "args": {"per_token": 0.1, "target": 5}}]},
    "metrics": {"primary": {"name": "distinct-1"}, "held_out": [{"name": "length"}]},
}


def without_references(**changes):
    spec = definition(**{**CHECKED, **changes})
    del spec["data"]["references"]
    return spec


def checked_rows():
    return {
        split: [
            {key: value for key, value in row.items() if key != "reference"} for row in rows(split)
        ]
        for split in ("train", "validation", "test")
    }


@pytest.mark.parametrize("references", ["left out", None, "maybe"])
def test_rows_need_no_reference_where_nothing_reads_one(tmp_path, references):
    spec, data = without_references(), checked_rows()
    if references != "left out":
        spec["data"]["references"] = references
    if references == "maybe":
        data = {
            s: [{**row, "maybe": ([], None)[n % 2]} for n, row in enumerate(part)]
            for s, part in data.items()
        }
    task = small_task(tmp_path, spec, data)
    assert {sample.references for sample in task.samples("train")} == {()}
    findings = lint(task, count_words)
    assert [f.severity for f in findings] == ["warning"] * len(findings)
    assert {f.place for f in findings} == {"split 'train'", "gold self-test"}
    row = preview(task, 1, count_tokens=count_words)[0]
    assert (row.references, row.gold_reward, row.shuffled) == ((), None, None)
    assert "reference  none" in row.text()
    assert json.dumps(row.as_dict())
    with pytest.raises(
        TaskError, match=r"40 of 40 training rows have no reference.*policy\.init=base"
    ):
        task.sft_samples()


def test_the_views_are_compared_on_the_first_row_that_has_a_reference(tmp_path):
    spec, data = without_references(), checked_rows()
    spec["data"]["references"] = "maybe"
    data = {
        split: [{**row, "maybe": "a b" if number else None} for number, row in enumerate(part)]
        for split, part in data.items()
    }
    task = small_task(tmp_path, spec, data)
    assert not task.samples("train")[0].references
    assert views_agree(task) == []


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        (
            {"metrics": {"primary": {"name": "chrf"}, "held_out": [{"name": "length"}]}},
            "the metric 'chrf'",
        ),
        ({"reward": {"terms": [{"name": "rouge-l"}]}}, "the reward 'rouge-l'"),
    ],
)
def test_what_needs_references_is_named(tmp_path, changes, who):
    with pytest.raises(DataError) as raised:
        small_task(tmp_path, without_references(**changes), checked_rows()).samples("train")
    message = str(raised.value)
    assert (
        "train.jsonl.gz:1: row 'train-0' has no reference (data.references names no column)"
        in message
    )
    assert f"but {who} of " in message


def test_a_reward_of_the_plugin_needs_no_reference_unless_it_says_so(tmp_path):
    source = (
        "import numpy as np\nfrom lmrl_bench.rewards import RewardFunction, RewardOutput\n"
        "class Checks(RewardFunction):\n    name = signature = 'checks-{0}'\n    needs = frozenset({1})\n"
        "    def __call__(self, batch):\n        return RewardOutput(np.zeros(len(batch)))\n"
        "REWARDS = {{'checks-{0}': Checks}}\n"
    )
    for kind, needs in (("free", "()"), ("bound", "['references']")):
        (tmp_path / kind).mkdir()
        spec = without_references(reward={"terms": [{"name": f"checks-{kind}"}]})
        task = small_task(tmp_path / kind, spec, checked_rows())
        (task.folder / "plugin.py").write_text(source.format(kind, needs))
        if kind == "free":
            assert len(task.samples("train")) == 40
        else:
            with pytest.raises(DataError, match="the reward 'checks-bound'"):
                task.samples("train")


@pytest.mark.parametrize("value", ["", "  ", [""], ["x", None], 5, {"a": 1}])
def test_an_empty_or_wrong_reference_is_an_error_all_the_same(tmp_path, value):
    spec, data = without_references(), checked_rows()
    spec["data"]["references"] = "maybe"
    data["train"] = [{**row, "maybe": value} for row in data["train"]]
    data |= {s: [{**row, "maybe": None} for row in data[s]] for s in ("validation", "test")}
    with pytest.raises(DataError, match=r"gz:1: .*a reference that is empty or not text"):
        small_task(tmp_path, spec, data).samples("train")


@pytest.mark.parametrize("column", ["prompt", "reference", "label", "id"])
def test_text_that_utf8_cannot_hold_is_refused_where_it_is_read(tmp_path, column):
    task = small_task(tmp_path)
    path = task.folder / "data" / "bad.jsonl"
    row = {**rows("train")[0], column: "half \ud83d"}
    path.write_text(json.dumps(row) + "\n")
    text = (task.folder / "task.yaml").read_text()
    start = text.index("  train:")
    end = text.index("  validation:")
    (task.folder / "task.yaml").write_text(
        text[:start] + "  train: {path: data/bad.jsonl}\n" + text[end:]
    )
    with pytest.raises(DataError, match=r"bad\.jsonl:1: .*half of a surrogate pair"):
        Task(task.folder).samples("train")
