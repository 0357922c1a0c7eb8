"""Trivial answers: no training and no policy; a constant text, the prompt, or its first words.

A control of the task rather than of an algorithm: a metric or a reward that a trivial answer wins does not measure what
the task asks for. Three strategies:

* `constant`: one text for every prompt, the one of `texts` with the highest mean reward on the first
  `search_prompts` rows of the validation split, the first of equals. Without `texts` the candidates are the distinct
  references of the first `search_rows` rows of the training split, in order. A single candidate is taken as it is.
* `copy-prompt`: the prompt.
* `first-words`: the first `words` words of the prompt, separated by white space.

What the task's template writes is left out of copies: the words with which all prompts of the training split begin, and
those with which all end. Answers go through the policy's tokenizer and are cut at the task's length cap. All seeds give
the same answers, so intervals over seeds have no width; they say nothing about other prompts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any, ClassVar, Literal

from pydantic import Field

from lmrl_bench.algorithms.controls import Written, as_completions
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.core.errors import AlgorithmError
from lmrl_bench.data.sample import Sample
from lmrl_bench.envs.core import EpisodeCore


class TrivialConfig(AlgorithmConfig):
    """Settings of trivial answers."""

    strategy: Literal["constant", "copy-prompt", "first-words"] = Field(
        "constant", description="what every answer is"
    )
    texts: list[str] = Field(
        default_factory=list,
        description="candidates of `constant`; default: references of the training split",
    )
    words: int = Field(10, ge=1, description="of the prompt, for `first-words`")
    search_rows: int = Field(
        64, ge=1, description="training rows whose references are the candidates of `constant`"
    )
    search_prompts: int = Field(
        64, ge=1, description="validation rows on which the candidates of `constant` are compared"
    )


class Trivial(Written):
    """Answers every prompt without a policy."""

    config_class: ClassVar[type[AlgorithmConfig]] = TrivialConfig
    summary: ClassVar[str] = (
        "trivial answers: no training, no policy; a constant text, the prompt or its first words"
    )
    config: TrivialConfig  # type: ignore[assignment]

    def __init__(self, policy: Any, core: EpisodeCore, *args: Any, **kwargs: Any) -> None:
        super().__init__(policy, core, *args, **kwargs)
        self._task, self._codec = core.task, core.codec

    def write(self, sample: Sample) -> str:
        """Returns the answer of the strategy."""
        if self.config.strategy == "constant":
            return self.constant
        most = self.config.words if self.config.strategy == "first-words" else None
        return _body(sample.prompt, *self._template, most)

    @cached_property
    def constant(self) -> str:
        """The candidate with the highest mean reward on the validation split.

        Raises:
            AlgorithmError: There is no candidate.
        """
        candidates = self._candidates()
        if len(candidates) == 1:
            return candidates[0]
        core = EpisodeCore(self._task, self._codec, split="validation")
        samples = core.samples[: self.config.search_prompts]
        rewards = [_mean_reward(core, samples, text) for text in candidates]
        return candidates[rewards.index(max(rewards))]

    def _candidates(self) -> list[str]:
        if self.config.texts:
            return list(dict.fromkeys(self.config.texts))
        rows = self._task.samples("train")[: self.config.search_rows]
        found = list(dict.fromkeys(text for sample in rows for text in sample.references))
        if not found:
            raise AlgorithmError(
                f"task '{self._task.name}': no reference in the first {self.config.search_rows} training rows, so "
                "there is no candidate for a constant answer; give some as algorithm.texts"
            )
        return found

    @cached_property
    def _template(self) -> tuple[int, int]:
        """Counts of the words that all prompts of the training split begin with, and end with."""
        prompts = [sample.prompt.split() for sample in self._task.samples("train")]
        if all(words == prompts[0] for words in prompts):
            return 0, 0  # nothing tells the template from the data
        first = _shared(prompts)
        return first, _shared([words[first:][::-1] for words in prompts])


def _mean_reward(core: EpisodeCore, samples: Sequence[Sample], text: str) -> float:
    completions = as_completions(core, samples, [text] * len(samples))
    return float(core.score(samples, completions).totals.double().mean())


def _shared(rows: Sequence[Sequence[str]]) -> int:
    """Returns how many words all rows begin with."""
    same = (len(set(column)) == 1 for column in zip(*rows, strict=False))
    return sum(takewhile(bool, same))


def _body(prompt: str, first: int, last: int, most: int | None) -> str:
    """Returns the prompt without its first and last words, and of the rest the first `most`; white space stays."""
    spans = [match.span() for match in re.finditer(r"\S+", prompt)]
    kept = spans[first : len(spans) - last][:most]
    return prompt[kept[0][0] : kept[-1][1]] if kept else ""
