"""The supervised start: trained once, reused, and never another task version's."""

from __future__ import annotations

import json
import shutil

import pytest

from lmrl_bench.config.run import PolicyConfig
from lmrl_bench.errors import ConfigError, PolicyError
from lmrl_bench.runs import starts
from lmrl_bench.runs.execute import run
from lmrl_bench.runs.starts import ensure_start, find_start, trained_start

POLICY = PolicyConfig()


@pytest.fixture
def quick(world):
    """Supervised training of one pass."""
    (world.folder / "algorithms").mkdir()
    (world.folder / "algorithms" / "supervised.yaml").write_text(
        "algorithm: {epochs: 1, batch_size: 6}\n"
        "evaluation: {validation_samples: 2, test_samples: 2, greedy: false}\n"
    )
    return world


def test_a_start_is_trained_once_and_reused(quick):
    events = []
    with pytest.raises(PolicyError, match=r"no supervised policy.*--algorithm ppo"):
        find_start(quick.task, POLICY)
    first = ensure_start(quick.task, POLICY, events.append)
    assert events
    assert first.kind == "supervised"
    assert first.model == str(quick.model)
    assert first.location == str(trained_start(quick.task, POLICY))
    n_events = len(events)
    assert ensure_start(quick.task, POLICY, events.append) == first
    assert len(events) == n_events

    given = quick.given(policy={"start": "supervised"}, algorithm={"name": "none"})
    record = run("toy", "none", given=given)
    base = run("toy", "none", given=quick.given("base", algorithm={"name": "none"}))
    assert record.policy.start == "supervised"
    assert base.policy.start == "base"
    assert record.policy.weights_sha256 != base.policy.weights_sha256
    # The reference of a run is the policy that it starts from.
    assert record.results["test"].kl_to_reference == pytest.approx(0.0, abs=1e-5)


def test_the_trained_start_is_named_by_everything_that_defines_it(quick):
    names = {trained_start(quick.task, POLICY)}
    names.add(trained_start(quick.task, PolicyConfig(model="nano-causal")))
    names.add(trained_start(quick.task, PolicyConfig(revision="abc")))
    (quick.folder / "algorithms" / "supervised.yaml").write_text("algorithm: {epochs: 2}\n")
    names.add(trained_start(quick.task, POLICY))
    quick.edit_task(version=2)
    names.add(trained_start(quick.task, POLICY))
    assert len(names) == 5
    # A start is the same for runs that differ elsewhere.
    assert trained_start(quick.task, PolicyConfig(value_trunk="separate")) in names


def test_a_shipped_start_counts_for_its_version_of_the_task_only(quick, monkeypatch):
    monkeypatch.setattr(starts, "SHIPPED", quick.root / "shipped")
    quick.edit_task(policies={"default": "tiny"})
    folder = quick.root / "shipped" / "tiny--toy"
    shutil.copytree(quick.model, folder)
    for version, found in ((1, True), (2, False)):
        (folder / "training.json").write_text(
            json.dumps({"task": {"name": "toy", "version": version}})
        )
        assert (starts.shipped_start(quick.task, "tiny") == folder) is found
    with pytest.raises(PolicyError, match="no supervised policy for 'tiny'"):
        find_start(quick.task, POLICY)
    quick.edit_task(version=2)
    assert find_start(quick.task, POLICY).location == str(folder)
    (folder / "training.json").unlink()
    assert starts.shipped_start(quick.task, "tiny") is None


def test_a_start_that_cannot_be_trained_says_why(quick, monkeypatch):
    quick.add_reward("broken-for-starts", "1 / 0")
    with pytest.raises(
        PolicyError, match=r"supervised policy of 'toy' was not trained: .*division by zero"
    ):
        ensure_start(quick.task, POLICY)


def test_a_start_whose_training_the_user_stopped(quick, monkeypatch):
    from lmrl_bench.runs.trainer import Trainer

    train = Trainer.train

    def stopped(self, state):
        self.stop_requested = True
        train(self, state)

    monkeypatch.setattr(Trainer, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        ensure_start(quick.task, POLICY)
    monkeypatch.setattr(Trainer, "train", train)
    assert ensure_start(quick.task, POLICY).kind == "supervised"


def test_supervised_learning_begins_at_the_base_model(quick):
    given = {key: value for key, value in quick.given().items() if key != "policy"}
    record = run("toy", "supervised", given=given)
    assert record.status == "completed"
    assert record.policy.start == "base"


def test_supervised_learning_refuses_its_own_result_as_a_start(quick):
    given = quick.given(policy={"start": "supervised"})
    with pytest.raises(ConfigError, match=r"policy\.start.*use base"):
        run("toy", "supervised", given=given)
