"""The batched core: prompts out, finished episodes in, scores back. Independent of Gymnasium.

Collectors of the training algorithms and both Gymnasium views use it, so there is one order of
prompts, one decoding step and one reward call per batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmrl_bench.core.errors import RecordError, RewardError, TaskError, nearest
from lmrl_bench.core.seeding import generator
from lmrl_bench.data.episodes import Completions, Episodes, Prompts
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.envs.rules import EpisodeRules, IntegerArray
from lmrl_bench.metrics.base import Info
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput
from lmrl_bench.rewards.calling import call_reward
from lmrl_bench.rewards.transforms import RewardTransform, TransformBatch, transform_scores

if TYPE_CHECKING:
    from lmrl_bench.tasks.spec import Split
    from lmrl_bench.tasks.task import Task


@dataclass(frozen=True)
class Outcome:
    """Texts and rewards of `B` finished episodes.

    Attributes:
        texts: Decoded completions, without EOS.
        scores: `(B,)` float32, the task's reward of each episode, given at its last token.
        components: Component name to `(B,)` float32.
        token_rewards: `(B, T)` float32 or None; added at the tokens, 0 after the end.
        info: Name to one fact per episode, as returned by the reward.
    """

    texts: tuple[str, ...]
    scores: Tensor
    components: dict[str, Tensor] = field(default_factory=dict)
    token_rewards: Tensor | None = None
    info: Info = field(default_factory=dict)

    @property
    def totals(self) -> Tensor:
        """`(B,)` float32, undiscounted return: the score plus the sum of token rewards."""
        if self.token_rewards is None:
            return self.scores
        return self.scores + self.token_rewards.sum(dim=1)


@dataclass
class Counters:
    """Counts events since the core was created.

    Attributes:
        episodes: Finished episodes.
        tokens: Tokens chosen by policies, including EOS.
        terminated: Episodes ended by EOS.
        truncated: Episodes ended by the length cap.
        early_eos: Episodes ended by an illegal EOS, before `min_tokens`.
        control_tokens: Control tokens drawn inside completions; they are not part of the texts.
    """

    episodes: int = 0
    tokens: int = 0
    terminated: int = 0
    truncated: int = 0
    early_eos: int = 0
    control_tokens: int = 0


class EpisodeCore:
    """Draws prompts of one split and scores completions.

    Prompts come in random order without replacement. Each epoch has its own order, drawn from a
    random stream that nothing else uses (`lmrl_bench.core.seeding`).

    Args:
        task: The task.
        codec: Codec with the policy's tokenizer and the task's limits.
        split: The split.
        seed: Seed of the order.
        transforms: Reward transforms of training; `outcome` never applies them.

    Attributes:
        rules: Rules for the end of an episode.
        samples: The split's samples, in file order.
        counters: Event counts so far.

    Raises:
        TaskError: The split is empty.
        RewardError: A transform does not fit the task.
    """

    def __init__(
        self,
        task: Task,
        codec: TextCodec,
        *,
        split: Split = "train",
        seed: int = 0,
        transforms: Sequence[RewardTransform] = (),
    ) -> None:
        completion = task.spec.completion
        self.task = task
        self.codec = codec
        self.split: Split = split
        self.rules = EpisodeRules(
            vocabulary=codec.vocabulary,
            max_tokens=completion.max_tokens,
            min_tokens=completion.min_tokens,
        )
        self.samples: Sequence[Sample] = task.samples(split)
        if not self.samples:
            raise TaskError(f"task '{task.name}': the split '{split}' has no rows")
        self.transforms = tuple(transforms)
        for transform in self.transforms:
            transform.check(self.samples, completion.max_tokens)
        self.counters = Counters()
        self._rows = {sample.id: sample for sample in self.samples}
        self._reward: RewardFunction | None = None
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restarts the order of prompts with another seed."""
        self._seed, self._epoch, self._position = seed, 0, 0
        self._order = self._epoch_order()

    def sample_prompts(self, n_prompts: int, group_size: int = 1) -> Prompts:
        """Draws the next prompts and encodes them.

        Args:
            n_prompts: Number of prompts.
            group_size: Completions per prompt; their rows are adjacent and share a group id.

        Returns:
            `n_prompts * group_size` rows, padded to the longest, with group ids 0 to
            `n_prompts - 1`.
        """
        if n_prompts < 1 or group_size < 1:
            raise ValueError(f"n_prompts ({n_prompts}) and group_size ({group_size}) must be >= 1")
        drawn = [self.draw() for _ in range(n_prompts)]
        samples = [sample for sample in drawn for _ in range(group_size)]
        return self.codec.prompts(samples, np.repeat(np.arange(n_prompts), group_size).tolist())

    def draw(self) -> Sample:
        """Draws the next sample."""
        if self._position == len(self._order):
            self._epoch, self._position = self._epoch + 1, 0
            self._order = self._epoch_order()
        self._position += 1
        return self.samples[int(self._order[self._position - 1])]

    def sample(self, sample_id: str) -> Sample:
        """Returns a sample of the split by its id.

        Raises:
            ValueError: Unknown id; the message names the nearest one.
        """
        if sample_id not in self._rows:
            raise ValueError(
                f"no sample '{sample_id}' in the split '{self.split}' of task "
                f"'{self.task.name}'{nearest(sample_id, self._rows)}"
            )
        return self._rows[sample_id]

    def sample_at(self, index: int) -> Sample:
        """Returns the sample in row `index` of the split.

        Raises:
            ValueError: The split has fewer rows.
        """
        if not 0 <= index < len(self.samples):
            raise ValueError(
                f"no row {index} in the split '{self.split}' of task '{self.task.name}' (allowed: 0 to "
                f"{len(self.samples) - 1})"
            )
        return self.samples[index]

    def samples_of(self, prompts: Prompts) -> list[Sample]:
        """Returns the `B` samples of encoded prompts."""
        return [self.sample(name) for name in prompts.sample_ids]

    def completions(self, ids: IntegerArray) -> Completions:
        """Applies the rules to completion ids `(B, T)`; tokens after EOS become padding.

        Log-probabilities are unknown here and set to 0.

        Raises:
            ValueError: Wrong width, or an unknown token id.
        """
        ends = self.rules.ends_of(ids)
        return Completions(
            ids=torch.from_numpy(np.where(ends.mask, ids, self.codec.pad_id).astype(np.int64)),
            mask=torch.from_numpy(ends.mask),
            logprobs=torch.zeros(ids.shape, dtype=torch.float32),
            terminated=torch.from_numpy(ends.terminated),
            truncated=torch.from_numpy(ends.truncated),
        )

    def outcome(self, prompts: Prompts, completions: Completions) -> Outcome:
        """Scores the completions of `B` prompts; see `score`."""
        return self.score(self.samples_of(prompts), completions)

    def score(self, samples: Sequence[Sample], completions: Completions) -> Outcome:
        """Scores `B` finished episodes with one decoding step and one reward call.

        Raises:
            RewardError: A reward is not finite or has the wrong shape.
            ValueError: An episode has no token, or is not exactly one of terminated and truncated.
        """
        _check_ends(completions)
        # Decoded here once, never encoded again: `encode(decode(ids))` may differ from `ids`.
        batch = RewardBatch(
            samples=samples,
            completions=self.codec.decode(completions.ids, completions.mask),
            lengths=completions.lengths.cpu().numpy(),
            terminated=completions.terminated.cpu().numpy(),
        )
        reward = self._prepared_reward()
        output = call_reward(reward, batch)
        outcome = Outcome(
            texts=tuple(batch.completions),
            scores=_float32(output.scores),
            components={name: _float32(part) for name, part in output.components.items()},
            token_rewards=_token_rewards(reward.name, output, completions.mask.cpu()),
            info=output.info,
        )
        self._count(batch)
        self.counters.control_tokens += self.codec.count_control(completions.ids, completions.mask)
        return outcome

    def training_scores(
        self,
        batch: Episodes,
        *,
        token_rewards: bool = False,
        further: Sequence[RewardTransform] = (),
    ) -> tuple[Tensor, dict[str, float]]:
        """Applies the reward transforms to the scores of one iteration's episodes.

        Args:
            batch: All `B` episodes that training will learn from, so that statistics are over them.
            token_rewards: Whether the reward also gives token rewards.
            further: Transforms of the algorithm itself, after the declared ones.

        Returns:
            Scores `(B,)`, those of the batch without any transform, and the mean over the batch
            after each transform by its name.

        Raises:
            RewardError: A transform does not fit the batch or the token rewards.
        """
        transforms = [*self.transforms, *further]
        if not transforms:
            return batch.scores, {}
        transformed = transform_scores(
            transforms,
            batch.scores.double().cpu().numpy(),
            TransformBatch(
                samples=[self.sample(name) for name in batch.sample_ids],
                group_ids=batch.group_ids.cpu().numpy(),
                lengths=batch.lengths.cpu().numpy(),
                terminated=batch.terminated.cpu().numpy(),
                max_tokens=self.rules.max_tokens,
            ),
            token_rewards=token_rewards,
        )
        return torch.from_numpy(transformed.scores).to(batch.scores), transformed.means

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a checkpoint needs to continue with the same prompts."""
        return {
            "split": self.split,
            "n_samples": len(self.samples),
            "seed": self._seed,
            "epoch": self._epoch,
            "position": self._position,
            "counters": dataclasses.asdict(self.counters),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from a state returned by `state_dict`.

        Raises:
            RecordError: The state belongs to another split or to other data.
        """
        here, there = (self.split, len(self.samples)), (state["split"], state["n_samples"])
        if here != there:
            raise RecordError(
                f"the checkpoint has {there[1]} samples of '{there[0]}', but task '{self.task.name}' "
                f"has {here[1]} of '{here[0]}'; resume with the data that the run started with"
            )
        self._seed, self._epoch, self._position = state["seed"], state["epoch"], state["position"]
        self._order = self._epoch_order()
        self.counters = Counters(**state["counters"])

    def __getstate__(self) -> dict[str, Any]:
        # Rewards may hold models and open files: a copy in another process builds its own.
        return self.__dict__ | {"_reward": None}

    def _epoch_order(self) -> IntegerArray:
        # A stream of its own for each split and epoch: no other draw can shift the order.
        rng = generator(self._seed, "prompts", self.split, self._epoch)
        return rng.permutation(len(self.samples))

    def _prepared_reward(self) -> RewardFunction:
        if self._reward is None:
            reward = self.task.reward()
            # Caches the references of the whole split, so it waits until something is scored.
            reward.prepare(self.samples)
            self._reward = reward
        return self._reward

    def _count(self, batch: RewardBatch) -> None:
        n_terminated = int(batch.terminated.sum())
        self.counters.episodes += len(batch)
        self.counters.tokens += int(batch.lengths.sum())
        self.counters.terminated += n_terminated
        self.counters.truncated += len(batch) - n_terminated
        early = batch.terminated & (batch.lengths <= self.rules.min_tokens)
        self.counters.early_eos += int(early.sum())


def _float32(values: NDArray[np.float64]) -> Tensor:
    # The one rounding: training, evaluation and records all see these values.
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _check_ends(completions: Completions) -> None:
    once = completions.terminated ^ completions.truncated
    if not bool(once.all()):
        row = int((~once).nonzero()[0])
        raise ValueError(f"row {row} must be either terminated or truncated")
    if not bool(completions.mask.any(dim=1).all()):
        raise ValueError("an episode has no token; an empty completion still has its EOS")


def _token_rewards(name: str, output: RewardOutput, mask: Tensor) -> Tensor | None:
    """Pads token rewards to the width of the completions; rejects rewards after the end."""
    if output.token_rewards is None:
        return None
    given = _float32(output.token_rewards)
    n_rows, n_columns = mask.shape
    if given.ndim != 2 or given.shape[0] != n_rows:
        raise RewardError(
            f"reward '{name}' gave token rewards of shape {tuple(given.shape)}, "
            f"expected ({n_rows}, T)"
        )
    # A reward sees texts and lengths, not the batch's width: it may give fewer or more columns.
    width = min(n_columns, given.shape[1])
    wide = torch.zeros(mask.shape, dtype=torch.float32)
    wide[:, :width] = given[:, :width]
    if not bool(given.isfinite().all()) or bool(wide[~mask].any()) or bool(given[:, width:].any()):
        raise RewardError(
            f"reward '{name}' gave token rewards that are not finite, or not 0 after the end of a "
            "completion"
        )
    return wide
