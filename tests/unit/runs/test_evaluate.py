"""Evaluation has a random stream of its own: it changes no number of training, and batches change none of its."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.toy import ToyReward

from lmrl_bench import run
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.planning.plan import plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.records.store import read_curves
from lmrl_bench.runs.session import open_session


def train_lines(folder):
    return [line for line in read_curves(folder) if line["kind"] == "train"]


@pytest.mark.parametrize("algorithm", ["ppo", "nlpo"])
def test_evaluating_changes_no_training_number(world, algorithm):
    evaluation = {"validation_samples": 6, "test_samples": 2, "greedy": False}
    settings = world.given()["algorithm"] | {"name": algorithm}
    for name, every in (("often", 1), ("never", 1000)):
        given = world.given(
            name,
            algorithm=settings,
            evaluation={**evaluation, "every": every},
            budget={"tokens": 120},
        )
        assert run("toy", algorithm, config=given).status == "completed"
    often, never = train_lines(world.root / "often"), train_lines(world.root / "never")
    assert len(often) > 2
    assert often == never


@pytest.fixture
def session(world):
    return lambda **changes: open_session(
        plan_run(world.task, resolve(world.task, world.given(**changes))).prepared()
    )


def test_an_evaluation_repeats_and_does_not_depend_on_its_batches(session):
    evaluator = session().evaluator
    first = evaluator("validation", 6)
    assert evaluator("validation", 6) == first
    split = session(evaluation={"batch_size": 2}).evaluator("validation", 6)
    assert [row["completion_ids"] for row in split.rows] == [
        row["completion_ids"] for row in first.rows
    ]
    assert split.results.reward == first.results.reward
    assert session(seed=1).evaluator("validation", 6).rows != first.rows


def test_the_numbers_are_means_over_the_rows(session):
    task_session = session()
    evaluation = task_session.evaluator("test", 100)
    results, rows = evaluation.results, evaluation.rows
    assert results.n == len(rows) == 6
    assert results.reward == pytest.approx(np.mean([row["reward"] for row in rows]))
    assert results.mean_length == pytest.approx(
        np.mean([len(row["completion_ids"]) for row in rows])
    )
    assert results.truncated_share == np.mean([not row["terminated"] for row in rows])
    assert results.reward_components.keys() == {"chrf"}
    assert results.metrics.keys() == {"chrf", "bleu"}
    # The policy is its own reference.
    assert results.kl_to_reference == pytest.approx(0.0, abs=1e-5)


def test_greedy_is_the_same_for_every_seed(session):
    first = session().evaluator("test", 6, greedy=True)
    assert first.rows == session(seed=1).evaluator("test", 6, greedy=True).rows


def test_an_untrained_masked_policy_is_at_no_distance_from_its_reference(session):
    """The reference is scored under the policy's own mask, or truncation alone would look like learning."""
    opened = session()
    mask = TopPFilter(opened.policy.network, opened.codec.eos_id, top_p=0.5)
    results = opened.evaluator("test", 6, token_filter=mask).results
    assert results.kl_to_reference == pytest.approx(0.0, abs=1e-5)


def test_the_reward_is_what_training_scores(session, monkeypatch):
    """Prepared, with token rewards, through the same core."""
    opened = session()
    reward = ToyReward(token_bonus=0.25)
    monkeypatch.setattr(opened.task, "reward", lambda: reward)
    evaluation = opened.evaluator("test", 4)
    assert reward.prepared == [sample.id for sample in opened.task.samples("test")]
    ended = [0.5 * row["terminated"] for row in evaluation.rows]
    letters = [
        row["completion"].count("a") / max(len(row["completion"]), 1) for row in evaluation.rows
    ]
    bonus = [0.25 * len(row["completion_ids"]) for row in evaluation.rows]
    found = [row["reward"] for row in evaluation.rows]
    np.testing.assert_allclose(found, np.add(np.add(ended, letters), bonus), rtol=1e-6)
    assert evaluation.results.reward == pytest.approx(np.mean(found))
    opened.evaluator("test", 4)
    assert len(reward.prepared) == 6
    core = EpisodeCore(opened.task, opened.codec, split="test")
    done = [row["completion_ids"] for row in evaluation.rows]
    ids = np.full((4, core.rules.max_tokens), core.rules.vocabulary.pad_id)
    for row, tokens in enumerate(done):
        ids[row, : len(tokens)] = tokens
    prompts = opened.codec.prompts(opened.task.samples("test")[:4])
    totals = core.outcome(prompts, core.completions(ids)).totals
    np.testing.assert_array_equal(totals.numpy(), np.float32(found))
    assert opened.core.counters.episodes == 0  # training's counters are its own


def test_the_temperature_of_evaluations_is_the_tasks_or_the_given_one(world):
    """`evaluation.temperature` does what the same temperature in task.yaml does, in every number."""
    every = {
        "evaluation": {"every": 2, "validation_samples": 4, "test_samples": 6, "greedy": False}
    }

    def facts(name, **evaluation):
        given = world.given(name, evaluation=every["evaluation"] | evaluation)
        record = run("toy", "ppo", config=given)
        return record, {key: value.model_dump() for key, value in record.results.items()}

    plain, plain_results = facts("plain")
    warm, given_results = facts("given", temperature=0.3)
    world.edit_task(decoding={"temperature": 0.3})
    _, task_results = facts("task")
    assert given_results == task_results
    assert given_results != plain_results
    assert warm.config["evaluation"]["temperature"] == 0.3
    assert plain.config["evaluation"]["temperature"] is None
