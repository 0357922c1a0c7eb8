"""A plan is made once: it travels to other processes, hashes each file once, and notices what has changed since."""

from __future__ import annotations

import pickle
import shutil
import time
from collections import Counter

import pytest
from fixtures.runs import planned, ship_toy_sft_policy
from fixtures.toy import tiny_causal, toy_model_folder

from lmrl_bench import run
from lmrl_bench.config.run import PolicyConfig
from lmrl_bench.core import digests
from lmrl_bench.core.errors import ConfigError, PolicyError
from lmrl_bench.models import names
from lmrl_bench.planning.plan import RerunPolicy, plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.runs.execute import execute


@pytest.fixture
def hashed(monkeypatch):
    """The weights that were hashed, by folder."""
    found, own = Counter(), digests.file_sha256

    def counted(path):
        if path.suffix == ".safetensors":
            found[path.parent.name] += 1
        return own(path)

    monkeypatch.setattr(digests, "file_sha256", counted)
    return found


def test_a_run_hashes_each_weights_file_once(world, monkeypatch, hashed):
    """Base model and shipped SFT policy, of a fresh run and of one with nothing to do."""
    monkeypatch.setattr(names, "SHIPPED", world.root / "shipped")
    toy_model_folder(world.root / "shipped" / "tiny")
    world.edit_task(policy={"default": "tiny"})
    ship_toy_sft_policy(world, world.root / "shipped" / "tiny--toy")
    time.sleep(0.1)  # a file that was written in the last tick of the clock is not remembered
    digests._known.clear()
    hashed.clear()
    config = world.given(policy={"init": "sft"}, algorithm={"name": "no-training"})
    record = run("toy", "no-training", config=config)
    assert hashed == {"tiny": 1, "tiny--toy": 1}
    assert run("toy", "no-training", config=config) == record
    assert hashed == {"tiny": 1, "tiny--toy": 1}
    digests._known.clear()  # as in another process
    assert run("toy", "no-training", config=config) == record
    assert hashed == {"tiny": 2, "tiny--toy": 2}


def test_weights_that_changed_are_hashed_again(world, hashed):
    record = run("toy", "no-training", config=world.given("one", algorithm={"name": "no-training"}))
    tiny_causal("gpt2", seed=7).save_pretrained(world.model)
    other = run("toy", "no-training", config=world.given("two", algorithm={"name": "no-training"}))
    assert other.policy.weights_sha256 != record.policy.weights_sha256


def test_a_pickled_plan_names_its_task_and_opens_it_again(world):
    plan = plan_run(world.task, resolve(world.task, world.given(algorithm={"name": "no-training"})))
    copy = pickle.loads(pickle.dumps(plan))
    assert copy == plan
    assert len(pickle.dumps(plan)) < 10_000  # no data, no models
    assert copy.task.digest == plan.task.digest
    assert execute(copy).status == "completed"
    copy = pickle.loads(pickle.dumps(plan))
    world.edit_task(version=2)
    assert copy.task.spec.version == 1  # opened before, in this process
    other = plan_run(
        world.task, resolve(world.task, world.given(algorithm={"name": "no-training"}))
    )
    stale = pickle.loads(pickle.dumps(other))
    world.edit_task(version=3)
    with pytest.raises(ConfigError, match="'toy' has changed since the run was planned"):
        _ = stale.task


def test_a_policy_that_changed_since_the_run_was_planned_is_refused(world):
    plan = planned(world.task, PolicyConfig(init="base"))
    tiny_causal("gpt2", seed=7).save_pretrained(world.model)
    with pytest.raises(PolicyError, match="has changed since the run was planned"):
        plan.prepared()
    shutil.rmtree(world.model)
    with pytest.raises(PolicyError):
        plan.prepared()


def test_which_records_do_not_count():
    assert RerunPolicy.of() == RerunPolicy.NONE
    assert RerunPolicy.of("failed", "stale") == RerunPolicy.FAILED | RerunPolicy.STALE
    assert RerunPolicy.ALL in RerunPolicy.of("all")
    assert RerunPolicy.STALE not in RerunPolicy.of("failed")
