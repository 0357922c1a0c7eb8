"""Checks that an environment's spaces fit a policy's model."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.data.spaces import TOKEN_KEYS
from lmrl_bench.models.networks import Network
from lmrl_bench.models.probe import check_lengths, check_network
from lmrl_bench.models.storage import check_positions


def check_spaces(
    observations: spaces.Space[Any],
    actions: spaces.Space[Any],
    network: Network,
    vocabulary_size: int,
) -> None:
    """Checks that the spaces belong to the token view and fit the model.

    Raises:
        PolicyError: They do not.
    """
    if not isinstance(observations, spaces.Dict) or set(observations.spaces) != set(TOKEN_KEYS):
        raise PolicyError(
            f"the policy observes {', '.join(TOKEN_KEYS)} (the token view), not {observations}"
        )
    fits = isinstance(actions, spaces.Discrete) and (vocabulary_size <= actions.n <= network.width)
    if not fits:
        raise PolicyError(
            f"the policy acts in Discrete(n), n from {vocabulary_size} (the tokenizer's ids) to "
            f"{network.width} (the model's outputs), not in {actions}; create the environment with "
            "this policy's tokenizer"
        )
    prompt, completion = (observations[key].shape for key in ("prompt_ids", "completion_ids"))
    assert prompt is not None
    assert completion is not None
    check_positions(network, prompt[0], completion[0])
    check_network(network, prompt[0], completion[0])
    check_lengths(network, prompt[0], completion[0])
