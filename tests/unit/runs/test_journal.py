"""The record's facts about the task and the policy: directions, held-out metrics, signatures, parameters."""

from __future__ import annotations

import pytest
from fixtures.toy import tiny_causal

from lmrl_bench import run
from lmrl_bench.core.errors import MetricError
from lmrl_bench.runs.record_parts import task_info


def test_the_record_names_the_metrics_of_which_less_is_better(world):
    world.edit_task(
        metrics={"primary": {"name": "chrf"}, "held_out": [{"name": "bleu"}, {"name": "ter"}]}
    )
    found = task_info(world.task)
    assert found.lower_is_better == ["ter"]
    assert found.primary_metric == "chrf"
    assert found.held_out_metrics == ["bleu", "ter"]
    assert set(found.metric_signatures) == {"chrf", "bleu", "ter"}
    assert "CHRF" in found.reward_signature


def test_the_record_names_the_metrics_without_a_direction(world):
    assert task_info(world.task).neutral_metrics == []
    world.edit_task(
        metrics={
            "primary": {"name": "chrf"},
            "held_out": [{"name": "bleu"}, {"name": "ter"}],
            "others": [{"name": "length", "as": "words"}],
        }
    )
    found = task_info(world.task)
    assert found.lower_is_better == ["ter"]
    assert found.neutral_metrics == ["words"]
    assert [found.higher_is_better(key) for key in ("chrf", "ter", "words")] == [True, False, None]


def test_a_metric_without_a_direction_cannot_rank(world):
    world.edit_task(metrics={"primary": {"name": "length"}, "held_out": [{"name": "bleu"}]})
    with pytest.raises(MetricError, match=r"the primary metric 'length' has no better direction"):
        task_info(world.task)


def test_tied_weights_are_counted_once(world):
    model = tiny_causal("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    distinct = {id(tensor): tensor.numel() for tensor in model.parameters()}
    record = run("toy", "no-training", config=world.given(algorithm={"name": "no-training"}))
    assert record.policy.parameters == sum(distinct.values())
