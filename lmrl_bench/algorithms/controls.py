"""Base classes of controls, which learn nothing and answer in another way than with one completion of the policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.no_training import NoTraining
from lmrl_bench.core.errors import AlgorithmError
from lmrl_bench.data.episodes import Completions
from lmrl_bench.data.sample import Sample
from lmrl_bench.envs.core import EpisodeCore, Outcome
from lmrl_bench.records.record import Control


class SelectionConfig(AlgorithmConfig):
    """Settings of a control that chooses."""

    candidates: int = Field(8, ge=1, description="n, completions per prompt in evaluations")


class Selection(NoTraining, ABC):
    """Draws several completions to each prompt in evaluations, and answers with one of them.

    Greedy evaluations draw one, as all would be the same. The cost is tokens, which the record counts:
    `events.candidate_tokens` is what the evaluations of the test split generated.
    """

    config_class: ClassVar[type[AlgorithmConfig]] = SelectionConfig
    config: SelectionConfig  # type: ignore[assignment]

    @property
    def candidates(self) -> int:
        """Completions per prompt."""
        return self.config.candidates

    @abstractmethod
    def choose(self, rewards: Tensor, texts: Sequence[str]) -> int:
        """Returns which of the completions to one prompt is the answer.

        Args:
            rewards: `(n,)`.
            texts: `n` texts.
        """

    def chosen(self, outcome: Outcome) -> Tensor:
        """Returns the indices `(B,)` of the answers among `B * n` completions, those to a prompt next to each other."""
        n = self.candidates
        rewards = outcome.totals.view(-1, n)
        places = [
            start * n + self.choose(rewards[start], outcome.texts[start * n : (start + 1) * n])
            for start in range(len(rewards))
        ]
        return torch.tensor(places, dtype=torch.long)


class Written(NoTraining, ABC):
    """Writes its answers itself; the policy is not asked.

    The texts go through the policy's tokenizer and the task's limits, and are scored as completions are. There is no
    distance to the initial policy: `kl_to_reference` is null in the record.
    """

    control: ClassVar[Control | None] = "text"

    @abstractmethod
    def write(self, sample: Sample) -> str:
        """Returns the answer to a prompt."""

    def answers(self, core: EpisodeCore, samples: Sequence[Sample]) -> Completions:
        """Returns the answers as completions; see `as_completions`."""
        return as_completions(core, samples, [self.write(sample) for sample in samples])


def as_completions(
    core: EpisodeCore, samples: Sequence[Sample], texts: Sequence[str]
) -> Completions:
    """Returns texts as the completions that a policy would write, cut at the length cap.

    Raises:
        AlgorithmError: A text has fewer tokens than the task asks for.
    """
    rules, codec = core.rules, core.codec
    ids = torch.full((len(samples), rules.max_tokens), codec.pad_id, dtype=torch.long)
    for row, (sample, text) in enumerate(zip(samples, texts, strict=True)):
        tokens, _ = codec.encode_completion(sample, text)
        if len(tokens) < min(rules.min_tokens + 1, rules.max_tokens):
            raise AlgorithmError(
                f"the answer {text[:60]!r} to the sample {sample.id} has {len(tokens) - 1} tokens before its end, but "
                f"completion.min_tokens of the task is {rules.min_tokens}; give longer texts"
            )
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return core.completions(ids.numpy())
