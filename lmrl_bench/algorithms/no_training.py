"""No learning: the initial policy itself, as a row to compare with (zero-shot or sft)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from lmrl_bench.algorithms.interface import (
    STATE_FORMAT,
    AfterIteration,
    AlgorithmConfig,
    check_state,
)
from lmrl_bench.records.record import Control

if TYPE_CHECKING:
    from lmrl_bench.config.sampling import SamplingConfig
    from lmrl_bench.envs.core import EpisodeCore
    from lmrl_bench.models.behavior import TopPFilter
    from lmrl_bench.policies.policy import LanguageModelPolicy


class NoTrainingConfig(AlgorithmConfig):
    """No settings."""


class NoTraining:
    """Learns nothing; the policy stays what it was."""

    config_class: ClassVar[type[AlgorithmConfig]] = NoTrainingConfig
    trains: ClassVar[bool] = False
    spends_tokens: ClassVar[bool] = False
    filters_tokens: ClassVar[bool] = False
    control: ClassVar[Control | None] = None
    summary: ClassVar[str] = "no learning: evaluates the policy that other algorithms start from"

    def __init__(
        self,
        policy: LanguageModelPolicy,
        core: EpisodeCore,
        config: NoTrainingConfig,
        *,
        sampling: SamplingConfig,
        total_tokens: int,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        del core, sampling, total_tokens, seed, device
        self.policy = policy
        self.config = config
        self.token_filter: TopPFilter | None = None

    def learn(
        self,
        total_tokens: int | None = None,
        callback: Any = None,
        *,
        after_iteration: AfterIteration | None = None,
    ) -> Self:
        """Returns at once."""
        del total_tokens, callback, after_iteration
        return self

    def state_dict(self) -> dict[str, Any]:
        """Returns the algorithm's name."""
        return {"format": STATE_FORMAT, "algorithm": type(self).__name__}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Checks that the state is this algorithm's."""
        check_state(state, type(self).__name__)
