"""Each defect that lint is there for, planted and found."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_tasks import count_words, definition, rows, small_task, write_task

from lmrl_bench.rewards.base import RewardFunction, RewardOutput
from lmrl_bench.tasks.lint import Finding, lint
from lmrl_bench.tasks.task import Task


class Given(RewardFunction):
    """A reward made of a function of the batch."""

    name = signature = "given"

    def __init__(self, function):
        self.function = function

    def __call__(self, batch):
        return RewardOutput(np.array(self.function(batch), dtype=np.float64))


def with_reward(task: Task, function) -> Task:
    task._reward = Given(function)
    return task


def overlap(batch):
    return [
        float(r == s.references[0]) for r, s in zip(batch.completions, batch.samples, strict=True)
    ]


def found(findings: list[Finding], text: str) -> Finding:
    chosen = [finding for finding in findings if text in finding.message + finding.place]
    assert len(chosen) == 1, findings
    assert chosen[0].remedy
    return chosen[0]


def test_a_sound_task_has_no_findings(tmp_path):
    assert lint(small_task(tmp_path), count_words) == []


def test_without_a_tokenizer_lengths_are_a_finding(tmp_path):
    assert [finding.place for finding in lint(small_task(tmp_path))] == ["lengths"]


def test_missing_digest_is_given_in_the_remedy(tmp_path):
    folder = write_task(tmp_path)
    digest = Task(folder).spec.data.test.sha256
    text = (folder / "task.yaml").read_text()
    (folder / "task.yaml").write_text(text.replace(f"    sha256: {digest}\n", ""))
    finding = found(lint(Task(folder), count_words), "data.test")
    assert (finding.severity, digest in finding.remedy) == ("error", True)


def test_few_rows(tmp_path):
    task = small_task(tmp_path, data={"test": rows("test", 5)})
    assert found(lint(task, count_words), "only 5 rows").severity == "warning"


@pytest.mark.parametrize(("same", "severity"), [(True, "error"), (False, "warning")])
def test_leaks_between_splits(tmp_path, same, severity):
    leaked = {**rows("train")[0], "id": "leaked"}
    if not same:
        leaked["reference"] = "another answer to the same"
    task = small_task(tmp_path, data={"test": [*rows("test"), leaked]})
    finding = found(lint(task, count_words), "1 prompts of 'test' are also in 'train'")
    assert finding.severity == severity


def test_prompts_over_the_limit(tmp_path):
    for mode, limit, severity in (("error", 4, "error"), ("right", 4, "warning")):
        prompt = {"template": "{{ prompt }}", "max_tokens": limit, "truncate": mode}
        findings = lint(small_task(tmp_path, definition(prompt=prompt)), count_words)
        finding = found(findings, "prompts of 'train'")
        assert finding.severity == severity
        assert "100.0% are longer than prompt.max_tokens 4 (longest: 5 tokens)" in finding.message


def test_references_over_the_limit(tmp_path):
    task = small_task(tmp_path, definition(completion={"max_tokens": 7}))
    assert found(lint(task, count_words), "references of 'test'").severity == "warning"


def test_a_bad_row_is_one_finding(tmp_path):
    data = rows("validation")
    data[3]["reference"] = ""
    findings = lint(small_task(tmp_path, data={"validation": data}), count_words)
    assert [finding.severity for finding in findings] == ["error"]
    assert "validation.jsonl.gz:4" in findings[0].message


def test_reward_that_is_not_repeatable(tmp_path):
    random = np.random.default_rng(0)
    task = with_reward(
        small_task(tmp_path), lambda batch: overlap(batch) + random.random(len(batch)) / 9
    )
    assert found(lint(task, count_words), "two calls on the same batch differ")


def test_reward_that_depends_on_batch_mates(tmp_path):
    task = with_reward(
        small_task(tmp_path), lambda batch: np.array(overlap(batch)) / (1 + len(batch))
    )
    assert found(lint(task, count_words), "depends on the rest of its batch").severity == "error"


@pytest.mark.parametrize(
    ("canary", "likes"),
    [
        ("empty reply", lambda text, sample: text == ""),
        ("copied prompt", lambda text, sample: text == sample.prompt),
        ("one word repeated", lambda text, sample: len(text.split()) > len(set(text.split())) == 1),
    ],
)
def test_canaries(tmp_path, canary, likes):
    def reward(batch):
        pairs = zip(batch.completions, batch.samples, strict=True)
        gold = overlap(batch)
        return [g + 2.0 * likes(text, s) for g, (text, s) in zip(gold, pairs, strict=True)]

    findings = lint(with_reward(small_task(tmp_path), reward), count_words)
    assert found(findings, canary).place == "reward canary"


def says(word):
    return lambda batch: [
        text.split().count(word) / max(len(text.split()), 1) for text in batch.completions
    ]


def test_the_word_that_pays_best_is_an_error_where_references_are_read(tmp_path):
    def reward(batch):
        pairs = zip(overlap(batch), says("near")(batch), strict=True)
        return [gold + 1.5 * share for gold, share in pairs]

    finding = found(
        lint(with_reward(small_task(tmp_path), reward), count_words), "'near', repeated"
    )
    assert (finding.severity, finding.place) == ("error", "reward canary")
    assert "gets 1.5 on average, the reference 1.2" in finding.message


def test_the_word_that_pays_best_is_a_fact_where_they_are_not(tmp_path):
    """An open-ended reward, as a classifier's: it likes the references, and one of their words more."""

    def reward(batch):
        known = [
            float(text.startswith("the ") and len(text.split()) > 5) for text in batch.completions
        ]
        return np.array(known) / 4 + says("near")(batch)

    finding = found(
        lint(with_reward(small_task(tmp_path), reward), count_words), "'near', repeated"
    )
    assert (finding.severity, finding.place) == ("warning", "reward canary")
    assert "does not read references" in finding.message
    assert "chrf" in finding.remedy


def test_gold_below_shuffled(tmp_path):
    task = with_reward(small_task(tmp_path), lambda batch: 1 - np.array(overlap(batch)))
    assert found(lint(task, count_words), "gold self-test").severity == "error"


def test_checks_of_higher_layers(tmp_path):
    extra = Finding("error", "envs", "views disagree", "fix")
    assert lint(small_task(tmp_path), count_words, [lambda task: [extra]]) == [extra]
