"""The pure mathematics of policy-gradient algorithms: tensors in, tensors out, nothing remembered.

Shapes: `B` episodes, `T` completion tokens (padded on the right), `V` vocabulary. Every function that takes a
`mask` (true at the tokens that the policy chose) gives the same result whatever stands where the mask is
false, NaN included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["token-mean", "sequence-mean"]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean over the true entries of `mask`, `()`; 0 where there is none."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Shifts and scales to mean 0 and standard deviation 1 over the true entries of `mask`; 0 elsewhere.

    The scope is the tensor that is given: algorithms pass one whole minibatch, never a micro-batch. As in
    Stable-Baselines3 the variance is the unbiased one, and a single entry is returned as it is.
    """
    count = int(mask.sum())
    if count < 2:
        return values.masked_fill(~mask, 0.0)
    mean = masked_mean(values, mask)
    centered = (values - mean).masked_fill(~mask, 0.0)
    deviation = (centered.square().sum() / (count - 1)).sqrt()
    return centered / (deviation + epsilon)


def token_weights(mask: Tensor, aggregation: Aggregation) -> Tensor:
    """Returns the weight of each token in the loss of one whole minibatch, `(B, T)`; the weights sum to 1.

    `token-mean` weighs every token equally; `sequence-mean` every episode equally (then short replies weigh more
    per token: the length bias that Dr. GRPO, arXiv 2503.20783, describes). Micro-batches slice these weights, so
    that the gradient does not depend on the split.
    """
    weights = mask.float()
    if aggregation == "token-mean":
        return weights / weights.sum().clamp(min=1)
    lengths = weights.sum(dim=1, keepdim=True)
    return weights / lengths.clamp(min=1) / (lengths > 0).sum().clamp(min=1)


def constant_weights(mask: Tensor, longest: int) -> Tensor:
    """Returns weights of `1 / (B L)` for each token, `(B, T)`: no length bias (Dr. GRPO, arXiv 2503.20783)."""
    return mask.float() / (len(mask) * longest)


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Returns the sum of `values × weights`, `()`; where a weight is 0 the value takes no part, NaN included."""
    return (values.masked_fill(weights == 0, 0.0) * weights).sum()


def last_token(mask: Tensor) -> Tensor:
    """Returns the column of each episode's last policy token, `(B,)` int64; -1 where there is none."""
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask * positions).amax(dim=1) - 1


def episode_returns(rewards: Tensor, mask: Tensor) -> Tensor:
    """Returns the undiscounted sum of each episode's rewards, `(B,)` float64."""
    return rewards.masked_fill(~mask, 0.0).double().sum(dim=1)


def at_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Returns `(B, T)` float32: each episode's value `(B,)` at its policy tokens, 0 elsewhere."""
    return values.float().unsqueeze(1) * mask


def group_mean(values: Tensor, group_ids: Tensor) -> Tensor:
    """Returns for each episode the mean of `values` `(B,)` over its group, `(B,)`.

    Groups are known by their ids alone, wherever their rows stand. In float64 sums of float32 numbers are exact, so
    that a group of equal values has exactly that value as its mean.
    """
    same = _same_group(group_ids).to(values.device)
    return values.expand_as(same).masked_fill(~same, 0.0).sum(dim=1) / same.sum(dim=1)


def group_sizes(group_ids: Tensor) -> Tensor:
    """Returns for each episode the number of episodes in its group, `(B,)` int64.

    Raises:
        ValueError: A group has one member only, which cannot be compared with others.
    """
    sizes = _same_group(group_ids).sum(dim=1)
    if bool((sizes < 2).any()):
        raise ValueError("a group of one completion has no others to compare it with")
    return sizes


def leave_one_out(values: Tensor, group_ids: Tensor) -> Tensor:
    """Returns each value minus the mean of the others in its group, `(B,)`.

    Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!": `r_i − Σ_{j≠i} r_j / (G − 1)`, which is
    `(r_i − mean) G / (G − 1)`.
    """
    sizes = group_sizes(group_ids).to(values.device)
    return (values - group_mean(values, group_ids)) * sizes / (sizes - 1)


def group_deviation(values: Tensor, group_ids: Tensor) -> Tensor:
    """Returns for each episode the standard deviation of its group, `(B,)`, with `G − 1` in the denominator."""
    sizes = group_sizes(group_ids).to(values.device)
    squares = (values - group_mean(values, group_ids)).square()
    return (group_mean(squares, group_ids) * sizes / (sizes - 1)).sqrt()


DEVIATION_EPSILON = 1e-4
"""Keeps the advantages of a group finite whose values are nearly equal; GRPO's and TRL's."""


def standardized(values: Tensor, group_ids: Tensor) -> Tensor:
    """Returns each value minus the mean of its group, over the group's standard deviation, `(B,)`."""
    deviation = group_deviation(values, group_ids) + DEVIATION_EPSILON
    return (values - group_mean(values, group_ids)) / deviation


def first_of_the_best(values: Tensor, group_ids: Tensor) -> Tensor:
    """Returns `(B,)` bool, true at the first of the largest values `(B,)` of each group."""
    same = _same_group(group_ids).to(values.device)
    largest = values.expand_as(same).masked_fill(~same, -torch.inf).amax(dim=1)
    best = values == largest
    earlier = (
        torch.tril(same, diagonal=-1) & best
    )  # [i, j]: j comes before i, of its group, and is a best one
    return best & ~earlier.any(dim=1)


def share_of_equal_groups(values: Tensor, group_ids: Tensor) -> float:
    """Returns the share of episodes in groups of equal values `(B,)`, which carry no information."""
    return float((group_deviation(values.double(), group_ids) == 0.0).double().mean())


def _same_group(group_ids: Tensor) -> Tensor:
    """Returns `(B, B)` bool, whether two episodes answer the same prompt."""
    return group_ids.unsqueeze(0) == group_ids.unsqueeze(1)


def token_rewards(
    scores: Tensor, kl_charge: Tensor, mask: Tensor, dense: Tensor | None = None
) -> Tensor:
    """Returns rewards per token `(B, T)`: the score at the last policy token, minus the KL charge at every token.

    Ziegler et al. 2019 (arXiv 1909.08593), eq. 2, written per token as their code does: `r_t = [t = last] r − β kl_t`.

    Args:
        scores: `(B,)`, the task's reward of the episode.
        kl_charge: `(B, T)`, β × the per-token estimate.
        mask: `(B, T)` bool.
        dense: `(B, T)` or None, rewards that the task gives at the tokens, on top.

    Raises:
        ValueError: An episode has no policy token, so that its score has no place.
    """
    last = last_token(mask)
    if bool((last < 0).any()):
        raise ValueError("an episode without a policy token cannot be rewarded")
    rewards = -kl_charge.masked_fill(~mask, 0.0)
    if dense is not None:
        rewards = rewards + dense.masked_fill(~mask, 0.0)
    rows = torch.arange(len(scores), device=scores.device)
    return rewards.index_put((rows, last), scores.to(rewards.dtype), accumulate=True)


def gae(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    bootstrap: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation, Schulman et al. 2016 (arXiv 1506.02438), eq. 16, over the policy's tokens only.

    `δ_t = r_t + γ V_{t+1} − V_t` and `A_t = δ_t + γ λ A_{t+1}`, where t+1 is the next token that the policy chose:
    tokens of the environment inside a completion change nothing.

    Args:
        rewards: `(B, T)`.
        values: `(B, T)`, estimates of the state before each token.
        mask: `(B, T)` bool.
        gamma: Discount per token.
        gae_lambda: 1 gives the Monte-Carlo return, 0 the one-step estimate.
        bootstrap: `(B,)`, the value after the last token: 0 for episodes that terminated and for truncated ones that
            do not bootstrap; None stands for zeros.

    Returns:
        Advantages and returns (`A + V`), `(B, T)` each, 0 where the mask is false.
    """
    next_value = torch.zeros_like(rewards[:, 0]) if bootstrap is None else bootstrap
    running = torch.zeros_like(next_value)
    advantages = torch.zeros_like(rewards)
    for step in reversed(range(rewards.shape[1])):
        chosen = mask[:, step]
        delta = rewards[:, step] + gamma * next_value - values[:, step]
        running = torch.where(chosen, delta + gamma * gae_lambda * running, running)
        next_value = torch.where(chosen, values[:, step], next_value)
        advantages[:, step] = torch.where(chosen, running, 0.0)
    return advantages, (advantages + values).masked_fill(~mask, 0.0)


def kl_k1(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """`log p − log q` of tokens drawn from p: unbiased for KL(p‖q), may be negative; what is charged in the reward.

    The names k1, k2, k3 are Schulman's (joschu.net/blog/kl-approx.html).
    """
    return logprobs - other_logprobs


def kl_k2(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """`½ (log p − log q)²` of tokens drawn from p: biased and never negative; its gradient is that of KL(p‖q)."""
    return 0.5 * (logprobs - other_logprobs).square()


def kl_k3(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """`q/p − 1 − log(q/p)` of tokens drawn from p: unbiased for KL(p‖q) and never negative; its gradient is biased."""
    log_ratio = other_logprobs - logprobs
    return log_ratio.expm1() - log_ratio


def categorical_kl(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """The exact KL(p‖q) of two categorical distributions, from log-probabilities `(…, V)` to `(…)`.

    Entries that p makes impossible (−inf) add nothing, in the value and in both derivatives.
    """
    impossible = logprobs.isneginf()
    difference = (logprobs - other_logprobs).masked_fill(impossible, 0.0)
    return (logprobs.exp() * difference).sum(dim=-1)


def clipped_surrogate(
    ratio: Tensor, advantages: Tensor, clip_range: float, clip_range_high: float | None = None
) -> Tensor:
    """PPO's objective per token, to be maximized: Schulman et al. 2017 (arXiv 1707.06347), eq. 7.

    `min(ρ A, clip(ρ, 1 − ε, 1 + ε_high) A)`; the minimum makes it a lower bound for both signs of the advantage.
    `clip_range_high` is ε unless it is given.
    """
    high = clip_range if clip_range_high is None else clip_range_high
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + high)
    return torch.minimum(ratio * advantages, clipped * advantages)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """`1 − Var(R − V) / Var(R)` over the policy's tokens; NaN-free: 0 where the returns do not vary."""
    chosen_returns = returns[mask]
    variance = float(chosen_returns.var(unbiased=False)) if chosen_returns.numel() else 0.0
    if variance == 0.0:
        return 0.0
    return 1.0 - float((chosen_returns - values[mask]).var(unbiased=False)) / variance


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, steps: int, tolerance: float = 1e-10
) -> tuple[Tensor, Tensor]:
    """Solves `H x = target` for a symmetric positive definite H that is only known by its products.

    Hestenes and Stiefel 1952, from 0; stops after `steps` or once the residual is small relative to the target.

    Args:
        product: Maps `(D,)` to `H v`, `(D,)`.
        target: `(D,)`.
        steps: Largest number of products.
        tolerance: Bound of the squared norm of the residual, as a share of the target's.

    Returns:
        x and `H x`, which is the target less the last residual and costs no further product.
    """
    solution = torch.zeros_like(target)
    residual = target.clone()
    direction = residual.clone()
    squared = residual.dot(residual)
    enough = tolerance * float(squared)
    for _ in range(steps):
        if float(squared) <= enough:
            break
        image = product(direction)
        length = squared / direction.dot(image)
        solution += length * direction
        residual -= length * image
        previous, squared = squared, residual.dot(residual)
        direction = residual + squared / previous * direction
    return solution, target - residual
