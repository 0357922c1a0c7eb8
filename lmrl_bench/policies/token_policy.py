"""The language model as a Stable-Baselines3 policy on the token view: one step is one token.

Stock PPO and sb3-contrib's TRPO train it unmodified. The algorithms of this package do not step
tokens; they use what `LanguageModelPolicy` adds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.data.spaces import TOKEN_KEYS
from lmrl_bench.data.vocabulary import Vocabulary
from lmrl_bench.models.behavior import Behavior
from lmrl_bench.models.scoring import twice_differentiable
from lmrl_bench.models.storage import (
    ValueTrunk,
    make_network,
    read_model,
)
from lmrl_bench.policies.critic import Critic, ValueHead
from lmrl_bench.policies.spaces import check_spaces


class TokenPolicy(BasePolicy):
    """A language model with a value head as an actor-critic policy.

    Dropout is off while collecting and while updating, unless `dropout` says otherwise.

    Parameters of the critic have "value" in their name, and in GPT-2, Llama, T5 and BART no others
    do: sb3-contrib's TRPO tells actor and critic apart by that.

    Args:
        observation_space: the token view's, a `Dict` of `prompt_ids` and `prompt_mask` `(P,)`,
            `completion_ids` and `completion_mask` `(T,)`.
        action_space: `Discrete`, at least as wide as the tokenizer's ids, at most as wide as the model's
            output.
        lr_schedule: its value at 1 is the first learning rate.
        model: a name (shipped policy, download, folder, hub id), or a model, which is trained in
            place.
        tokenizer: default: the one of the named model.
        revision: commit of a hub id.
        value_trunk: where the value head sits: on the policy's trunk ("shared"), on the same trunk
            without sending gradients into it ("frozen"), or on a copy of the model ("separate").
        temperature: of the behavior on the token view; see `Behavior`.
        min_tokens: of the behavior on the token view; see `Behavior`.
        dropout: whether training mode turns dropout on.
        optimizer_class: as in SB3.
        optimizer_kwargs: as in SB3.
        use_sde: refused if true; tokens are discrete.

    Attributes:
        vocabulary: the legal ids and the end tokens of model and tokenizer.
        network: the model as a map to states and logits.
        behavior: the distribution that acts on the token view.
        critic: estimates returns; a value head unless another critic is put in its place.

    Raises:
        PolicyError: Model, tokenizer and spaces do not fit together.
    """

    model: PreTrainedModel

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        model: str | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        revision: str | None = None,
        value_trunk: ValueTrunk = "shared",
        temperature: float = 1.0,
        min_tokens: int = 0,
        dropout: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ) -> None:
        if use_sde:
            raise PolicyError("use_sde=True explores in continuous actions; tokens are discrete")
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )
        folder: Path | None = None
        if isinstance(model, str):
            model, own_tokenizer, folder = read_model(model, revision)
            tokenizer = tokenizer or own_tokenizer
        if tokenizer is None:
            raise PolicyError("a model object was given without its tokenizer; pass tokenizer=…")
        self.dropout = dropout
        self.model = model
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary.of(tokenizer, model.generation_config, model.config)
        self.network = make_network(model, tokenizer, self.vocabulary)
        self.behavior = self.make_behavior(temperature, min_tokens)
        check_spaces(observation_space, action_space, self.network, self.vocabulary.width)
        self.critic: Critic = ValueHead(self.network, value_trunk)
        if folder is not None:
            self.critic.restore(folder)
        self.eval()
        self.optimizer = optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def make_behavior(self, temperature: float = 1.0, min_tokens: int = 0) -> Behavior:
        """Returns the behavior of this policy's vocabulary."""
        return Behavior(temperature=temperature, vocabulary=self.vocabulary, min_tokens=min_tokens)

    def train(self, mode: bool = True) -> Self:
        """As in torch, but dropout stays off unless the policy was made with `dropout=True`."""
        return super().train(mode and self.dropout)

    def forward(
        self, obs: dict[str, Tensor], deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns actions `(B,)`, values `(B, 1)` and log-probabilities `(B,)`."""
        states, lengths = self._token_states(obs)
        distribution = self._distribution(states, lengths)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self._token_values(obs, states), distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: dict[str, Tensor], actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns values `(B, 1)`, log-probabilities `(B,)` and entropy `(B,)`."""
        states, lengths = self._token_states(obs)
        distribution = self._distribution(states, lengths)
        values = self._token_values(obs, states)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: dict[str, Tensor]) -> CategoricalDistribution:
        """Returns the distribution of the next token; differentiable twice, as TRPO needs."""
        with twice_differentiable():
            states, lengths = self._token_states(obs)
        return self._distribution(states, lengths)

    def predict_values(self, obs: dict[str, Tensor]) -> Tensor:
        """Returns the values `(B, 1)`."""
        return self.critic.final_values(self._tokens(obs)).unsqueeze(1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        if not isinstance(observation, dict):
            raise TypeError(
                "the policy takes the token view's observations, which are dictionaries"
            )
        return self.get_distribution(observation).get_actions(deterministic=deterministic)

    def _token_values(self, obs: dict[str, Tensor], states: Tensor) -> Tensor:
        if self.critic.reads_policy_states:
            return self.critic.state_values(states).unsqueeze(1)
        return self.predict_values(obs)

    def _tokens(self, obs: dict[str, Tensor]) -> TokenBatch:
        """Returns the token view's observations, in which every token so far counts, without their padding."""
        prompt_ids, prompt_mask, completion_ids, completion_mask = (obs[key] for key in TOKEN_KEYS)
        # SB3 hands the boxes over as it stores them: masks as numbers, ids sometimes as float32.
        tokens = TokenBatch(
            prompt_ids.long(), prompt_mask.bool(), completion_ids.long(), completion_mask.bool()
        ).to(self.device)
        return tokens.select(torch.arange(len(tokens)))

    def _token_states(self, obs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the states `(B, D)` before the next token, and its completion position `(B,)`."""
        tokens = self._tokens(obs)
        states = self.network.states(tokens.prompt_ids, tokens.prompt_mask, tokens.completion_ids)
        return states[torch.arange(len(tokens)), tokens.lengths], tokens.lengths

    def _distribution(self, states: Tensor, positions: Tensor) -> CategoricalDistribution:
        """The next token's distribution, as SB3 wants it: impossible tokens have a finite logit."""
        n_actions = int(self.action_space.n)  # type: ignore[attr-defined]
        logits = self.behavior(self.network.logits(states), positions)[:, :n_actions]
        # Differences of infinities would make the KL divergence of torch's Categorical NaN.
        logits = logits.clamp(min=torch.finfo(logits.dtype).min)
        return CategoricalDistribution(n_actions).proba_distribution(action_logits=logits)
