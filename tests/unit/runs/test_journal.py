"""What the record says of the task: directions, held-out metrics, signatures."""

from __future__ import annotations

from lmrl_bench.runs.journal import task_info


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
