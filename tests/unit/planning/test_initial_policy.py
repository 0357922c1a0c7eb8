"""The SFT policy: trained once, reused, and never another task's."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest
from fixtures.runs import initial_policy, planned, sft_folder, ship_toy_sft_policy, trained_policy
from fixtures.toy import tiny_causal, toy_model_folder

from lmrl_bench import run
from lmrl_bench.config.run import PolicyConfig
from lmrl_bench.core.errors import ConfigError, PolicyError, RecordError
from lmrl_bench.models import names
from lmrl_bench.models.fingerprints import model_digests
from lmrl_bench.planning.initial_policy import sft_config
from lmrl_bench.planning.plan import plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.pretraining.sft_policies import ship_sft_policy
from lmrl_bench.records.expected import ExpectedInitialPolicy
from lmrl_bench.records.seal import seal_path, write_seal
from lmrl_bench.tasks.catalog import load_task

POLICY = PolicyConfig()


def passed_over(task, policy):
    """Why a shipped policy is not used."""
    return planned(task, policy).initial.recipe.source.passed_over


@pytest.fixture
def quick(world):
    """SFT training of one pass."""
    (world.folder / "algorithms").mkdir()
    (world.folder / "algorithms" / "sft.yaml").write_text(
        "algorithm: {epochs: 1, batch_size: 6}\n"
        "evaluation: {validation_samples: 2, test_samples: 2, greedy: false}\n"
    )
    return world


def test_a_start_is_trained_once_and_reused(quick):
    events = []
    with pytest.raises(PolicyError, match=r"no SFT policy.*--algorithm ppo"):
        initial_policy(quick.task, POLICY)
    first = trained_policy(quick.task, POLICY, events.append)
    said = next(event.text for event in events if event.kind == "note")
    for part in (
        "2 steps of 6 samples",
        "lower `max_steps` in",
        "algorithms/sft.yaml, for example `algorithm: {max_steps: 1}`",
        "--set policy.init=base",
    ):
        assert part in said
    assert str(sft_folder(quick.task, POLICY).parent) in said
    steps = [event for event in events if event.text.startswith("step ")]
    assert [(event.text, event.done) for event in steps] == [("step 1/2", 0.5), ("step 2/2", 1.0)]
    assert first.kind == "sft"
    assert first.model == str(quick.model)
    assert first.location == str(sft_folder(quick.task, POLICY))
    n_events = len(events)
    assert trained_policy(quick.task, POLICY, events.append) == first
    assert len(events) == n_events

    given = quick.given(policy={"init": "sft"}, algorithm={"name": "no-training"})
    record = run("toy", "no-training", config=given)
    base = run("toy", "no-training", config=quick.given("base", algorithm={"name": "no-training"}))
    assert record.policy.init == "sft"
    assert base.policy.init == "base"
    assert record.policy.weights_sha256 != base.policy.weights_sha256
    # The reference of a run is the policy that it starts from.
    assert record.results["test"].kl_to_reference == pytest.approx(0.0, abs=1e-5)


def test_the_trained_start_is_named_by_everything_that_defines_it(quick):
    names = [sft_folder(quick.task, POLICY)]
    # A start is the same for runs that differ elsewhere.
    assert sft_folder(quick.task, PolicyConfig(value_trunk="separate")) in names
    names.append(sft_folder(quick.task, PolicyConfig(model="nano-causal")))
    names.append(sft_folder(quick.task, PolicyConfig(revision="abc")))
    (quick.folder / "algorithms" / "sft.yaml").write_text("algorithm: {epochs: 2}\n")
    names.append(sft_folder(quick.task, POLICY))
    quick.edit_task(version=2, metrics={"held_out": [{"name": "ter"}]})
    assert sft_folder(quick.task, POLICY) in names  # what learning does not read
    quick.edit_task(completion={"max_tokens": 5})
    names.append(sft_folder(quick.task, POLICY))
    tiny_causal("gpt2", seed=7).save_pretrained(quick.model)
    names.append(sft_folder(quick.task, POLICY))
    tokenizer = quick.model / "tokenizer_config.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    names.append(sft_folder(quick.task, POLICY))
    assert len(set(names)) == 7


def test_how_it_is_evaluated_and_computed_makes_no_other_start(quick):
    settings = quick.folder / "algorithms" / "sft.yaml"
    names = []
    for text in (
        "algorithm: {epochs: 2}",
        "algorithm: {epochs: 2, autocast: bfloat16, micro_batch_tokens: 64}",
        "{algorithm: {epochs: 2}, evaluation: {every: 9, batch_size: 3, test_samples: 2}}",
    ):
        settings.write_text(text)
        names.append(sft_folder(quick.task, POLICY))
    assert len(set(names)) == 1


@pytest.fixture
def shipped(quick, monkeypatch):
    """A shipped base policy and its shipped SFT policy."""
    monkeypatch.setattr(names, "SHIPPED", quick.root / "shipped")
    toy_model_folder(quick.root / "shipped" / "tiny")
    quick.edit_task(policy={"default": "tiny"})
    folder = quick.root / "shipped" / "tiny--toy"
    ship_toy_sft_policy(quick, folder)
    return folder


def test_a_shipped_start_counts_for_its_task_and_settings_only(quick, shipped):
    found = initial_policy(quick.task, POLICY)
    assert (found.location, found.kind) == (str(shipped), "sft")
    assert passed_over(quick.task, POLICY) is None
    quick.edit_task(version=2, metrics={"held_out": [{"name": "ter"}]})
    assert initial_policy(quick.task, POLICY).location == str(shipped)  # learning reads no metric
    quick.edit_task(completion={"max_tokens": 5})
    assert "other data, prompts or completions" in passed_over(quick.task, POLICY)
    with pytest.raises(PolicyError, match="no SFT policy for 'tiny'"):
        initial_policy(quick.task, POLICY)
    ship_toy_sft_policy(quick, shipped)
    assert initial_policy(quick.task, POLICY).location == str(shipped)
    (quick.folder / "algorithms" / "sft.yaml").write_text("algorithm: {epochs: 2}\n")
    assert "other SFT settings" in passed_over(quick.task, POLICY)
    events = []
    trained = trained_policy(quick.task, POLICY, events.append)
    assert trained.location == str(sft_folder(quick.task, POLICY))
    assert "other SFT settings (their digest differs); training one" in events[0].text
    (shipped / "training.json").unlink()
    assert passed_over(quick.task, POLICY) is None


def test_a_shipped_start_of_other_weights_is_one_clear_error(quick, shipped):
    tiny_causal("gpt2", seed=7).save_pretrained(shipped.with_name("tiny"))
    for find in (initial_policy, trained_policy):
        with pytest.raises(PolicyError) as caught:
            find(quick.task, POLICY)
        assert str(caught.value).startswith(f"{shipped}: this SFT policy was made from other")
        assert "train it again (lmrl-bench run --task toy" in str(caught.value)
        assert "remove the folder" in str(caught.value)
    assert not list(quick.root.rglob("record.json"))


def test_the_recipe_needs_no_torch_and_is_that_of_the_checked_configuration(quick):
    (quick.folder / "algorithms" / "sft.yaml").write_text(
        "algorithm: {epochs: 1, learning_rate: 1, weight_decay: 0}\n"  # whole numbers are numbers
    )
    given = {"algorithm": {"name": "sft"}}
    assert sft_config(quick.task, POLICY).digest() == resolve(quick.task, given).digest()
    code = (
        "import sys; from lmrl_bench.planning.plan import plan_run;"
        "from lmrl_bench.planning.resolve import resolve_unchecked;"
        "from lmrl_bench.tasks.catalog import load_task; task = load_task('toy');"
        "plan = plan_run(task, resolve_unchecked(task, {'algorithm': {'name': 'no-training'}}));"
        "assert plan.initial.state == 'to be trained';"
        "print(plan.initial.recipe.folder);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(sft_folder(quick.task, POLICY).parent), done.stderr


def test_a_run_never_goes_on_from_another_start(quick, monkeypatch):
    """Another start takes the place of the first between two sittings: neither checkpoint nor record counts."""

    def stop(event):
        if event.kind == "iteration" and event.counted:
            signal.raise_signal(signal.SIGTERM)

    given = quick.given(policy={"init": "sft"}, budget={"tokens": 200})
    stopped = run("toy", "ppo", config=given, progress=stop)
    assert stopped.status == "interrupted"
    start = sft_folder(quick.task, POLICY)
    tiny_causal("gpt2", seed=7).save_pretrained(start)
    write_seal(start)
    with pytest.raises(RecordError, match=r"state\.pt: the checkpoint belongs to another run"):
        run("toy", "ppo", config=given)
    afresh = run("toy", "ppo", config=given, rerun="all")
    assert afresh.policy.weights_sha256 != stopped.policy.weights_sha256
    tiny_causal("gpt2", seed=8).save_pretrained(quick.model)  # the base: another recipe
    with pytest.raises(RecordError, match=r"policy\.base_weights_sha256 is \w+… in the record"):
        run("toy", "ppo", config=given)


@pytest.mark.parametrize(
    "damage", ["flip", "missing", "added", "no record", "record", "digests", "last byte"]
)
def test_a_damaged_start_is_trained_again_and_not_used(quick, damage):
    first = trained_policy(quick.task, POLICY)
    policy = sft_folder(quick.task, POLICY)
    weights, record = policy / "model.safetensors", policy.parent / "record.json"
    if damage == "flip":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "missing":
        (policy / "tokenizer.json").unlink()
    elif damage == "added":
        (policy / "adapter_config.json").write_text("{}")
    elif damage == "no record":
        record.unlink()
    elif damage == "record":
        record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
    elif damage == "last byte":
        seal_path(policy).write_bytes(seal_path(policy).read_bytes()[:-1] + b"\x0b")
    else:
        seal_path(policy).write_bytes(b"\xff")
    with pytest.raises(PolicyError, match="no SFT policy"):
        initial_policy(quick.task, POLICY)
    assert trained_policy(quick.task, POLICY) == first


def test_a_start_that_cannot_be_trained_says_why(quick, monkeypatch):
    quick.add_reward("broken-for-starts", "1 / 0")
    with pytest.raises(
        PolicyError, match=r"SFT policy of 'toy' was not trained: .*division by zero"
    ):
        trained_policy(quick.task, POLICY)


def test_a_start_whose_training_the_user_stopped(quick, monkeypatch):
    from lmrl_bench.runs.trainer import Trainer

    train = Trainer.train

    def stopped(self, state):
        self.stop_requested = True
        train(self, state)

    monkeypatch.setattr(Trainer, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained_policy(quick.task, POLICY)
    monkeypatch.setattr(Trainer, "train", train)
    assert trained_policy(quick.task, POLICY).kind == "sft"


def test_sft_learning_begins_at_the_base_model(quick):
    given = {key: value for key, value in quick.given().items() if key != "policy"}
    record = run("toy", "sft", config=given)
    assert record.status == "completed"
    assert record.policy.init == "base"


def test_sft_learning_refuses_its_own_result_as_a_start(quick):
    given = quick.given(policy={"init": "sft"})
    with pytest.raises(ConfigError, match=r"policy\.init.*use base"):
        run("toy", "sft", config=given)


def test_a_shipped_start_is_found_by_what_shipping_wrote(quick, shipped):
    """From the run to the folder to the next run's initial policy; and only from the installed weights."""
    folder = quick.root / "sft"
    given = {"runtime": {"output": str(folder), "keep_policy": True}}
    record = run("toy", "sft", config=given)
    assert record.policy.model == "tiny"
    shutil.rmtree(shipped)
    assert ship_sft_policy(folder, shipped.parent) == shipped
    found = initial_policy(quick.task, POLICY)
    assert found.location == str(shipped)
    again = run(
        "toy",
        "no-training",
        config=quick.given(policy={"init": "sft"}, algorithm={"name": "no-training"}),
    )
    assert again.policy.sft_recipe_sha256 == found.recipe.fingerprint
    assert again.policy.weights_sha256 == found.digests.weights
    assert again.policy.base_weights_sha256 == record.policy.weights_sha256
    tiny_causal("gpt2", seed=7).save_pretrained(shipped.with_name("tiny"))
    with pytest.raises(PolicyError, match="started from other weights of 'tiny'"):
        ship_sft_policy(folder, shipped.parent)


@pytest.mark.parametrize("folder", sorted(names.SHIPPED.glob("*--*")), ids=lambda path: path.name)
def test_the_shipped_starts_fit_todays_tasks_settings_and_base_policies(folder):
    """If this fails, `quickstart` trains a start first: train it again and ship it."""
    model, _, task = folder.name.partition("--")
    policy = PolicyConfig(model=model)
    assert passed_over(load_task(task), policy) is None
    assert initial_policy(load_task(task), policy).location == str(folder)


def test_what_a_leaderboard_expects_of_a_start(quick, shipped):
    """Exact weights where everybody has them, the recipe where each machine trains for itself."""

    def expected(**policy):
        config = resolve(quick.task, {"algorithm": {"name": "no-training"}, "policy": policy})
        return plan_run(quick.task, config).expected.initial_policy

    found = initial_policy(quick.task, POLICY)
    base = model_digests("tiny")
    assert expected() == ExpectedInitialPolicy(
        found.digests.weights, found.digests.tokenizer, base.weights, found.recipe.fingerprint
    )
    assert expected(init="base") == ExpectedInitialPolicy(
        base.weights, base.tokenizer, base.weights
    )
    assert expected(model="nobody/knows") == expected(model="minilm") == ExpectedInitialPolicy()
    shutil.rmtree(shipped)
    assert expected() == ExpectedInitialPolicy(
        base_weights=base.weights, recipe=found.recipe.fingerprint
    )
