"""TRPO: the natural-gradient step of a stated length, taken only if it keeps its promises.

Paper: Schulman et al. 2015, "Trust Region Policy Optimization" (arXiv 1502.05477), section 6 and appendix C.

    maximize J(θ) = mean ρ_t A_t   subject to   mean KL(π_old(· | x, y_<t) ‖ π_θ(· | x, y_<t)) ≤ δ
    direction  s = (F + c I)⁻¹ ∇J      by conjugate gradient; F is the Hessian of the KL, F v as in fisher.py
    step       θ = θ_old + b^j √(2 δ / sᵀ(F + c I)s) s,   the first j = 0, 1, … with KL ≤ δ and J(θ) > J(θ_old)

The KL is the exact one over the vocabulary, at every policy token of the batch; causal and encoder-decoder
policies alike. F is measured on the share `fisher_fraction` of the episodes, drawn again each iteration.
Without an acceptable step the policy stays.

Deviations from the paper: damping `c`; advantages are GAE's, whitened over the batch; the reward holds a KL charge.

Deviations from sb3-contrib: the constraint is KL(old ‖ new) as in the paper, not KL(new ‖ old) (the two have
the same F); conjugate gradient starts at 0, not at random; the sub-sample is random episodes, and only F uses
it. The critic is trained by Adam on its own parameters alone: the separate trunk and the head, or only the
head where it sits on the policy's trunk, so that its steps never move the policy. On one-token episodes the
step equals sb3-contrib's (tests/oracle).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from lmrl_bench.algorithms.critic import CriticAlgorithm, CriticConfig
from lmrl_bench.algorithms.fisher import FisherProduct
from lmrl_bench.algorithms.functional import (
    categorical_kl,
    conjugate_gradient,
    weighted_sum,
)
from lmrl_bench.algorithms.gradient import shuffled
from lmrl_bench.algorithms.interface import AlgorithmConfig, UpdateStats, require_finite
from lmrl_bench.algorithms.search import Around, SearchSpace
from lmrl_bench.core.errors import AlgorithmError
from lmrl_bench.core.wording import reason_of
from lmrl_bench.data.episodes import Episodes, TokenBatch
from lmrl_bench.models.scoring import chosen_states, log_distribution


class TRPOConfig(CriticConfig):
    """Settings of TRPO; learning rate, Adam's ε and the gradient's bound are the critic's."""

    search_space: ClassVar[SearchSpace] = {**CriticConfig.search_space, "max_kl": Around(4.0)}

    max_kl: float = Field(0.01, gt=0.0, description="δ, nats per token")
    fisher_fraction: float = Field(
        0.25, gt=0.0, le=1.0, description="share of the episodes on which F is measured"
    )
    conjugate_gradient_steps: int = Field(10, gt=0, description="products with F per iteration")
    damping: float = Field(0.1, ge=0.0, description="c, added to F's diagonal")
    backtracks: int = Field(10, gt=0, description="step lengths tried")
    backtrack_factor: float = Field(0.8, gt=0.0, lt=1.0, description="b, between two of them")
    critic_epochs: int = Field(5, gt=0, description="passes of the critic over the episodes")
    critic_minibatch_episodes: int = Field(16, gt=0, description="episodes per step of the critic")

    @model_validator(mode="after")
    def _only_in_float32(self) -> Self:
        if self.autocast != "none":
            raise ValueError(
                "autocast: TRPO's products and its KL bound need float32; set it to none"
            )
        return self


@dataclass(frozen=True)
class Trial:
    """The policy evaluated at other parameters.

    Attributes:
        kl: nats per token between the old policy and this one, exact.
        surrogate: J.
        states: `(N, D)` before each policy token, for each micro-batch.
    """

    kl: float
    surrogate: float
    states: Sequence[Tensor]


@dataclass(frozen=True)
class Step:
    """The outcome of the trust-region step.

    Attributes:
        terms: surrogate before and after, share of the full step (0: none), step lengths tried.
        kl: nats per token between the old and the new policy, exact.
        gradient_norm: of the surrogate.
        max_logprob_difference: nats, |sampled − scored| before the step.
        states: `(N, D)` before each policy token after the step, for each micro-batch.
    """

    terms: dict[str, float]
    kl: float
    gradient_norm: float
    max_logprob_difference: float
    states: Sequence[Tensor]


class TRPO(CriticAlgorithm):
    """Trust-region policy optimization."""

    config_class: ClassVar[type[AlgorithmConfig]] = TRPOConfig
    summary: ClassVar[str] = "TRPO (arXiv 1502.05477): natural gradient with an exact KL bound"
    config: TRPOConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policy_parameters = [
            parameter for parameter in self.policy.model.parameters() if parameter.requires_grad
        ]
        self._require_derivatives()

    def _require_derivatives(self) -> None:
        """Takes one product with F on two tokens, so that a model without its derivatives is refused before a rollout.

        Raises:
            AlgorithmError: The model's code has a part without a derivative in forward mode.
        """
        token = torch.full((1, 1), self.policy.network.pad_id, device=self.policy.device)
        everywhere = torch.ones_like(token, dtype=torch.bool)
        tokens = TokenBatch(token, everywhere, token, everywhere)

        def distribution(_: object) -> Tensor:
            return self._of_states(chosen_states(self.policy.network, tokens), tokens)

        size = sum(parameter.numel() for parameter in self.policy_parameters)
        weights = torch.ones(1, device=self.policy.device)
        try:
            product = FisherProduct(
                self.policy.model, self.policy_parameters, distribution, [(None, weights)], 0.0
            )
            product(torch.zeros(size, device=self.policy.device))
        except torch.OutOfMemoryError:
            raise  # says nothing about the model
        except (NotImplementedError, RuntimeError) as error:
            raise AlgorithmError(
                f"TRPO needs derivatives in forward mode, and {type(self.policy.model).__name__} has none: "
                f"{reason_of(error)}; choose another algorithm, such as ppo, or another policy"
            ) from error

    def trained_parameters(self) -> list[nn.Parameter]:
        """Returns the critic's own parameters: what the optimizer moves. The policy moves by the trust-region step."""
        of_policy = {id(parameter) for parameter in self.policy.model.parameters()}
        return [
            parameter
            for parameter in super().trained_parameters()
            if id(parameter) not in of_policy
        ]

    def update(self, batch: Episodes) -> UpdateStats:
        """Takes at most one policy step, then trains the critic."""
        step = self._policy_step(self.normalized(batch))
        value_loss, critic_steps = self._fit_critic(batch, step.states)
        explained = self.explained_variance(batch)
        return UpdateStats(
            terms={**step.terms, "value_loss": value_loss, "explained_variance": explained},
            optimizer_steps=critic_steps + int(step.terms["step_fraction"] > 0.0),
            gradient_norm=step.gradient_norm,
            approx_kl=step.kl,
            max_logprob_difference=step.max_logprob_difference,
        )

    # -- the policy -----------------------------------------------------------------------------------------------

    def _policy_step(self, batch: Episodes) -> Step:
        gradient, surrogate, difference = self._surrogate_gradient(batch)
        norm = float(gradient.norm())
        still = {"surrogate_before": surrogate, "surrogate_after": surrogate, "step_fraction": 0.0}
        squared_length = torch.zeros(())
        if norm > 0.0:
            direction, image = conjugate_gradient(
                self._fisher_product(batch), gradient, self.config.conjugate_gradient_steps
            )
            squared_length = direction.dot(image)
        if float(squared_length) == 0.0:  # no gradient, or none that float32 can square
            return Step({**still, "backtracks": 0.0}, 0.0, norm, difference, self._look(batch))
        full_step = direction * (2.0 * self.config.max_kl / squared_length).sqrt()
        require_finite(full_step, "the trust-region step", self.iteration)
        fraction, found, tries = self._line_search(batch, full_step, surrogate)
        terms = {**still, "surrogate_after": found.surrogate, "step_fraction": fraction}
        return Step({**terms, "backtracks": float(tries)}, found.kl, norm, difference, found.states)

    def _surrogate_gradient(self, batch: Episodes) -> tuple[Tensor, float, float]:
        """Returns ∇J `(D,)`, J, and the largest |sampled − scored| log-probability, at the old policy."""
        weights = self.weights(batch)
        gradient = torch.zeros_like(parameters_to_vector(self.policy_parameters))
        surrogate = difference = 0.0
        for rows in self.micro_batches(batch):
            part = batch.select(rows)
            logprobs = self.score(part).logprobs
            share = _surrogate(logprobs, part, weights[rows, : logprobs.shape[1]])
            require_finite(share.detach(), "the surrogate", self.iteration)
            gradient += flat_gradient(share, self.policy_parameters)
            surrogate += float(share.detach())
            gap = (logprobs.detach() - part.behavior_logprobs).masked_fill(~part.mask, 0.0)
            difference = max(difference, float(gap.abs().max()))
        require_finite(gradient, "the gradient of the surrogate", self.iteration)
        return gradient, surrogate, difference

    def _fisher_product(self, batch: Episodes) -> FisherProduct:
        """Returns v ↦ (F + c I) v, measured on a random share of the episodes."""
        count = math.ceil(self.config.fisher_fraction * len(batch))
        sample = batch.select(torch.randperm(len(batch), generator=self.shuffle_rng)[:count])
        weights = self.weights(sample)
        parts = []
        for rows in self.micro_batches(sample):
            part = sample.select(rows)
            parts.append((part, weights[rows, : part.width][part.mask]))
        return FisherProduct(
            self.policy.model,
            self.policy_parameters,
            self._distribution,
            parts,
            self.config.damping,
        )

    @torch.no_grad()
    def _line_search(
        self, batch: Episodes, full_step: Tensor, surrogate: float
    ) -> tuple[float, Trial, int]:
        """Moves the policy by the longest acceptable step; returns its fraction, what it gave, and the tries."""
        old = parameters_to_vector(self.policy_parameters)
        before = self._look(batch)
        for tries in range(self.config.backtracks):
            fraction = self.config.backtrack_factor**tries
            new = old + fraction * full_step
            trial = self._compare(batch, old, new, before)
            if trial.kl <= self.config.max_kl and trial.surrogate > surrogate:
                self._move_to(new)
                return fraction, trial, tries + 1
        self._move_to(old)
        return 0.0, Trial(0.0, surrogate, before), self.config.backtracks

    def _compare(
        self, batch: Episodes, old: Tensor, new: Tensor, before: Sequence[Tensor]
    ) -> Trial:
        """Tries the parameters `new`; no more than one micro-batch's logits are held.

        Args:
            batch: The episodes.
            old: Parameters `(D,)` of the policy that sampled.
            new: Parameters to try.
            before: The states of `old`, from `_look`.
        """
        weights = self.weights(batch)
        kl = surrogate = 0.0
        found = []
        for rows, states in zip(self.micro_batches(batch), before, strict=True):
            part = batch.select(rows)
            mask, share = part.mask, weights[rows, : part.width]
            chosen = part.tokens.to(self.policy.device)
            vector_to_parameters(old, self.policy_parameters)
            before_logprobs = self._of_states(states, chosen)
            vector_to_parameters(new, self.policy_parameters)
            found.append(chosen_states(self.policy.network, chosen))
            logprobs = self._of_states(found[-1], chosen)
            kl += float((categorical_kl(before_logprobs, logprobs) * share[mask]).sum())
            drawn = logprobs.gather(1, part.tokens.completion_ids[mask].unsqueeze(1)).squeeze(1)
            placed = torch.zeros_like(part.behavior_logprobs).masked_scatter(mask, drawn)
            surrogate += float(_surrogate(placed, part, share))
        return Trial(kl, surrogate, found)

    @torch.no_grad()
    def _look(self, batch: Episodes) -> list[Tensor]:
        """Returns the trunk's states `(N, D)` before each policy token, for each micro-batch."""
        return [
            chosen_states(self.policy.network, batch.select(rows).tokens.to(self.policy.device))
            for rows in self.micro_batches(batch)
        ]

    def _of_states(self, states: Tensor, tokens: TokenBatch) -> Tensor:
        """Returns the log-probabilities `(N, V)` after the states; TRPO acts through no token filter."""
        return log_distribution(self.policy.network, states, tokens.positions, self.behavior)

    def _distribution(self, part: Episodes) -> Tensor:
        """Returns the policy's log-probabilities `(N, V)` at the part's policy tokens."""
        logits = self.score(part, full_logits=True).logits
        assert logits is not None
        return logits

    def _move_to(self, vector: Tensor) -> None:
        """Sets the policy's parameters, each in memory of its own."""
        vector_to_parameters(vector, self.policy_parameters)
        for parameter in self.policy_parameters:
            parameter.data = parameter.data.clone()

    # -- the critic -----------------------------------------------------------------------------------------------

    def _fit_critic(self, batch: Episodes, states: Sequence[Tensor]) -> tuple[float, int]:
        """Trains the critic on the returns; gives its mean loss and the number of steps.

        Args:
            batch: The episodes.
            states: Of the trunk as it is now, from `_look`.
        """
        losses: list[float] = []
        with frozen(self.policy_parameters):
            predictions = self._predictions(batch, states)
            for _ in range(self.config.critic_epochs):
                size = self.config.critic_minibatch_episodes
                for rows in shuffled(len(batch), size, self.shuffle_rng):
                    minibatch = batch.select(rows, trim=False)
                    errors = self.policy.critic.loss(minibatch, predictions(rows))
                    loss = weighted_sum(errors, self.weights(minibatch))
                    require_finite(loss.detach(), "the term 'value_loss'", self.iteration)
                    self.optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
                    require_finite(norm, "the norm of the critic's gradient", self.iteration)
                    self.optimizer.step()
                    losses.append(float(loss.detach()))
        return sum(losses) / len(losses), len(losses)

    def _predictions(
        self, batch: Episodes, states: Sequence[Tensor]
    ) -> Callable[[Tensor], Tensor | None]:
        """Returns index `(n,)` ↦ values `(n, T)`, differentiable in the critic's parameters; None: it asks itself."""
        critic = self.policy.critic
        if not critic.reads_policy_states:
            return lambda _: None
        mask = batch.mask.to(self.policy.device)
        placed = self._placed(batch, states)

        def values(index: Tensor) -> Tensor:
            found = critic.state_values(placed[index]).masked_fill(~mask[index], 0.0)
            return found.to(batch.returns.device)

        return values

    def _placed(self, batch: Episodes, states: Sequence[Tensor]) -> Tensor:
        """Returns the states as `(B, T, D)`, 0 where the policy chose nothing."""
        placed = states[0].new_zeros(*batch.values.shape, self.policy.network.state_size)
        for rows, found in zip(self.micro_batches(batch), states, strict=True):
            mask = batch.mask[rows].to(found.device).unsqueeze(-1)
            placed[rows] = placed[rows].masked_scatter(mask, found)
        return placed


def flat_gradient(value: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Returns the gradient of `value` `()` as one vector `(D,)`; 0 for parameters that take no part."""
    gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


@contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Lets no gradient into the parameters."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _surrogate(logprobs: Tensor, part: Episodes, weights: Tensor) -> Tensor:
    """`Σ w ρ A`, `()`."""
    ratio = (logprobs - part.behavior_logprobs).exp()
    return weighted_sum(ratio * part.advantages, weights)
