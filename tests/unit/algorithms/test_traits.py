"""Traits of plug-ins: what leaderboards and checks judge by, whoever wrote the algorithm."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from fixtures.runs import make_world

import lmrl_bench
import lmrl_bench.algorithms
from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.algorithms.no_training import NoTraining
from lmrl_bench.algorithms.ppo import PPO, PPOConfig
from lmrl_bench.leaderboards import collect
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.records.record import AlgorithmTraits
from lmrl_bench.records.store import read_record
from lmrl_bench.verification.bounds import problems


class Filtered(PPO):
    """A plug-in that acts through a token filter of its own."""

    summary = "PPO through a filter that a plug-in made"
    filters_tokens = True
    config_class = PPOConfig

    def make_token_filter(self):
        return TopPFilter(self.policy.network, self.behavior.vocabulary.eos_ids, top_p=0.5)

    def owned_modules(self):
        return {"token_filter": self.token_filter}


class Offline(NoTraining):
    """A plug-in that trains without generating a token (here: not at all)."""

    summary = "a plug-in that learns from data alone"
    trains = True


@pytest.fixture
def plugins(monkeypatch):
    monkeypatch.setitem(ALGORITHMS._objects, "filtered", Filtered)
    monkeypatch.setitem(ALGORITHMS._objects, "offline", Offline)


@pytest.fixture
def world(tmp_path, monkeypatch, plugins):
    return make_world(tmp_path, monkeypatch.setenv)


def test_a_plug_in_is_asked_for_its_traits(plugins):
    assert traits_of("filtered").model_dump() == {
        "trains": True, "spends_tokens": True, "filters_tokens": True,
    }  # fmt: skip
    assert traits_of("offline").model_dump() == {
        "trains": True, "spends_tokens": False, "filters_tokens": False,
    }  # fmt: skip


def ran(world, name, **changes):
    """Runs an algorithm on the toy task; returns its record as it is read back, and its folder."""
    settings = {"learning_rate": 0.01, "episodes_per_iteration": 8, "minibatch_episodes": 4}
    changes = {"algorithm": {"name": name, **(settings if name == "filtered" else {})}, **changes}
    config = world.given(name, **changes)
    record = lmrl_bench.run("toy", name, config=config)
    assert record.status == "completed", record.error
    return read_record(world.root / name), world.root / name


def leaderboard_row(record):
    """The row of a leaderboard with this one record."""
    cell = SimpleNamespace(task="toy", entry="mine", seed=record.seed)
    return collect._entry_results("mine", record.algorithm["name"], [(cell, record)], "leaderboard")


def test_a_plug_in_with_a_filter_is_evaluated_without_it_too_and_shown_so(world):
    record, folder = ran(world, "filtered", budget={"tokens": 120})
    assert record.traits == traits_of("filtered")
    assert "test-unfiltered" in record.results
    assert problems(folder, record, world.task) == []
    row = leaderboard_row(record)
    assert row.filtered
    assert not row.evaluation_only


def test_a_plug_in_that_spends_no_tokens_is_not_asked_for_its_budget(world):
    record, folder = ran(world, "offline")
    assert record.budget.tokens == 0
    assert [reason for reason in problems(folder, record, world.task) if "budget" in reason] == []
    row = leaderboard_row(record)
    assert not row.evaluation_only
    assert not row.filtered


def test_a_record_may_not_choose_its_traits(world):
    record, folder = ran(world, "filtered", budget={"tokens": 120})
    false = AlgorithmTraits(trains=True, spends_tokens=True, filters_tokens=False)
    lying = record.model_copy(update={"traits": false})
    assert any("traits are" in reason for reason in problems(folder, lying, world.task))


def test_the_best_of_n_is_evaluated_and_its_cost_counted(world):
    config = {"candidates": 6}
    plain, _ = ran(world, "no-training", policy={"init": "base"})
    record, folder = ran(
        world, "best-of-n", policy={"init": "base"}, algorithm={"name": "best-of-n", **config}
    )
    assert problems(folder, record, world.task) == []
    assert record.results["test"].reward > plain.results["test"].reward
    assert record.budget.tokens == 0
    assert record.results["test"].kl_to_reference == pytest.approx(0.0, abs=1e-4)
    n = record.results["test"].n
    assert (
        6 * n <= record.events["candidate_tokens"] <= 6 * n * world.task.spec.completion.max_tokens
    )


def test_classes_are_imported_by_name_only_when_asked():
    code = (
        "import sys, lmrl_bench.algorithms as a; assert 'torch' not in sys.modules; "
        "assert 'PPO' in dir(a) and 'GRPO' in a.__all__; from lmrl_bench.algorithms import PPO; "
        "assert PPO is a.ALGORITHMS.get('ppo') and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="PPOO"):
        lmrl_bench.algorithms.PPOO  # noqa: B018
