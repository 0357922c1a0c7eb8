"""Controls: the best constant is found by brute force, the majority by counting; their records are checked."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

import lmrl_bench
from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.best_of_n import BestOfN
from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.algorithms.majority_of_n import MajorityOfN
from lmrl_bench.core.errors import AlgorithmError, RecordError, VerificationError
from lmrl_bench.planning.plan import plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.records.record import AlgorithmTraits
from lmrl_bench.records.store import RECORD, read_record, read_samples
from lmrl_bench.runs.session import open_session
from lmrl_bench.tasks.self_test import rewards
from lmrl_bench.verification.bounds import problems
from lmrl_bench.verification.rescore import rescore


def opened(world, name, **settings):
    """The parts of a run of a control on the toy task."""
    given = world.given(name, algorithm={"name": name, **settings})
    return open_session(plan_run(world.task, resolve(world.task, given)).prepared())


def ran(world, name, **settings):
    """Runs a control; returns its record as it is read back, and its folder."""
    config = world.given(name, algorithm={"name": name, **settings})
    record = lmrl_bench.run("toy", name, config=config)
    assert record.status == "completed", record.error
    return read_record(world.root / name), world.root / name


# -- trivial ---------------------------------------------------------------------------------------


def test_the_constant_is_the_best_reference_by_brute_force(world):
    task = world.task
    judged = task.samples("validation")[:4]
    references = {text: None for row in task.samples("train")[:9] for text in row.references}
    means = {text: rewards(task, judged, [text] * 4).mean() for text in references}
    assert len(means) > 3
    algorithm = opened(world, "trivial", search_rows=9, search_prompts=4).algorithm
    assert algorithm.constant == max(means, key=lambda text: means[text])


def test_the_first_of_equal_constants_is_taken_and_the_others_are_compared(world):
    world.add_reward("planted", "[-abs(len(t.split()) - 3) for t in batch.completions]")
    assert opened(world, "trivial").algorithm.constant == "a a a"
    assert opened(world, "trivial", texts=["a", "on a", "in a"]).algorithm.constant == "on a"
    assert opened(world, "trivial", texts=["on"]).algorithm.constant == "on"
    assert opened(world, "trivial", search_rows=2).algorithm.constant == "a a"


def test_the_search_sees_neither_the_test_split_nor_the_policy(world, monkeypatch):
    session = opened(world, "trivial")
    seen = []
    samples = session.task.samples
    monkeypatch.setattr(session.task, "samples", lambda split: seen.append(split) or samples(split))
    monkeypatch.setattr(session.policy, "score", None)
    assert session.algorithm.constant
    assert set(seen) == {"train", "validation"}


def test_copies_leave_the_template_out(world):
    world.edit_task(prompt={"template": "in the  {{ prompt }} on a", "max_tokens": 32})
    copy = opened(world, "trivial", strategy="copy-prompt").algorithm
    first = opened(world, "trivial", strategy="first-words", words=2).algorithm
    for sample in world.task.samples("test"):
        own = sample.prompt.removeprefix("in the  ").removesuffix(" on a")
        assert copy.write(sample) == own
        assert first.write(sample) == " ".join(own.split()[:2])


def test_without_references_candidates_must_be_given(world):
    world.add_reward("planted", "np.zeros(len(batch.completions))")
    world.edit_task(
        data={"references": None},
        metrics={"primary": {"name": "distinct-2"}, "held_out": [{"name": "msttr"}]},
    )
    with pytest.raises(AlgorithmError, match=r"no reference in the first 64 training rows"):
        _ = opened(world, "trivial").algorithm.constant


def test_a_text_below_the_least_length_is_refused(world):
    world.edit_task(completion={"max_tokens": 8, "min_tokens": 4})
    session = opened(world, "trivial", texts=["a"])
    with pytest.raises(AlgorithmError, match=r"'a' to the sample .* has 1 tokens"):
        session.evaluator("test", 2, control=session.algorithm)


@pytest.mark.parametrize("strategy", ["constant", "copy-prompt", "first-words"])
def test_an_honest_record_has_no_kl_and_passes_every_check(world, strategy):
    record, folder = ran(world, "trivial", strategy=strategy, words=1)
    assert record.traits == AlgorithmTraits(
        trains=False, spends_tokens=False, filters_tokens=False, control="text"
    )
    assert {results.kl_to_reference for results in record.results.values()} == {None}
    assert problems(folder, record, world.task) == []
    assert rescore(folder).numbers > 20
    texts = [row["completion"] for row in read_samples(folder).to_pylist()]
    assert (len(set(texts)) == 1) == (strategy == "constant")


@pytest.mark.parametrize(
    ("name", "kl", "reason"),
    [
        ("trivial", 0.0, "it is null if, and only if"),
        ("no-training", None, "it is null if, and only if"),
    ],
)
def test_a_kl_where_there_is_none_is_refused_and_the_reverse(world, name, kl, reason):
    _, folder = ran(world, name)
    content = json.loads((folder / RECORD).read_text())
    content["results"]["test"]["kl_to_reference"] = kl
    (folder / RECORD).write_text(json.dumps(content))
    with pytest.raises(RecordError, match=reason):
        read_record(folder)


def test_a_better_answer_than_the_stored_one_is_refused(world):
    _, folder = ran(world, "trivial", texts=["on"])
    content = json.loads((folder / RECORD).read_text())
    content["results"]["test"]["metrics"]["chrf"]["value"] += 1
    content.pop("content_sha256")
    (folder / RECORD).write_text(json.dumps(content))
    with pytest.raises(VerificationError, match="chrf is"):
        rescore(folder)


# -- selections ------------------------------------------------------------------------------------


def test_the_majority_is_the_counters(world):
    algorithm = opened(world, "majority-of-n").algorithm
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 8):
        for _ in range(50):
            texts = [str(letter) for letter in rng.choice(list("abcd"), n)]
            counts = Counter(texts)
            first = next(i for i, t in enumerate(texts) if counts[t] == max(counts.values()))
            # rewards must not matter
            assert algorithm.choose(torch.from_numpy(rng.random(n)), texts) == first


@pytest.mark.parametrize("name", ["majority-of-n", "best-of-n"])
def test_answers_are_chosen_among_the_completions_to_their_own_prompt(world, monkeypatch, name):
    world.add_reward("planted", "['a' in t for t in batch.completions]")  # 0 or 1
    session = opened(world, name, candidates=5)
    asked = []
    choose = type(session.algorithm).choose

    def watched(self, given, texts):
        asked.append((given.tolist(), list(texts), choose(self, given, texts)))
        return asked[-1][2]

    monkeypatch.setattr(type(session.algorithm), "choose", watched)
    found = session.evaluator("test", 6, control=session.algorithm)
    assert [len(texts) for _, texts, _ in asked] == [5] * 6
    assert [row["completion"] for row in found.rows] == [texts[i] for _, texts, i in asked]
    assert len(found.rows) == found.results.n == 6
    if name == "best-of-n":  # pass@5: at least one of five is right
        assert found.results.reward == np.mean([max(given) for given, _, _ in asked])
    assert 30 <= found.candidate_tokens <= 30 * world.task.spec.completion.max_tokens
    greedy = session.evaluator("test", 6, greedy=True, control=session.algorithm)
    assert len(asked) == 6
    assert greedy.candidate_tokens == 0


def test_a_record_of_the_majority_passes_every_check(world):
    record, folder = ran(world, "majority-of-n", candidates=3)
    assert problems(folder, record, world.task) == []
    assert record.traits.control == "policy"
    assert record.events["candidate_tokens"] >= 3 * record.results["test"].n


def test_the_initial_policy_through_the_filter_stands_next_to_itself_without(world):
    record, folder = ran(world, "top-p", top_p=0.3)
    plain, _ = ran(world, "no-training")
    assert problems(folder, record, world.task) == []
    assert record.results["test-unfiltered"] == plain.results["test"]
    assert record.results["test"] != plain.results["test"]
    assert record.results["test"].kl_to_reference == pytest.approx(0.0, abs=1e-5)


# -- the trait -------------------------------------------------------------------------------------


def test_only_controls_have_the_trait_and_older_records_keep_their_digests():
    controls = {name: found for name in ALGORITHMS if (found := traits_of(name).control)}
    assert controls == {
        "best-of-n": "reward", "majority-of-n": "policy", "top-p": "policy", "trivial": "text",
    }  # fmt: skip
    assert not any(traits_of(name).trains for name in controls)
    assert "control" not in traits_of("ppo").model_dump()
    assert (BestOfN.control, MajorityOfN.control) == ("reward", "policy")
