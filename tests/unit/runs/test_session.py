"""A session selects the rows for training, the rows for evaluation, and the initial weights."""

from __future__ import annotations

import pytest
from fixtures.toy import tiny_causal

from lmrl_bench.core.errors import ConfigError, DataError
from lmrl_bench.planning.plan import plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.runs.session import open_session


@pytest.fixture
def session(world):
    return lambda **changes: open_session(
        plan_run(world.task, resolve(world.task, world.given(**changes))).prepared()
    )


def split_of(sample_id):
    return sample_id.rsplit("-", 1)[0]


@pytest.mark.parametrize("algorithm", ["ppo", "sft"])
def test_training_draws_from_the_training_split_alone(session, world, algorithm):
    settings = {"name": algorithm} if algorithm == "sft" else world.given()["algorithm"]
    opened = session(algorithm=settings)
    rows = len(world.task.samples("train"))
    drawn = set(opened.core.sample_prompts(2 * rows).sample_ids)
    assert drawn == {sample.id for sample in world.task.samples("train")}
    if algorithm == "ppo":
        assert set(opened.algorithm.collect().episodes.sample_ids) <= drawn
    else:
        assert {
            sample.id for step in range(3) for sample in opened.algorithm.samples(step)
        } <= drawn


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(session, device):
    with pytest.raises(ConfigError, match=f"runtime.device: '{device}' cannot be used here"):
        session(runtime={"device": device})


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_is_evaluated_is_the_split_that_was_asked_for(session, world, split):
    rows = session().evaluator(split, 100).rows
    assert [row["sample_id"] for row in rows] == [sample.id for sample in world.task.samples(split)]


def test_the_digests_of_the_start_follow_its_files(session, world):
    before = session().plan.initial.digests
    assert session().plan.initial.digests == before
    tiny_causal("gpt2", seed=7).save_pretrained(world.model)
    after = session().plan.initial.digests
    assert after.weights != before.weights
    assert after.tokenizer == before.tokenizer


def test_every_row_is_met_before_any_time_is_spent(session, world):
    path = world.folder / "data" / "train.jsonl"
    path.write_text(
        path.read_text() + '{"prompt": "' + "the bad cab " * 9 + '", "references": ["a"]}\n'
    )
    with pytest.raises(DataError, match="more than the limit"):
        session()
