"""The Python calls take what users of a notebook have: mappings, configurations, loaded tasks, listeners."""

from __future__ import annotations

import pytest
from fixtures.runs import SETTINGS
from fixtures.submissions import LEADERBOARD, small_leaderboard

import lmrl_bench
from lmrl_bench.config.run import BudgetConfig, RunConfig
from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.policies.policy import LanguageModelPolicy

BASE = {"policy": {"init": "base"}}


def test_a_mapping_and_a_configuration_plan_the_same_run(world):
    mapping = lmrl_bench.plan_run("toy", "ppo", seed=3, config={"budget": {"tokens": 50}})
    budget = BudgetConfig(tokens=50)
    config = RunConfig(task="toy", algorithm={"name": "ppo"}, seed=3, budget=budget)
    assert lmrl_bench.plan_run(config=config).config == mapping.config
    assert lmrl_bench.plan_run(world.task, "ppo", seed=3, config=config).config == mapping.config
    assert (mapping.config.seed, mapping.config.budget.tokens) == (3, 50)


def test_defaults_of_a_configuration_do_not_hide_the_tasks_settings(world):
    folder = world.folder / "algorithms"
    folder.mkdir()
    (folder / "ppo.yaml").write_text("budget: {tokens: 70}\nalgorithm: {epochs: 2}\n")
    config = RunConfig(task="toy", algorithm={"name": "ppo"})
    planned = lmrl_bench.plan_run(config=config).config
    assert (planned.budget.tokens, planned.algorithm.epochs) == (70, 2)


def test_settings_of_another_algorithm_are_left_out(world):
    planned = lmrl_bench.plan_run("toy", "no-training", config=SETTINGS).config
    assert planned.algorithm.name == "no-training"
    assert not hasattr(planned.algorithm, "epochs")


@pytest.mark.parametrize(
    ("arguments", "config", "message"),
    [
        ((None, "ppo"), None, "no task named"),
        (("toy", None), None, "names no algorithm"),
        (("toy", "pppo"), None, "did you mean 'ppo'"),
        (("toy", "ppo"), {"budget": {"tokenz": 3}}, "config: budget.tokenz: unknown key"),
    ],
)
def test_wrong_arguments_are_one_message(arguments, config, message, world):
    with pytest.raises(ConfigError, match=message):
        lmrl_bench.plan_run(*arguments, config=config)


def test_a_plan_is_run_and_run_again_on_request(world):
    events = []
    plan = lmrl_bench.plan_run("toy", "ppo", config=world.given())
    record = lmrl_bench.run(plan, progress=events.append)
    assert record.status == "completed"
    assert {event.kind for event in events} >= {"started", "iteration", "finished"}
    events.clear()
    assert lmrl_bench.run(plan, progress=events.append) == record
    assert [event.text for event in events] == ["already completed"]
    events.clear()
    again = lmrl_bench.run(plan, rerun="all", progress=events.append)
    assert again.digest() == record.digest()
    assert {event.kind for event in events} >= {"started", "iteration", "finished"}
    with pytest.raises(
        ConfigError, match=r"rerun: unknown value 'fresh' \(allowed: all, failed, stale\)"
    ):
        lmrl_bench.run(plan, rerun="fresh")


def test_a_stale_record_is_replaced_on_request_alone(world):
    first = lmrl_bench.run("toy", "ppo", config=world.given())
    changed = world.given(budget={"tokens": 90})
    with pytest.raises(RecordError, match="holds the record of another run"):
        lmrl_bench.run("toy", "ppo", config=changed)
    with pytest.raises(RecordError, match="holds the record of another run"):
        lmrl_bench.run("toy", "ppo", config=changed, rerun="failed")
    assert lmrl_bench.run("toy", "ppo", config=changed, rerun="stale").digest() != first.digest()


def test_a_leaderboard_is_run_built_and_read(world):
    folder, said = small_leaderboard(world.root), []
    chosen = {"entries": ["ppo"], "seeds": [1], "say": said.append}
    plan = lmrl_bench.plan_leaderboard(folder, **chosen)
    assert [cell.state for cell in plan.cells] == ["missing"]
    part = lmrl_bench.run_leaderboard(folder, **chosen)
    assert part.outcome.statuses == {"toy/ppo/1": "completed"}
    assert not part.files
    assert "5 of 6 cells are not done" in part.unbuilt
    whole = lmrl_bench.run_leaderboard(folder, runtime={"threads": 1}, say=said.append)
    assert whole.outcome.ok
    assert [row["entry"] for row in whole.summary] == ["start", "ppo"]
    assert "README.md" in {path.name for path in whole.files}
    lmrl_bench.check_leaderboard(folder)
    assert lmrl_bench.leaderboard_table(folder).name == LEADERBOARD
    assert [power.task for power in lmrl_bench.leaderboard_power(folder)] == ["toy"]
    assert lmrl_bench.export_leaderboard(folder, "all.parquet") > 0
    assert len(lmrl_bench.list_runs("results").runs) == 6
    with pytest.raises(ConfigError, match=r"runtime\.devce"):
        lmrl_bench.run_leaderboard(folder, runtime={"devce": "cpu"})


def test_a_policy_is_loaded(world):
    policy = lmrl_bench.load_policy(world.model, "toy")
    assert isinstance(policy, LanguageModelPolicy)
