"""Closed forms by enumeration: the optimum under a KL charge, the KL and its estimators, returns.

With eight tokens and two or three of them in a completion, every completion can be written down. What an
algorithm should reach, charge or return is then a finite sum.
"""

import pytest
import torch
from fixtures.tables import (
    VOCABULARY,
    A,
    B,
    C,
    D,
    E,
    all_completions,
    letter_algorithm,
    letter_task,
    letter_tokenizer,
    own_acting,
    probabilities_of,
    set_table,
    table_of,
    table_policy,
    text_of,
)
from fixtures.toy import EOS_ID, tiny_causal
from gymnasium import spaces
from scipy.optimize import brentq

from lmrl_bench.algorithms import functional as f
from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.models.scoring import score_tokens
from lmrl_bench.policies.policy import LanguageModelPolicy, token_space

# -- the optimum of a bandit under a KL charge ----------------------------------------------------

BETA = 0.5
DISTANCE = 0.05
"""Total variation within which an algorithm must come of the optimum; the start is at 0.41."""
# The prompt is "e", which is all but never drawn, so that row E is the first token's distribution.
RHO = table_of(
    {E: (0.01, 0.10, 0.01, 0.30, 0.28, 0.20, 0.10 - 1e-6, 1e-6)},
    (0.01, 0.20, 0.01, 0.20, 0.20, 0.20, 0.18 - 1e-6, 1e-6),
)
COMPLETIONS = all_completions(2)
TRAINING = {
    "episodes_per_iteration": 256, "learning_rate": 0.05, "learning_rate_schedule": "linear",
    "normalize_advantage": False, "gae_lambda": 1.0, "max_grad_norm": 10.0,
    "kl": {"coefficient": BETA}, "kl_loss_coefficient": 0.0, "divide_by_std": False,
    "aggregation": "token-mean",
    "epochs": 3, "minibatch_episodes": 128,
    "top_p": 1.0, "min_tokens_to_keep": 1,
    "max_kl": 0.01, "fisher_fraction": 1.0, "damping": 1e-3, "critic_minibatch_episodes": 64,
}  # fmt: skip
ONE_STEP = {"learning_rate": 0.2, "iterations": 40}
OWN = {
    "a2c": ONE_STEP,
    "reinforce": ONE_STEP,
    "rloo": {**ONE_STEP, "group_size": 16},
    "dr-grpo": {**ONE_STEP, "group_size": 16},
    # The charge is in the reward, as everybody's; a deviation of the group would scale it away.
    "grpo": {**ONE_STEP, "group_size": 16, "divide_by_std": False, "kl_loss_coefficient": 0.0},
}


def bandit_reward(prompt, text, n_tokens, ended):
    words = text.split()
    ordered = len(words) == 2 and words[0] < words[1]
    return 1.0 * ended + 0.5 * ordered + 0.75 * (words[:1] == ["d"]) - 0.5 * (words[:1] == ["a"])


def logprob(table, tokens):
    """The log-probability of a completion to the prompt "e" under a table, float64."""
    before = [E, *tokens[:-1]]
    return table.double().log()[before, tokens].sum()


def optimum(beta):
    """π* ∝ ρ exp(r/β) over all completions."""
    prior = torch.stack([logprob(RHO, tokens) for tokens in COMPLETIONS])
    rewards = [bandit_reward("e", text_of(t), len(t), t[-1] == EOS_ID) for t in COMPLETIONS]
    return (prior + torch.tensor(rewards, dtype=torch.float64) / beta).softmax(dim=0)


def distribution(table):
    return torch.stack([logprob(table, tokens) for tokens in COMPLETIONS]).exp()


def total_variation(one, other):
    return float((one - other).abs().sum()) / 2


def test_the_bandit_tells_a_wrong_charge_from_the_right_one():
    start = distribution(RHO)
    assert float(start.sum()) == pytest.approx(1.0)
    assert total_variation(start, optimum(BETA)) > 8 * DISTANCE
    for wrong in (BETA / 2, 2 * BETA):
        assert total_variation(optimum(wrong), optimum(BETA)) > 2 * DISTANCE


OTHER_OPTIMUM = {"cispo", "dapo", "gspo", "raft"}
"""Algorithms whose KL charge is not the optimum's: a group's deviation scales it away, or only the best is learned."""


@pytest.mark.parametrize("name", sorted({*own_acting()} - OTHER_OPTIMUM))
def test_a_kl_charge_leads_to_the_optimum(name):
    settings = TRAINING | OWN.get(name, {})
    iterations = settings.pop("iterations", 20)
    policy = table_policy(RHO, max_completion_tokens=2)
    task = letter_task(bandit_reward, prompts=("e",), max_completion_tokens=2)
    # Of 512 tokens that two of each episode would be, the optimum draws 1.7 per episode.
    algorithm = letter_algorithm(name, policy, task, total_tokens=435 * iterations, **settings)
    algorithm.learn()
    reached = distribution(probabilities_of(policy))
    assert total_variation(reached, optimum(BETA)) < DISTANCE


GROUP = 256


@pytest.mark.parametrize("weighted", [False, True])
def test_grpos_kl_loss_leads_to_the_optimum_of_its_own_divergence(weighted):
    """One token. k3 pulls by KL(ρ‖π), whose optimum is β ρ / (λ − r); weighted by the ratio, by KL(π‖ρ)."""
    policy = table_policy(RHO, max_completion_tokens=1)
    settings = TRAINING | {
        "kl": {"coefficient": 0.0}, "kl_loss_coefficient": BETA, "weighted_kl_loss": weighted,
        "group_size": GROUP,
    }  # fmt: skip
    task = letter_task(bandit_reward, prompts=("e",), max_completion_tokens=1)
    algorithm = letter_algorithm("grpo", policy, task, total_tokens=GROUP * 40, **settings)
    algorithm.learn()
    rewards = torch.tensor(
        [bandit_reward("e", text_of([t]), 1, t == EOS_ID) for t in range(VOCABULARY)]
    ).double()
    rho = RHO[E].double()
    # The group's own mean holds the episode itself, which shrinks the reward's part by (G − 1)/G.
    beta = BETA * GROUP / (GROUP - 1)
    level = brentq(
        lambda level: float((beta * rho / (level - rewards)).sum()) - 1.0,
        float(rewards.max()) + 1e-6, 100.0,
    )  # fmt: skip
    optima = [beta * rho / (level - rewards), (rho.log() + rewards / beta).softmax(dim=0)]
    distances = [
        total_variation(probabilities_of(policy)[E], optima[which])
        for which in (weighted, not weighted)
    ]
    assert distances[0] < DISTANCE < distances[1]
    assert total_variation(rho, optima[weighted]) > 3 * DISTANCE


# -- the KL and its estimators --------------------------------------------------------------------

T = 3
EVERY = all_completions(T)


class Enumerated:
    """A random GPT-2 over eight tokens and its start, on all 400 completions of three tokens."""

    def __init__(self):
        model = tiny_causal("gpt2", VOCABULARY, seed=1)
        self.policy = LanguageModelPolicy(
            token_space(4, T, VOCABULARY), spaces.Discrete(VOCABULARY), lambda _: 0.0,
            model=model, tokenizer=letter_tokenizer(),
        )  # fmt: skip
        self.policy.make_ref_policy()
        rng = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        self.behavior = self.policy.make_behavior()
        self.ids = torch.tensor([[*tokens, *[0] * (T - len(tokens))] for tokens in EVERY])
        lengths = torch.tensor([len(tokens) for tokens in EVERY])[:, None]
        self.mask = torch.arange(T) < lengths
        self.prompt = torch.tensor([[A, D]]).expand(len(EVERY), -1)
        self.tokens = TokenBatch(
            self.prompt, torch.ones_like(self.prompt).bool(), self.ids, self.mask
        )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.q = self.policy.score_ref_policy(self.tokens, self.behavior)

    def scores(self, **options):
        return self.policy.score(self.tokens, self.behavior, values=False, **options)

    def gradient(self, value):
        parts = torch.autograd.grad(value, self.parameters, allow_unused=True)
        return torch.cat([part.flatten() for part in parts if part is not None])

    def exact(self, p):
        """Σ_y p(y) (log p(y) − log q(y)), differentiable."""
        whole = p.sum(dim=1)
        return (whole.exp() * (whole - self.q.sum(dim=1))).sum()

    def expected(self, values, p):
        """Σ_y p(y) Σ_t values, the weights without gradient."""
        return (p.detach().sum(dim=1).exp() * values.masked_fill(~self.mask, 0.0).sum(dim=1)).sum()


@pytest.fixture(scope="module")
def enumerated():
    return Enumerated()


def test_estimators_summed_over_tokens_have_the_documented_expectations(enumerated):
    with torch.no_grad():
        p, q = enumerated.scores().logprobs, enumerated.q
        assert float(p.sum(dim=1).exp().sum()) == pytest.approx(1.0, abs=1e-5)
        exact = float(enumerated.exact(p))
        assert exact > 0.3
        assert float(enumerated.expected(f.kl_k1(p, q), p)) == pytest.approx(exact, rel=1e-4)
        assert float(enumerated.expected(f.kl_k3(p, q), p)) == pytest.approx(exact, rel=1e-4)
        assert abs(float(enumerated.expected(f.kl_k2(p, q), p)) - exact) > 0.05 * exact


def state_divergences(enumerated, *, reverse):
    """Σ_y p(y) Σ_t KL at the state before token t, the states' weights without gradient."""
    scores = enumerated.scores(full_logits=True)
    with torch.no_grad():
        reference = score_tokens(
            enumerated.policy.ref_policy, enumerated.tokens, enumerated.behavior,
            full_logits=True,
        ).logits  # fmt: skip
    pair = (reference, scores.logits) if reverse else (scores.logits, reference)
    per_token = torch.zeros(enumerated.mask.shape)
    per_token = per_token.masked_scatter(enumerated.mask, f.categorical_kl(*pair))
    return enumerated.expected(per_token, scores.logprobs)


def test_the_exact_kl_of_completions_is_the_expected_sum_of_the_states_kl(enumerated):
    with torch.no_grad():
        exact = float(enumerated.exact(enumerated.scores().logprobs))
        assert float(state_divergences(enumerated, reverse=False)) == pytest.approx(exact, rel=1e-4)


def close(one, other):
    """Returns whether two gradients agree to a part in a thousand."""
    return float((one - other).norm()) < 1e-3 * float(other.norm())


def test_gradients_of_the_estimators_as_losses(enumerated):
    """k1: zero. k2: of the states' KL(p‖q). k3: of the states' KL(q‖p). None weighs the states themselves."""
    p = enumerated.scores().logprobs
    forward = enumerated.gradient(state_divergences(enumerated, reverse=False))
    backward = enumerated.gradient(state_divergences(enumerated, reverse=True))
    whole = enumerated.gradient(enumerated.exact(enumerated.scores().logprobs))
    assert not close(forward, backward)
    assert not close(forward, whole)

    def of(estimator):
        p = enumerated.scores().logprobs
        return enumerated.gradient(enumerated.expected(estimator(p, enumerated.q), p))

    assert float(of(f.kl_k1).norm()) < 1e-3 * float(forward.norm())
    assert close(of(f.kl_k2), forward)
    assert close(of(f.kl_k3), backward)
    # The square of the whole completion's log-ratio has the gradient of the whole KL.
    ratio = (p - enumerated.q).masked_fill(~enumerated.mask, 0.0).sum(dim=1)
    weights = p.detach().sum(dim=1).exp()
    assert close(enumerated.gradient((weights * 0.5 * ratio.square()).sum()), whole)


def test_the_policy_gradient_of_the_charge_is_the_gradient_of_the_exact_kl(enumerated):
    """Charged in the reward, k1 gives the whole gradient, of the states' weights too."""
    whole = enumerated.gradient(enumerated.exact(enumerated.scores().logprobs))
    p = enumerated.scores().logprobs
    charge = f.kl_k1(p.detach(), enumerated.q)
    rewards = f.token_rewards(torch.zeros(len(EVERY)), charge, enumerated.mask)
    values = torch.linspace(-1, 1, len(EVERY))[:, None].expand(-1, T)  # no baseline may matter
    first = {tuple(tokens[:t]): row for row, tokens in enumerate(EVERY) for t in range(T)}
    owner = [[first[tuple(tokens[: min(t, len(tokens))])] if t < len(tokens) else 0 for t in range(T)]
             for tokens in EVERY]  # fmt: skip
    values = values.gather(0, torch.tensor(owner))  # one value for each state
    advantages, _ = f.gae(rewards, values, enumerated.mask, gamma=1.0, gae_lambda=1.0)
    objective = enumerated.expected(p * advantages, p)
    assert close(-enumerated.gradient(objective), whole)


def test_the_kl_that_a_collection_logs_is_an_unbiased_estimate_of_the_exact_one():
    moved = table_of(
        {E: (0.02, 0.20, 0.02, 0.10, 0.10, 0.20, 0.36 - 1e-6, 1e-6)},
        (0.02, 0.40, 0.02, 0.10, 0.10, 0.26, 0.10 - 1e-6, 1e-6),
    )
    policy = table_policy(RHO, max_completion_tokens=2)
    set_table(policy.network, moved)
    task = letter_task(lambda *_: 0.0, prompts=("e",), max_completion_tokens=2)
    algorithm = letter_algorithm(
        "a2c", policy, task, episodes_per_iteration=20_000, kl={"coefficient": BETA}
    )
    rollout = algorithm.collect()
    batch, stats = rollout.episodes, rollout.stats
    p, q = distribution(moved), distribution(RHO)
    exact = float((p * (p.log() - q.log())).sum())
    assert exact > 0.3

    def mean_and_error(values):
        sums = values.masked_fill(~batch.mask, 0.0).sum(dim=1)
        return float(sums.mean()), float(sums.std()) / len(batch) ** 0.5

    pair = (batch.behavior_logprobs, batch.ref_logprobs)
    k1, error = mean_and_error(f.kl_k1(*pair))
    assert stats.kl == pytest.approx(k1, rel=1e-5)
    assert stats.kl_charged == pytest.approx(BETA * k1, rel=1e-5)
    assert abs(k1 - exact) < 4 * error
    assert error < 0.02
    k3, error = mean_and_error(f.kl_k3(*pair))
    assert abs(k3 - exact) < 4 * error
    k2, error = mean_and_error(f.kl_k2(*pair))
    assert abs(k2 - exact) > 8 * error


# -- returns through the collection ---------------------------------------------------------------

GAMMA, CHARGE = 0.9, 0.3
#          <pad>  </s> <unk>   a    b     c     d     e
VALUES = (0.10, 7.0, -0.30, 0.5, 1.0, -1.0, 2.0, 0.25)
"""The critic's value after each token; after EOS it is absurd, because nobody may read it."""
START = table_of({}, (0.05, 0.25, 0.05, 0.15, 0.15, 0.15, 0.10, 0.10))
MOVED = table_of({}, (0.05, 0.15, 0.05, 0.25, 0.10, 0.20, 0.10, 0.10))


def returns_reward(prompt, text, n_tokens, ended):
    return 1.0 * text.count("a") - 0.5 * ended


def by_hand(tokens, gae_lambda, bootstrap):
    """Advantages and returns of one completion to "e", by the definition, without recursion."""
    n, ended = len(tokens), tokens[-1] == EOS_ID
    rewards = [-CHARGE * float((MOVED[0, t] / START[0, t]).log()) for t in tokens]
    rewards[-1] += returns_reward("e", text_of(tokens), n, ended)
    values = [VALUES[t] for t in (E, *tokens[:-1])]
    values.append(VALUES[tokens[-1]] if bootstrap and not ended else 0.0)
    errors = [rewards[t] + GAMMA * values[t + 1] - values[t] for t in range(n)]
    advantages = [
        sum((GAMMA * gae_lambda) ** (s - t) * errors[s] for s in range(t, n)) for t in range(n)
    ]
    return advantages, [a + v for a, v in zip(advantages, values, strict=False)]


@pytest.mark.parametrize("value_trunk", ["shared", "frozen", "separate"])
@pytest.mark.parametrize("gae_lambda", [1.0, 0.8, 0.0])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_returns_of_terminated_and_truncated_episodes(bootstrap, gae_lambda, value_trunk):
    policy = table_policy(START, values=VALUES, value_trunk=value_trunk)
    set_table(policy.network, MOVED)
    algorithm = letter_algorithm(
        "a2c", policy, letter_task(returns_reward, prompts=("e",)), episodes_per_iteration=128,
        gamma=GAMMA, gae_lambda=gae_lambda, bootstrap_truncated=bootstrap,
        kl={"coefficient": CHARGE},
    )  # fmt: skip
    batch = algorithm.collect().episodes
    kinds = set()
    for row in range(len(batch)):
        tokens = batch.tokens.completion_ids[row, batch.mask[row]].tolist()
        advantages, returns = by_hand(tokens, gae_lambda, bootstrap)
        for got, expected in [(batch.advantages, advantages), (batch.returns, returns)]:
            torch.testing.assert_close(
                got[row, : len(tokens)], torch.tensor(expected), atol=1e-5, rtol=0
            )
            assert not got[row, len(tokens) :].any()
        kinds.add((bool(batch.terminated[row]), len(tokens)))
    assert kinds == {(True, 1), (True, 2), (True, 3), (False, 3)}


def test_three_returns_as_numbers():
    """Once with nothing but literals: "b c", with EOS, cut at two tokens, and cut with a bootstrap."""
    charge = {B: -0.3 * -0.405465, C: -0.3 * 0.287682, EOS_ID: -0.3 * -0.510826}
    # r_b, r_c, r_</s> are .121640, −.086305 and .153248 − .5; discount .9; V(c) is −1.
    cases = {
        ((B, C, EOS_ID), False): 0.121640 + 0.9 * (-0.086305 + 0.9 * (0.153248 - 0.5)),
        ((B, C), False): 0.121640 + 0.9 * -0.086305,
        ((B, C), True): 0.121640 + 0.9 * (-0.086305 + 0.9 * -1.0),
    }
    assert [round(value, 5) for value in charge.values()] == [0.12164, -0.0863, 0.15325]
    for (tokens, bootstrap), expected in cases.items():
        policy = table_policy(START, values=VALUES, max_completion_tokens=2 + (EOS_ID in tokens))
        set_table(policy.network, MOVED)
        task = letter_task(
            returns_reward, prompts=("e",), max_completion_tokens=2 + (EOS_ID in tokens)
        )
        algorithm = letter_algorithm(
            "a2c", policy, task, episodes_per_iteration=512, gamma=GAMMA, gae_lambda=1.0,
            bootstrap_truncated=bootstrap, kl={"coefficient": CHARGE},
        )  # fmt: skip
        batch = algorithm.collect().episodes
        wanted = torch.tensor(tokens)
        same = (batch.tokens.completion_ids == wanted).all(dim=1) & (batch.lengths == len(tokens))
        assert same.any()
        assert float(batch.returns[same][0, 0]) == pytest.approx(expected, abs=1e-5)
