"""Settings that make an iteration of an algorithm the round of a workload. Does not import torch."""

from __future__ import annotations

from typing import Any

from harness.workloads import Workload
from lmrl_bench.algorithms.defaults import traits_of, with_defaults

KL_COEFFICIENT = 0.05
"""KL coefficient of algorithms that charge it by default; GRPO and its variants do not, as in TRL."""


def acting_algorithms() -> list[str]:
    """Returns the built-in algorithms that roll out."""
    from lmrl_bench.algorithms import ALGORITHMS

    return [name for name in ALGORITHMS.names() if traits_of(name).spends_tokens]


def passes(algorithm: str, workload: Workload) -> int:
    """Returns how often an algorithm goes over a rollout's episodes."""
    return workload.epochs if "epochs" in with_defaults(algorithm, {}) else 1


def settings(algorithm: str, workload: Workload) -> dict[str, Any]:
    """Returns the settings of an algorithm for a workload, without those that it does not have."""
    defaults = with_defaults(algorithm, {})
    compares_completions = defaults["group_size"] > 1
    wanted: dict[str, Any] = {
        "episodes_per_iteration": workload.episodes,
        "group_size": workload.group_size if compares_completions else 1,
        "epochs": workload.epochs,
        "minibatch_episodes": workload.minibatch_episodes,
        "critic_minibatch_episodes": workload.minibatch_episodes,
        "learning_rate": workload.learning_rate,
        "kl": {"coefficient": KL_COEFFICIENT if defaults["kl"]["coefficient"] else 0.0},
        "kl_loss_coefficient": 0.0,
        "fisher_fraction": 1.0,
    }
    if workload.micro_batch_episodes is not None:
        longest = workload.prompt_tokens[1] + workload.completion_tokens
        wanted["micro_batch_tokens"] = workload.micro_batch_episodes * longest
    return {name: value for name, value in wanted.items() if name in defaults}
