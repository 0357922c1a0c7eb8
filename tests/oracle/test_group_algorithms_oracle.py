"""GRPO, its kin and RLOO against TRL, which runs its own forwards, advantages and losses on the same completions.

Only generation, the rewards and the trainer's constructor are ours. The policy is a Llama: TRL gives left-padded
prompts no position ids, which GPT-2's absolute positions would show.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
import trl
from accelerate import Accelerator
from fixtures.toy import toy_task, toy_tokenizer
from fixtures.training import make_algorithm, make_policy
from trl.trainer.utils import add_fused_lm_head

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.usefixtures("speedups"),
]

GROUP, EPISODES, COMPLETION = 4, 8, 8
SCORES = (0.3, 1.2, -0.4, 0.9, 2.0, 2.0, 0.1, -1.5)
TEMPERATURE = 0.7


def moved(model, seed, size):
    """Adds noise to the weights, in place."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn(parameter.shape, generator=rng)


def ours_after_a_rollout(name, **settings):
    """An algorithm whose policy has left its reference, and a batch of ragged completions with the scores."""
    policy = make_policy("llama", max_completion_tokens=COMPLETION)
    moved(policy.model, 1, 0.02)
    settings = {"group_size": GROUP, "episodes_per_iteration": EPISODES, **settings}
    algorithm = make_algorithm(
        name, policy=policy, task=toy_task(max_completion_tokens=COMPLETION), temperature=TEMPERATURE,
        max_grad_norm=1e9, epochs=1, minibatch_episodes=EPISODES, **settings,
    )  # fmt: skip
    core = algorithm.core
    outcome = core.outcome

    def with_scores(prompts, completions):
        found = outcome(prompts, completions)
        return type(found)(found.texts, torch.tensor(SCORES))

    core.outcome = with_scores
    batch = algorithm.collect().episodes
    assert len(set(batch.lengths.tolist())) > 1
    assert bool(batch.terminated.any())
    return algorithm, batch


def trl_model(model):
    """A copy as TRL's trainers prepare it, in training mode without dropout."""
    model = copy.deepcopy(model).requires_grad_(True)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    return model.train()


def trl_trainer(trainer_class, algorithm, batch, generated, **settings):
    """A trainer without its constructor: everything that the two methods read is set here."""
    trainer = object.__new__(trainer_class)
    prompts = [
        ids[mask].tolist()
        for ids, mask in zip(batch.tokens.prompt_ids, batch.tokens.prompt_mask, strict=True)
    ]
    completions = [
        ids[mask].tolist()
        for ids, mask in zip(batch.tokens.completion_ids, batch.mask, strict=True)
    ]
    args = SimpleNamespace(
        per_device_train_batch_size=EPISODES, gradient_accumulation_steps=1, steps_per_generation=1,
        gradient_checkpointing_kwargs=None, delta=None,
        use_bias_correction_kl=settings.pop("use_bias_correction_kl", False),
    )  # fmt: skip
    # More than one step for a generation, so that the old policy's log-probabilities are kept.
    defaults = {
        "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2, "num_iterations": 2,
        "num_generations": GROUP, "num_generations_eval": GROUP, "reward_func_names": ["scores"],
        "reward_funcs": [None], "reward_weights": torch.ones(1), "reward_clip_range": None,
        "normalize_advantages": False, "scale_rewards": "group", "loss_type": "grpo",
        "multi_objective_aggregation": "sum_then_normalize", "importance_sampling_level": "token",
        "max_completion_length": COMPLETION, "top_entropy_quantile": 1.0, "use_vllm": False,
        "off_policy_mask_threshold": None, "mask_truncated_completions": False, "tools": None,
        "aux_loss_enabled": False, "_entropy_bonus_enabled": False, "environment_factories": None, "environments": None,
        "current_gradient_accumulation_steps": 1, "pad_to_multiple_of": None, "_is_vlm": False,
        "log_multimodal": False, "_pending_extra_logs": defaultdict(list),
        "_pending_metrics": defaultdict(list),
    }  # fmt: skip
    for key, value in {**defaults, **settings}.items():
        setattr(trainer, key, value)
    trainer.args = args
    trainer.accelerator = Accelerator(cpu=True)
    trainer.model = trl_model(algorithm.policy.model)
    trainer.ref_model = trl_model(algorithm.policy.ref_policy.model).eval()
    trainer._tokenizer = toy_tokenizer()
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer._logs = {
        "prompt": [], "completion": [], "rewards": defaultdict(list), "advantages": [],
        "extra": defaultdict(list),
    }  # fmt: skip
    trainer._generate = lambda _: generated(prompts, completions)
    trainer._calculate_rewards = lambda *_: batch.scores.unsqueeze(1)
    return trainer


def grpo_generated(prompts, completions):
    return prompts, completions, None, [""] * EPISODES, None, {}, None, None


def rloo_generated(prompts, completions):
    return prompts, completions, [""] * EPISODES


def compare(algorithm, batch, trainer, *, atol=1e-6):
    """Advantages at the rollout; loss and gradients once both policies have moved alike."""
    theirs = trainer._generate_and_score_completions([{"prompt": ""}] * EPISODES)
    for row, mask in enumerate(batch.mask):
        expected = theirs["advantages"][row].expand(int(mask.sum()))
        torch.testing.assert_close(batch.advantages[row][mask], expected, atol=atol, rtol=1e-6)
    moved(algorithm.policy.model, 2, 0.01)
    moved(trainer.model, 2, 0.01)
    trainer._compute_loss(trainer.model, theirs).backward()
    result = algorithm.gradient_step(batch, algorithm._loss, proceed=lambda _: False)
    same_parameter_gradients(algorithm.policy.model, trainer.model)
    same_loss_of_the_same_logprobs(algorithm, batch, trainer, theirs)
    return result


def same_parameter_gradients(ours, theirs):
    """Through two implementations of the forward, each of which rounds to float32."""
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    found = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert expected.keys() == found.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=5e-6 * largest, rtol=0.0)


def same_loss_of_the_same_logprobs(algorithm, batch, trainer, theirs):
    """The two losses, and their gradients, as functions of one tensor of log-probabilities."""
    with torch.no_grad():
        logprobs = algorithm.score(batch).logprobs
    theirs = {**theirs, **_old_logprobs(batch), "ref_per_token_logps": batch.ref_logprobs}
    one, other = (logprobs.clone().requires_grad_(True) for _ in range(2))
    entropies = torch.zeros_like(logprobs)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (one, entropies, None)
    algorithm.score = lambda *_, **__: SimpleNamespace(logprobs=other)
    expected = trainer._compute_loss(trainer.model, theirs)
    found = algorithm._loss(batch, algorithm.weights(batch)).loss
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0.0)
    expected.backward()
    found.backward()
    assert float(one.grad.abs().max()) > 1e-2
    torch.testing.assert_close(other.grad, one.grad, atol=1e-6, rtol=0.0)


def _old_logprobs(batch):
    old = batch.behavior_logprobs
    return {"old_per_token_logps": old, "old_logps": (old * batch.mask).sum(dim=1)}


@pytest.mark.parametrize(
    ("aggregation", "loss_type"),
    [
        ("sequence-mean", "grpo"),
        ("token-mean", "bnpo"),
        ("token-mean", "dapo"),
        ("constant", "dr_grpo"),
    ],
)
@pytest.mark.parametrize("divide_by_std", [True, False])
def test_grpo_equals_trl(aggregation, loss_type, divide_by_std):
    algorithm, batch = ours_after_a_rollout(
        "grpo", aggregation=aggregation, divide_by_std=divide_by_std, clip_range=0.05,
        clip_range_high=0.1, kl={"coefficient": 0.0},
    )  # fmt: skip
    trainer = trl_trainer(
        trl.GRPOTrainer, algorithm, batch, grpo_generated, loss_type=loss_type,
        scale_rewards="group" if divide_by_std else "none", epsilon_low=0.05, epsilon_high=0.1,
    )  # fmt: skip
    compare(algorithm, batch, trainer)
    clipped = trainer._metrics["train"]["clip_ratio/region_mean"][0]
    assert 0.02 < clipped < 0.98


@pytest.mark.parametrize("weighted", [True, False])
def test_the_kl_term_of_grpo_equals_trls(weighted):
    algorithm, batch = ours_after_a_rollout(
        "grpo", kl_loss_coefficient=0.5, kl={"coefficient": 0.0}, weighted_kl_loss=weighted
    )
    trainer = trl_trainer(
        trl.GRPOTrainer, algorithm, batch, grpo_generated, beta=0.5,
        use_bias_correction_kl=weighted,
    )  # fmt: skip
    result = compare(algorithm, batch, trainer)
    assert result.terms["kl_loss"] > 1e-3


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_rloo_equals_trl(beta):
    """With β the KL of whole completions is in the reward of both, through two forwards that round differently."""
    algorithm, batch = ours_after_a_rollout("rloo", clip_range=0.15, kl={"coefficient": beta})
    trainer = trl_trainer(
        trl.RLOOTrainer, algorithm, batch, rloo_generated, beta=beta, epsilon_low=0.15,
        epsilon_high=0.15,
    )  # fmt: skip
    compare(algorithm, batch, trainer, atol=5e-6 if beta else 1e-6)
    clipped = trainer._metrics["train"]["clip_ratio/region_mean"][0]
    assert 0.0 < clipped < 1.0
    if beta:
        log_ratio = (batch.behavior_logprobs - batch.ref_logprobs).masked_fill(~batch.mask, 0.0)
        assert abs(float(log_ratio.sum(dim=1).mean())) > 0.05


@pytest.mark.parametrize(
    ("name", "settings", "theirs"),
    [
        (
            "dr-grpo", {"clip_range": 0.05},
            {"loss_type": "dr_grpo", "scale_rewards": "none", "epsilon_low": 0.05, "epsilon_high": 0.05},
        ),
        (
            "dapo", {"clip_range": 0.05, "clip_range_high": 0.1, "overlong_penalty": 0.0, "max_sampling_rounds": 1},
            {"loss_type": "dapo", "epsilon_low": 0.05, "epsilon_high": 0.1},
        ),
        (
            "gspo", {"clip_range": 0.01, "clip_range_high": 0.02},
            {"importance_sampling_level": "sequence", "epsilon_low": 0.01, "epsilon_high": 0.02},
        ),
        ("cispo", {"clip_range_high": 0.03}, {"loss_type": "cispo", "epsilon_high": 1.03}),
    ],
)  # fmt: skip
def test_a_member_of_the_family_equals_trl(name, settings, theirs):
    algorithm, batch = ours_after_a_rollout(name, kl={"coefficient": 0.0}, **settings)
    trainer = trl_trainer(trl.GRPOTrainer, algorithm, batch, grpo_generated, **theirs)
    compare(algorithm, batch, trainer)
    key = "cispo_clip_ratio" if name == "cispo" else "clip_ratio/region_mean"
    assert 0.0 < trainer._metrics["train"][key][0] < 1.0


def verl_whitened_returns(token_rewards, mask):
    """verl's `compute_reinforce_plus_plus_outcome_advantage` with γ = 1, as its code has it."""
    returns, running = torch.zeros_like(token_rewards), 0
    for t in reversed(range(token_rewards.shape[1])):
        running = token_rewards[:, t] + running
        returns[:, t] = running
        running = running * mask[:, t]
    chosen = returns[mask]
    mean, variance = chosen.mean(), chosen.var(unbiased=True)
    return (returns - mean) * torch.rsqrt(variance + 1e-8) * mask


def test_reinforce_plus_plus_equals_verls_formula_and_ppos_surrogate():
    """Advantages by verl's formula; loss and gradient by TRL's clipped surrogate of advantages per token."""
    algorithm, batch = ours_after_a_rollout(
        "reinforce-plus-plus", clip_range=0.05, kl={"coefficient": 0.3}
    )
    log_ratio = (batch.behavior_logprobs - batch.ref_logprobs).masked_fill(~batch.mask, 0.0)
    rewards = -0.3 * log_ratio
    last = batch.lengths - 1
    rewards[torch.arange(len(batch)), last] += torch.tensor(SCORES)
    expected = verl_whitened_returns(rewards, batch.mask)
    torch.testing.assert_close(batch.advantages, expected, atol=1e-5, rtol=1e-5)
    trainer = trl_trainer(
        trl.GRPOTrainer, algorithm, batch, grpo_generated, loss_type="bnpo", epsilon_low=0.05,
        epsilon_high=0.05,
    )  # fmt: skip
    theirs = trainer._generate_and_score_completions([{"prompt": ""}] * EPISODES)
    theirs["advantages"] = batch.advantages
    moved(algorithm.policy.model, 2, 0.01)
    same_loss_of_the_same_logprobs(algorithm, batch, trainer, theirs)


def test_raft_is_the_cross_entropy_of_the_best_completions():
    algorithm, batch = ours_after_a_rollout("raft", kl={"coefficient": 0.0})
    best = [
        int(torch.tensor(SCORES[i : i + GROUP]).argmax()) + i for i in range(0, EPISODES, GROUP)
    ]
    assert batch.advantages[:, 0].nonzero().flatten().tolist() == best
    part = batch.select(best)
    model = copy.deepcopy(algorithm.policy.model)
    ids = torch.cat([part.tokens.prompt_ids, part.tokens.completion_ids], dim=1)
    mask = torch.cat([part.tokens.prompt_mask, part.mask], dim=1)
    labels = ids.masked_fill(~mask, -100)
    labels[:, : part.tokens.prompt_ids.shape[1]] = -100
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask.long(), position_ids=positions).logits
    impossible = algorithm.behavior.vocabulary.illegal(logits.shape[-1], logits.device)
    logits = logits.float() / TEMPERATURE
    if impossible is not None:
        logits = logits.masked_fill(impossible, -torch.inf)
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    expected.backward()
    result = algorithm.gradient_step(batch, algorithm._loss, proceed=lambda _: False)
    assert result.terms["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    same_parameter_gradients(algorithm.policy.model, model)
