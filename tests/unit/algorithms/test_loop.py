"""The loop around an update: counters, callbacks, logs, KL, learning rate, errors, state."""

import math

import numpy as np
import pytest
import torch
from fixtures.toy import ToyReward, toy_task, toy_tokenizer
from fixtures.training import (
    ACTING,
    WITH_CRITIC,
    largest_difference,
    make_algorithm,
    make_policy,
    weights_of,
)
from pydantic import ValidationError
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecMonitor

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.no_training import NoTraining
from lmrl_bench.algorithms.ppo import PPOConfig
from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.errors import AlgorithmError, DivergedError, RewardNotFiniteError
from lmrl_bench.data.episodes import Episodes
from lmrl_bench.envs.sb3 import TextVecEnv
from lmrl_bench.envs.vector import TextGenerationVectorEnv
from lmrl_bench.rewards.base import RewardOutput
from lmrl_bench.runs.fidelity import FidelityWatch


class Memory(KVWriter):
    """A logger's output that keeps rows."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append({**key_values, "step": step})

    def close(self):
        pass


class Watcher(BaseCallback):
    """Counts its calls; stops after some."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.calls = []
        self.stop_after = stop_after

    def _on_training_start(self):
        self.calls.append("start")

    def _on_step(self):
        self.calls.append("step")
        return self.stop_after is None or self.calls.count("step") < self.stop_after

    def _on_rollout_end(self):
        self.calls.append("rollout")

    def _on_training_end(self):
        self.calls.append("end")


def learned(name="ppo", tokens=100, **settings):
    algorithm, rows = make_algorithm(name, total_tokens=tokens, **settings), []
    algorithm.learn(after_iteration=rows.append)
    return algorithm, rows


def test_every_registered_algorithm_says_what_it_is():
    for name in ALGORITHMS:
        algorithm = ALGORITHMS.get(name)
        assert len(algorithm.summary) > 20
        assert algorithm.trains == (not issubclass(algorithm, NoTraining))
        for field in algorithm.config_class.model_fields.values():
            assert field.description, (name, field)


def test_counters_add_up():
    task = toy_task()
    algorithm, rows = learned(task=task, group_size=2)
    lengths = [int(batch.lengths.sum()) for batch in task.reward_function.batches]
    assert [row.tokens for row in rows] == np.cumsum(lengths).tolist()
    assert rows[-2].tokens < 100 <= rows[-1].tokens == algorithm.tokens
    assert [row.iteration for row in rows] == list(range(1, len(rows) + 1))
    assert [row.episodes for row in rows] == [8 * row.iteration for row in rows]
    assert [row.optimizer_steps for row in rows] == [4 * row.iteration for row in rows]
    assert rows[-1].progress == 1.0 > rows[0].progress > 0.0
    assert set(rows[0].seconds) == {"generate", "reward", "score", "update"}
    names = [sample.id for sample in task.reward_function.batches[0].samples]
    assert names[0::2] == names[1::2]


def test_callbacks_and_logger_work():
    memory, watcher = Memory(), Watcher()
    algorithm = make_algorithm("ppo", total_tokens=100)
    algorithm.sb3.set_logger(Logger(None, [memory]))
    algorithm.learn(callback=watcher)
    n = algorithm.iteration
    assert watcher.calls == ["start", *["step", "rollout"] * n, "end"]
    assert len(memory.rows) == n
    last = memory.rows[-1]
    assert last["step"] == last["time/total_timesteps"] == algorithm.tokens
    assert last["rollout/ep_rew_mean"] == pytest.approx(last["rollout/score"], rel=1e-5)
    assert last["train/learning_rate"] == pytest.approx(1e-4)


def test_a_callback_stops_before_the_update():
    algorithm = make_algorithm("ppo")
    before = weights_of(algorithm.policy)
    algorithm.learn(callback=Watcher(stop_after=1))
    assert algorithm.iteration == 1
    assert all(torch.equal(before[k], v) for k, v in weights_of(algorithm.policy).items())


def test_sb3_checkpoints_are_states(tmp_path):
    algorithm = make_algorithm("ppo", total_tokens=60)
    algorithm.learn(callback=CheckpointCallback(1, str(tmp_path)))
    newest = max(tmp_path.glob("*.zip"), key=lambda path: path.stat().st_mtime_ns)
    other = make_algorithm("ppo", total_tokens=60)
    other.load_state_dict(torch.load(newest, weights_only=True))
    assert other.tokens == algorithm.tokens
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(AlgorithmError, match="load_state_dict"):
        algorithm.sb3.load(newest)


def test_sb3_evaluates_during_training_and_after_it(tmp_path):
    """`EvalCallback` and `evaluate_policy` step the token view with the policy as it is."""
    task, memory = toy_task(), Memory()
    algorithm = make_algorithm("ppo", task=task, total_tokens=60)
    width = int(algorithm.policy.action_space.n)
    venv = TextGenerationVectorEnv(task, toy_tokenizer(), num_envs=2, vocabulary_size=width)
    env = VecMonitor(TextVecEnv(venv))
    algorithm.sb3.env = env
    algorithm.sb3.set_logger(Logger(None, [memory]))
    callback = EvalCallback(
        env, n_eval_episodes=4, eval_freq=1, best_model_save_path=str(tmp_path), verbose=0
    )
    algorithm.learn(callback=callback)
    assert any("eval/mean_reward" in row for row in memory.rows)
    state = torch.load(tmp_path / "best_model", weights_only=True)
    assert state["algorithm"] == "PPO"
    scores, lengths = evaluate_policy(
        algorithm.sb3, env, n_eval_episodes=4, return_episode_rewards=True
    )
    assert len(scores) == 4
    assert all(1 <= length <= 8 for length in lengths)


@pytest.mark.parametrize("name", ACTING)
def test_the_kl_that_is_logged_is_the_kl_that_is_charged(name):
    """Pitfalls C3, C4: recomputed from the batch, once the policy has left the reference."""
    algorithm = (
        make_algorithm(name, learning_rate=3e-3, max_kl=0.1)
        if name == "trpo"
        else (make_algorithm(name, learning_rate=3e-3))
    )
    algorithm.learn(100)
    rollout = algorithm.collect()
    batch, stats = rollout.episodes, rollout.stats
    kl = (batch.behavior_logprobs - batch.ref_logprobs).masked_fill(~batch.mask, 0)
    assert abs(stats.kl) > 1e-3
    assert stats.kl == pytest.approx(float(kl.sum(1).mean()), rel=1e-5)
    charged = batch.scores - batch.rewards.sum(1)
    torch.testing.assert_close(charged, 0.1 * kl.sum(1), atol=1e-5, rtol=1e-4)
    assert stats.kl_charged == pytest.approx(float(charged.mean()), abs=1e-5)
    assert stats.score == pytest.approx(float(batch.scores.mean()))


def test_the_adaptive_coefficient_is_what_the_controller_says():
    algorithm, rows = learned(
        kl={"coefficient": 0.2, "target": 5.0, "horizon": 80}, learning_rate=1e-3
    )
    expected = 0.2
    for row in rows:
        assert row.rollout.kl_coefficient == pytest.approx(expected)
        error = min(max(row.rollout.kl / 5.0 - 1.0, -0.2), 0.2)
        expected *= 1 + 0.1 * error
    assert algorithm.kl.coefficient == pytest.approx(expected)


def test_the_kl_charge_pulls_the_policy_back_to_the_reference():
    """Pitfall C1: with no reward but the charge, the KL of a perturbed policy falls."""

    class Nothing(ToyReward):
        def __call__(self, batch):
            return RewardOutput(np.zeros(len(batch)))

    policy = make_policy()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            noise = torch.Generator().manual_seed(parameter.numel())
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
    rows = []
    # Whitened advantages would be mostly noise here: nothing but the charge tells episodes apart.
    algorithm = make_algorithm(
        "ppo", policy=policy, task=toy_task(reward=Nothing()), kl={"coefficient": 1.0},
        episodes_per_iteration=64, minibatch_episodes=16, learning_rate=1e-3,
        normalize_advantage=False, total_tokens=64 * 8 * 12,
    )  # fmt: skip
    algorithm.learn(after_iteration=rows.append)
    kl = [row.rollout.kl for row in rows]
    assert np.mean(kl[-3:]) < 0.8 * np.mean(kl[:3])


def test_the_linear_schedule_follows_the_tokens():
    """Pitfall D6."""
    seen = []
    algorithm = make_algorithm(
        "ppo", learning_rate=1e-3, learning_rate_schedule="linear", total_tokens=200
    )

    def keep(stats):
        seen.append((stats.tokens, algorithm.optimizer.param_groups[0]["lr"]))

    algorithm.learn(after_iteration=keep)
    starts = [0, *(tokens for tokens, _ in seen[:-1])]
    for start, (_, rate) in zip(starts, seen, strict=True):
        assert rate == pytest.approx(1e-3 * (1 - start / 200))
    assert algorithm.optimizer.defaults["eps"] == 1e-5


def test_bootstrapping_changes_truncated_episodes_only():
    plain, boot = (
        make_algorithm("a2c", bootstrap_truncated=flag).collect().episodes for flag in (False, True)
    )
    changed = (plain.returns != boot.returns).any(dim=1)
    assert bool(plain.truncated.any())
    assert torch.equal(changed, plain.truncated)


def test_dropout_is_off_and_the_reference_stays():
    """Pitfalls A7, C5; the toy models have dropout in their configuration."""
    algorithm = make_algorithm("ppo", learning_rate=1e-2)
    reference = [p.clone() for p in algorithm.policy.ref_policy.model.parameters()]
    algorithm.learn(100)
    assert not any(module.training for module in algorithm.policy.modules())
    for one, other in zip(reference, algorithm.policy.ref_policy.model.parameters(), strict=True):
        assert torch.equal(one, other)
    owned = {id(p) for group in algorithm.optimizer.param_groups for p in group["params"]}
    assert owned.isdisjoint(id(p) for p in algorithm.policy.ref_policy.model.parameters())


def test_the_entropy_bonus_raises_the_entropy():
    """Pitfall D8: alone, without reward or charge."""
    algorithm = make_algorithm(
        "a2c", entropy_coefficient=1.0, value_coefficient=0.0, learning_rate=1e-3
    )
    batch = algorithm.collect().episodes
    batch = batch.replace(advantages=torch.zeros_like(batch.advantages))
    entropies = [algorithm.update(batch).terms["entropy"] for _ in range(5)]
    assert entropies == sorted(entropies)
    assert entropies[-1] > entropies[0] + 1e-3


def test_without_value_coefficient_the_trunk_gets_the_policy_gradient_only():
    """Pitfall D5."""
    gradients = []
    for mode in ("shared", "frozen"):
        algorithm = make_algorithm("a2c", value_trunk=mode, value_coefficient=0.0)
        algorithm.update(algorithm.collect().episodes)
        gradients.append([p.grad.clone() for p in algorithm.policy.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_target_kl_ends_the_update_before_a_step():
    algorithm = make_algorithm("ppo", target_kl=1e-4, learning_rate=1e-2, epochs=10)
    batch = algorithm.collect().episodes
    stats = algorithm.update(batch)
    assert 1 <= stats.optimizer_steps < 20
    assert stats.approx_kl > 1.5e-4


class TestErrors:
    def test_greedy_training_is_refused(self):
        made = make_algorithm("ppo")
        with pytest.raises(AlgorithmError, match=r"sampling\.greedy"):
            type(made)(
                made.policy, made.core, made.config,
                sampling=SamplingConfig(greedy=True), total_tokens=10,
            )  # fmt: skip

    def test_a_policy_without_reference_is_refused(self):
        policy = make_policy()
        policy.ref_policy = None
        with pytest.raises(AlgorithmError, match="make_ref_policy"):
            make_algorithm("ppo", policy=policy)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"group_size": 3}, "group_size"),
            ({"minibatch_episodes": 7}, "minibatch_episodes"),
            ({"top_k": 3}, "top_k"),
            ({"clip_range": 0.0}, "clip_range"),
        ],
    )
    def test_settings_are_checked(self, settings, message):
        with pytest.raises(ValidationError, match=message):
            PPOConfig(**settings)

    @pytest.mark.parametrize("name", ACTING)
    def test_a_value_that_is_not_finite_stops_before_the_step(self, name):
        algorithm = make_algorithm(name)
        batch = algorithm.collect().episodes
        before = weights_of(algorithm.policy)
        broken = batch.advantages.clone()
        broken[0, 0] = math.inf
        with pytest.raises(DivergedError, match="in iteration 0"):
            algorithm.update(batch.replace(advantages=broken))
        assert all(torch.equal(before[k], v) for k, v in weights_of(algorithm.policy).items())

    @pytest.mark.parametrize("name", ["ppo", "trpo"])
    def test_a_gradient_that_is_not_finite_stops_before_the_step(self, name):
        algorithm = make_algorithm(name)
        batch = algorithm.collect().episodes
        before = weights_of(algorithm.policy)
        first = next(iter(algorithm.policy.model.parameters()))
        first.register_hook(lambda gradient: gradient * math.inf)
        with pytest.raises(DivergedError, match="the gradient"):
            algorithm.update(batch)
        assert all(torch.equal(before[k], v) for k, v in weights_of(algorithm.policy).items())

    @pytest.mark.parametrize("name", WITH_CRITIC)
    def test_a_broken_policy_is_named_with_the_iteration(self, name):
        algorithm = make_algorithm(name, value_trunk="separate")
        algorithm.learn(10)
        with torch.no_grad():
            algorithm.policy.critic.value_head.bias.fill_(math.nan)
        with pytest.raises(DivergedError, match=r"one of the values is nan .* in iteration 2"):
            algorithm.learn(100)

    def test_a_reward_beyond_float32_is_named(self):
        class Huge(ToyReward):
            def __call__(self, batch):
                return RewardOutput(np.full(len(batch), 1e300))

        algorithm = make_algorithm("ppo", task=toy_task(reward=Huge()))
        with pytest.raises(
            RewardNotFiniteError,
            match=r"reward 'toy' .*: returned 1e\+300, too large for single precision, for sample 'tra",
        ):
            algorithm.learn()

    def test_the_state_of_another_algorithm_is_refused(self):
        with pytest.raises(AlgorithmError, match="is of A2C"):
            make_algorithm("ppo").load_state_dict(make_algorithm("a2c").state_dict())


def test_none_learns_nothing():
    policy = make_policy()
    before = weights_of(policy)
    algorithm = make_algorithm("no-training", policy=policy)
    assert algorithm.learn(after_iteration=pytest.fail) is algorithm
    assert algorithm.token_filter is None
    algorithm.load_state_dict(algorithm.state_dict())
    assert all(torch.equal(before[k], v) for k, v in weights_of(policy).items())


@pytest.mark.parametrize("name", [name for name in ACTING if name not in ("gspo", "rloo", "trpo")])
def test_an_update_in_bfloat16_has_nearly_the_same_gradient_and_the_record_is_marked(name):
    gradients, marks = {}, {}
    for precision in ("none", "bfloat16"):
        algorithm = make_algorithm(name, autocast=precision, learning_rate=1e-3)
        batch = algorithm.collect().episodes
        assert algorithm.score(batch, values=True).values.dtype == torch.float32
        algorithm.gradient_step(batch, algorithm._loss, proceed=lambda _: False)
        moved = [p.grad for p in algorithm.parameters if p.grad is not None]
        gradients[precision] = torch.cat([gradient.flatten() for gradient in moved])
        _, rows = learned(name, tokens=1, autocast=precision)
        watch = FidelityWatch()
        watch.watch(rows[0])
        marks[precision] = "max_logprob_difference" in watch.summary().flags
    plain, rounded = gradients["none"], gradients["bfloat16"]
    assert not torch.equal(plain, rounded)
    assert float(torch.cosine_similarity(plain, rounded, dim=0)) > 0.99
    assert marks == {"none": name == "nlpo-rl4lms", "bfloat16": True}


@pytest.mark.parametrize("name", ["ppo", "trpo"])
def test_adams_step_is_one_operation_and_the_same_as_in_several(name, monkeypatch):
    weights = []
    for fused in (True, False):
        algorithm = make_algorithm(name, learning_rate=1e-3)
        assert algorithm.optimizer.param_groups[0]["fused"] == fused
        algorithm.learn(1)
        weights.append(weights_of(algorithm.policy))
        monkeypatch.setattr("lmrl_bench.algorithms.base.can_be_fused", lambda _: False)
    assert largest_difference(*weights) < 1e-6


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("trpo", "need float32"),
        ("rloo", "rounding of all tokens adds up"),
        ("gspo", "more than GSPO's clip range"),
    ],
)
def test_some_refuse_to_be_imprecise(name, reason):
    with pytest.raises(ValueError, match=f"autocast: .*{reason}"):
        make_algorithm(name, autocast="bfloat16")


def test_finished_episodes_lie_on_the_policys_device(monkeypatch):
    """Pitfall E3; there may be no second device here, so the move is watched, not its effect."""
    moved = []

    def to(batch, device):
        moved.append((device, bool(batch.advantages.any())))
        return batch

    monkeypatch.setattr(Episodes, "to", to)
    algorithm = make_algorithm("trpo")
    algorithm.collect()
    assert moved == [(algorithm.policy.device, True)]
