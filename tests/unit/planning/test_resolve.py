"""Defaults < tuned settings < given < overrides; the digest is of the experiment alone."""

from __future__ import annotations

import pytest

from lmrl_bench.config.run import PolicyConfig, training_digest
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.planning.initial_policy import sft_config
from lmrl_bench.planning.resolve import own_folder, resolve, settings_note, tuned_settings

NO_TUNING = {"algorithm": {"name": "a2c"}}


@pytest.fixture
def task(world):
    (world.folder / "algorithms").mkdir()
    (world.folder / "algorithms" / "ppo.yaml").write_text(
        "algorithm: {name: ppo, epochs: 7, gamma: 0.9, clip_range: 0.3}\nbudget: {tokens: 500}\n"
    )
    return world.task


def test_precedence(task):
    given = {"algorithm": {"name": "ppo", "gamma": 0.8, "clip_range": 0.1}}
    resolved = resolve(
        task, given, overrides=["algorithm.clip_range=0.05", "sampling.temperature=2"]
    )
    algorithm = resolved.algorithm.model_dump()
    assert algorithm["gae_lambda"] == 0.95  # default of the algorithm
    assert algorithm["epochs"] == 7  # tuned
    assert algorithm["gamma"] == 0.8  # given, over tuned
    assert algorithm["clip_range"] == 0.05  # --set, over given and tuned
    assert resolved.budget.tokens == 500
    assert resolved.sampling.temperature == 2.0
    assert resolved.evaluation.every == 5  # default of every run
    assert resolved.task == "toy"
    assert resolved.policy.model == task.spec.policy.default


def test_tuned_settings_are_of_one_algorithm(task):
    assert tuned_settings(task, "a2c") is None
    assert resolve(task, NO_TUNING).budget.tokens == 60_000


def test_tuned_settings_are_of_one_policy(task):
    """A learning rate that suits the task's own policy is not applied to another one without a word."""
    given = {"algorithm": {"name": "ppo"}, "policy": {"model": "/models/smollm"}}
    other = resolve(task, given)
    assert other.algorithm.model_dump()["epochs"] == 4  # the algorithm's default
    assert other.budget.tokens == 60_000
    note = settings_note(task, other)
    assert "the defaults of 'ppo'" in note
    assert "not for 'smollm'" in note
    assert "toy/algorithms/smollm/ppo.yaml" in note
    by_name = {"algorithm": {"name": "ppo"}, "policy": {"model": task.spec.policy.default}}
    assert resolve(task, by_name).algorithm.model_dump()["epochs"] == 7
    assert "toy/algorithms/ppo.yaml" in settings_note(task, resolve(task, by_name))
    own = task.folder / "algorithms" / "smollm"
    own.mkdir()
    (own / "ppo.yaml").write_text("algorithm: {epochs: 2}\n")
    assert resolve(task, given).algorithm.model_dump()["epochs"] == 2
    assert "algorithms/smollm/ppo.yaml" in settings_note(task, resolve(task, given))
    assert "none of its own" in settings_note(task, resolve(task, NO_TUNING))


def test_a_single_run_has_a_folder_of_its_configuration(task):
    """The default configuration keeps its plain place; another policy, or a setting, gets its own."""

    def place(*overrides, **given):
        config = resolve(task, {"algorithm": {"name": "a2c"}, **given}, overrides=overrides)
        return own_folder(task, config).folder.as_posix()

    assert place() == place("runtime.threads=2") == "results/runs/toy/a2c/0"
    assert place(seed=3) == "results/runs/toy/a2c/3"
    assert place("runtime.output=mine") == "mine"
    others = [place("budget.tokens=500"), place(policy={"model": "/models/smollm"})]
    assert len({place(), *others, place("budget.tokens=501")}) == 4
    digest = resolve(task, NO_TUNING, overrides=["budget.tokens=500"]).digest()
    assert others[0] == f"results/runs/toy/a2c-{digest[:8]}/0"


def test_the_decoding_of_evaluations_counts_only_when_it_is_given(task):
    plain = resolve(task, NO_TUNING)
    assert plain.scientific()["evaluation"]["temperature"] is None
    warm = resolve(task, NO_TUNING, overrides=["evaluation.temperature=0.7"])
    assert warm.scientific()["evaluation"]["temperature"] == 0.7
    assert warm.digest() != plain.digest()
    with pytest.raises(ConfigError, match=r"evaluation\.temperature: must be above 0|greater"):
        resolve(task, NO_TUNING, overrides=["evaluation.temperature=0"])


def test_every_field_is_written_out_and_resolving_again_changes_nothing(task):
    resolved = resolve(task, {"algorithm": {"name": "ppo"}})
    assert resolved.algorithm.model_dump()["kl"]["coefficient"] is not None
    again = resolve(task, resolved.model_dump(mode="json"))
    assert again == resolved


def test_the_digest_leaves_out_seed_entry_and_runtime(task):
    digest = resolve(task, NO_TUNING).digest()
    same = {**NO_TUNING, "seed": 5, "entry": "mine", "runtime": {"output": "x", "threads": 2}}
    assert resolve(task, same).digest() == digest
    for part in (
        {"algorithm": {"name": "a2c", "gamma": 0.5}},
        {"budget": {"tokens": 61_000}},
        {"policy": {"init": "base"}},
        {"sampling": {"temperature": 0.5}},
        {"evaluation": {"every": 6}},
    ):
        assert resolve(task, {**NO_TUNING, **part}).digest() != digest


def test_problems_of_tuned_settings_run_and_algorithm_stand_together(task):
    path = task.folder / "algorithms" / "ppo.yaml"
    path.write_text("algorithm:\n  name: ppo\n  epoch: 7\nbudget: {tokens: 0}\n")
    with pytest.raises(ConfigError) as raised:
        resolve(task, {"algorithm": {"name": "ppo", "gama": 1}}, overrides=["seed=x"])
    text = str(raised.value)
    assert len(text.splitlines()) == 4
    for part in (
        f"{path}:3: algorithm.epoch",
        f"{path}:4: budget.tokens",
        "algorithm.gama",
        "--set seed",
    ):
        assert part in text


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_numbers_are_finite(task, value):
    """A record, which is JSON, could not say what was run."""
    with pytest.raises(ConfigError, match=r"algorithm\.learning_rate"):
        resolve(task, NO_TUNING, overrides=[f"algorithm.learning_rate={value}"])


SHIFT = {"name": "affine", "args": {"shift": 1.0}}


def test_reward_transforms_are_the_tasks_unless_the_run_says_otherwise(world):
    given = {"algorithm": {"name": "reinforce"}}
    assert resolve(world.task, given).scientific()["reward"] == {"transforms": None}
    plain = resolve(world.task, given | {"reward": {"transforms": []}})
    assert plain.digest() == resolve(world.task, given).digest()  # nobody declares any
    before = world.task.digest
    world.edit_task(reward={"transforms": [SHIFT]})
    assert world.task.digest != before
    mine = resolve(world.task, given)
    assert mine.scientific()["reward"] == {"transforms": [SHIFT]}
    none = resolve(world.task, given, overrides=["reward.transforms=[]"])
    assert none.scientific()["reward"] == {"transforms": []}
    assert len({mine.digest(), none.digest(), plain.digest()}) == 3
    again = resolve(world.task, none.scientific())
    assert again.digest() == none.digest()  # from a record, the choice stays


def test_transforms_do_not_change_the_sft_policy(world):
    before = training_digest(sft_config(world.task, PolicyConfig()).scientific())
    world.edit_task(reward={"transforms": [SHIFT]})
    assert training_digest(sft_config(world.task, PolicyConfig()).scientific()) == before


def test_a_wrong_transform_is_named_with_its_place(world):
    with pytest.raises(
        ConfigError, match=r"--set reward.*: reward.transforms: unknown reward transform 'whitten'"
    ):
        resolve(world.task, NO_TUNING, overrides=["reward.transforms=[{name: whitten}]"])
    world.edit_task(reward={"transforms": [{"name": "clip"}]})
    with pytest.raises(
        ConfigError, match=r"task.yaml: .*reward transform 'clip': argument 'low' is miss"
    ):
        resolve(world.task, NO_TUNING)
