"""A task in words: an environment shows a prompt, takes a completion, and answers with the score.

The third view of the batched core, next to the token view and the completion view. It needs no
policy, so that anything that writes text can be scored like one: a person, a program, a model behind
an API.

    env = open_text_env("docs-en-de")
    observation = env.start()
    end = env.respond("Das Paket ist installiert.")
    print(observation.prompt, end.reward, end.components)

`TextEnv` is the protocol. `SingleTurnEnv` is its one implementation: every completion ends the
episode. Rollouts generate one completion per episode; they do not drive environments that answer a
completion with another observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lmrl_bench.core.strict_json import Fact
from lmrl_bench.data.episodes import Completions
from lmrl_bench.data.sample import Sample
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.envs.rules import IntegerArray
from lmrl_bench.envs.setup import open_core

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmrl_bench.tasks.spec import Split
    from lmrl_bench.tasks.task import Task


@dataclass(frozen=True)
class Observation:
    """The input of the next completion.

    Attributes:
        sample_id: Identifier of the sample.
        prompt: The prompt as text.
        messages: Role and content of each message of a chat; empty for other prompts.
    """

    sample_id: str
    prompt: str
    messages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class End:
    """A finished episode.

    Attributes:
        sample: The sample.
        text: The completion as it was scored, without EOS.
        length: Completion tokens, EOS included.
        terminated: Whether EOS ended it; otherwise the length cap did.
        early_eos: Whether EOS came before the task's minimum length.
        reward: The task's reward: the score and the sum of the token rewards.
        components: Reward component to its value.
        info: What the reward says besides, by name.
    """

    sample: Sample
    text: str
    length: int
    terminated: bool
    early_eos: bool
    reward: float
    components: Mapping[str, float]
    info: Mapping[str, Fact]

    def as_info(self) -> dict[str, Any]:
        """Returns the info of Gymnasium's last step."""
        info = {
            "sample_id": self.sample.id,
            "prompt": self.sample.prompt,
            "text": self.text,
            "length": self.length,
            "early_eos": self.early_eos,
            "reward_components": dict(self.components),
        }
        # Gymnasium's vector environments make typed arrays of the values of a dict, but a fact may
        # be a number in one episode and a text in the next: a proxy stays one object.
        return info | ({"reward_info": MappingProxyType(dict(self.info))} if self.info else {})


class TextEnv(Protocol):
    """One episode at a time, in words."""

    def start(self, sample: Sample) -> Observation:
        """Starts an episode and returns its prompt."""

    def respond(self, completion: str | Sequence[int]) -> Observation | End:
        """Takes a completion, as text or token ids; returns the next observation or the end."""


class SingleTurnEnv:
    """A task whose episodes end with their first completion.

    Args:
        core: Draws prompts and scores completions.
    """

    def __init__(self, core: EpisodeCore) -> None:
        self.core = core
        self._sample: Sample | None = None

    def start(self, sample: Sample | None = None) -> Observation:
        """Starts an episode.

        Args:
            sample: The sample; by default the next one of the core's order.

        Returns:
            Its prompt.
        """
        self._sample = self.core.draw() if sample is None else sample
        return Observation(self._sample.id, self._sample.prompt, self._sample.messages)

    def respond(self, completion: str | Sequence[int]) -> End:
        """Ends the episode with a completion.

        Args:
            completion: A text, which ends with EOS unless it is cut at the task's length cap; or
                token ids, of which everything after the first EOS is ignored and which are cut at
                the cap, too.

        Returns:
            The end with its reward.

        Raises:
            ValueError: No episode is running, ids without EOS are shorter than the cap, or an id is
                unknown.
            RewardError: The reward cannot be computed.
        """
        if self._sample is None:
            raise ValueError("no episode is running; call start() before respond()")
        sample, codec, rules = self._sample, self.core.codec, self.core.rules
        if isinstance(completion, str):
            ids, _ = codec.encode_completion(sample, completion)
        else:
            ids = [int(number) for number in completion][: rules.max_tokens]
        row: IntegerArray = np.full((1, rules.max_tokens), codec.pad_id, dtype=np.int64)
        row[0, : len(ids)] = ids
        ends = codec.vocabulary.eos_ids
        if len(ids) < rules.max_tokens and not any(number in ends for number in ids):
            raise ValueError(
                f"the completion has {len(ids)} of at most {rules.max_tokens} tokens and no EOS, so "
                "it has not ended; append EOS"
            )
        (end,) = finished([sample], self.core.completions(row), self.core)
        self._sample = None
        return end


def open_text_env(
    task: Task | str,
    tokenizer: PreTrainedTokenizerBase | str | None = None,
    *,
    split: Split = "train",
) -> SingleTurnEnv:
    """Opens a task in words.

    Args:
        task: A task, or its name or folder.
        tokenizer: Counts tokens and cuts at the cap: a tokenizer, or the name or folder of a model;
            by default the tokenizer of the task's default policy.
        split: The split.

    Raises:
        LmrlBenchError: Unknown name, missing file or download, or a tokenizer without EOS.
    """
    return SingleTurnEnv(open_core(task, tokenizer, split))


def finished(samples: Sequence[Sample], completions: Completions, core: EpisodeCore) -> list[End]:
    """Scores `B` completions with one reward call and returns each episode's end.

    Raises:
        RewardError: The reward cannot be computed.
    """
    outcome = core.score(samples, completions)
    rewards = outcome.totals.double().tolist()
    lengths = completions.lengths.tolist()
    return [
        End(
            sample=sample,
            text=outcome.texts[row],
            length=lengths[row],
            terminated=bool(completions.terminated[row]),
            early_eos=bool(completions.terminated[row]) and lengths[row] <= core.rules.min_tokens,
            reward=rewards[row],
            components={name: float(part[row]) for name, part in outcome.components.items()},
            info={name: facts[row] for name, facts in outcome.info.items()},
        )
        for row, sample in enumerate(samples)
    ]
