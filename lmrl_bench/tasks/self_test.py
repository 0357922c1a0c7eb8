"""Gold self-test and canaries: checks that references score as references should.

A task whose reward prefers an empty answer, a copy of the prompt or one repeated word to the
reference teaches exactly that.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from lmrl_bench.core.seeding import generator
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics.base import FloatArray, Metric
from lmrl_bench.metrics.scoring import score
from lmrl_bench.rewards.base import RewardBatch, RewardOutput
from lmrl_bench.rewards.calling import call_reward

if TYPE_CHECKING:
    from lmrl_bench.tasks.task import Task

ROWS: Final = 32
"""Number of validation rows that are checked."""

OVERLAP: Final = (
    "bleu", "chrf", "ter", "rouge-1", "rouge-2", "rouge-l", "meteor-exact-stem",
    "accuracy", "exact-match", "f1", "numeric-match",
)  # fmt: skip
"""Metrics under which a reference reaches the best possible value."""

_WORDS: Final = 256
"""Number of words tried as repeated answers: the most frequent ones in the references."""

_PROBES: Final = 4
"""Rows for the first trial of each word; the best `_FINALISTS` are then tried on all rows."""

_FINALISTS: Final = 16

_GAP_CLOSED: Final = 0.98  # METEOR's fragmentation penalty keeps even references a little below 1


@dataclass(frozen=True)
class GoldValue:
    """Value of a metric for the right references, for those of other rows, and its best value."""

    gold: float
    shuffled: float
    best: float

    @property
    def at_ceiling(self) -> bool:
        """Whether gold (nearly) closes the gap between shuffled and best."""
        gap = abs(self.best - self.shuffled)
        return abs(self.best - self.gold) <= (1 - _GAP_CLOSED) * gap + 1e-9

    @property
    def tells_nothing(self) -> bool:
        """Whether the right references score below the best value and no better than others."""
        return not self.at_ceiling and abs(self.best - self.gold) >= abs(self.best - self.shuffled)


@dataclass(frozen=True)
class SelfTest:
    """Result of the gold self-test.

    Attributes:
        rows: Number of rows with a reference that were checked (among those in `sft.filter`).
        gold_reward: Mean reward of their references; NaN without any.
        shuffled_reward: Mean reward of other rows' references.
        tells_rows_apart: Whether the reward could prefer the right reference: it reads more than
            the answer, and the references differ.
        metrics: Gold, shuffled and best value of every overlap metric of the task.
    """

    rows: int
    gold_reward: float
    shuffled_reward: float
    tells_rows_apart: bool
    metrics: dict[str, GoldValue]

    @property
    def blind_metrics(self) -> list[str]:
        """Overlap metrics that cannot distinguish references, such as ROUGE on Chinese text."""
        return [name for name, value in self.metrics.items() if value.tells_nothing]

    @property
    def problems(self) -> list[str]:
        """Messages for everything that is wrong; empty if the task passes."""
        found = [
            f"{name}: the reference scores {value.gold:.4g}, the best value is {value.best:.4g} "
            f"(references of other rows: {value.shuffled:.4g})"
            for name, value in self.metrics.items()
            if not value.at_ceiling
        ]
        if self.tells_rows_apart and self.gold_reward <= self.shuffled_reward:
            found.append(self.reward_problem)
        return found

    @property
    def reward_problem(self) -> str:
        """Message saying that other rows' references earn as much."""
        return (
            f"reward: the reference gets {self.gold_reward:.4g} on average, "
            f"references of other rows get {self.shuffled_reward:.4g}"
        )


def self_test(task: Task, rows: int = ROWS) -> SelfTest:
    """Scores the references of the first validation rows with overlap metrics and the reward.

    Raises:
        LmrlBenchError: The task's data, reward or metrics are unusable.
    """
    samples = with_references(task, rows)
    if not samples:
        return SelfTest(0, math.nan, math.nan, tells_rows_apart=False, metrics={})
    gold = [sample.references[0] for sample in samples]
    shuffled = shuffled_references(samples, task.samples("validation"))
    metrics = {
        component.key: _gold_value(task.metric(component.key), samples, gold, shuffled)
        for component in task.spec.metrics.all()
        if component.name in OVERLAP
    }
    return SelfTest(
        rows=len(samples),
        gold_reward=float(rewards(task, samples, gold).mean()),
        shuffled_reward=float(rewards(task, samples, shuffled).mean()),
        tells_rows_apart=not one_answer(samples) and reads_more_than_answers(task, samples, gold),
        metrics=metrics,
    )


def with_references(task: Task, rows: int = ROWS) -> tuple[Sample, ...]:
    """Returns the first validation rows that have a reference and match `sft.filter`."""
    return tuple(sample for sample in task.matching("validation") if sample.references)[:rows]


def one_answer(samples: Sequence[Sample]) -> bool:
    """Returns whether all rows share their first reference, so that nothing distinguishes them."""
    return len({plain(sample.references[0]) for sample in samples}) <= 1


def plain(text: str) -> str:
    """Returns a text without case, punctuation and spacing, unless it consists only of symbols."""
    return " ".join(re.findall(r"\w+", text.casefold())) or " ".join(text.split())


def reads_more_than_answers(task: Task, samples: Sequence[Sample], answers: Sequence[str]) -> bool:
    """Returns whether the same answers earn different rewards for other prompts.

    If not, the reward depends only on the answer, like a check of its form.
    """
    others = [*samples[1:], samples[0]]
    return not np.allclose(rewards(task, samples, answers), rewards(task, others, answers))


def canaries(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Returns degenerate answers by name, `(B,)` each: what a policy may find instead of an answer.

    One that equals a reference of its row is a good answer; see `degenerate`.
    """
    found = {"empty reply": ["" for _ in samples], "copied prompt": [s.prompt for s in samples]}
    if all(sample.references for sample in samples):
        found["one word repeated"] = [
            only(sample.references[0].split()[0], sample.references[0]) for sample in samples
        ]
    return found


def degenerate(samples: Sequence[Sample], answers: Sequence[str]) -> list[int]:
    """Returns the positions whose answer equals none of their references."""
    return [
        row
        for row, (sample, answer) in enumerate(zip(samples, answers, strict=True))
        if plain(answer) not in {plain(text) for text in sample.references}
    ]


def best_paid_word(task: Task, samples: Sequence[Sample]) -> str | None:
    """Returns the word of the references that earns most as a repeated answer.

    It finds what a policy would find: to a classifier, 25 times "excellent" is a positive film
    review. Returns None if the references contain no alphabetic word.
    """
    counts = Counter(
        word for sample in samples for word in sample.references[0].split() if word.isalpha()
    )
    words = [word for word, _ in counts.most_common(_WORDS)]
    if not words:
        return None
    for rows, kept in ((samples[:_PROBES], _FINALISTS), (samples, 1)):
        answers = [only(word, sample.references[0]) for word in words for sample in rows]
        paid = rewards(task, [*rows] * len(words), answers).reshape(len(words), -1).mean(axis=1)
        words = [words[index] for index in np.argsort(-paid, kind="stable")[:kept]]
    return words[0]


def reads_references(task: Task, samples: Sequence[Sample]) -> bool:
    """Returns whether an answer's reward changes with the references it is compared with.

    If not, the task is open-ended: many answers are good, and the reward is not tied to any of
    them.
    """
    gold = [sample.references[0] for sample in samples]
    foreign = shuffled_references(samples, task.samples("validation"))
    exchanged = [
        replace(sample, references=(text,)) for sample, text in zip(samples, foreign, strict=True)
    ]
    return not np.allclose(rewards(task, samples, gold), rewards(task, exchanged, gold))


def rewards(task: Task, samples: Sequence[Sample], completions: Sequence[str]) -> FloatArray:
    """Returns rewards `(B,)` of completions that end with EOS; lengths are words plus one."""
    return scored(task, samples, completions).scores


def scored(task: Task, samples: Sequence[Sample], completions: Sequence[str]) -> RewardOutput:
    """Returns the reward's full output for completions that end with EOS; see `rewards`."""
    batch = RewardBatch(
        samples=samples,
        completions=completions,
        lengths=np.array([len(text.split()) + 1 for text in completions], dtype=np.int64),
        terminated=np.ones(len(completions), dtype=np.bool_),
    )
    return call_reward(task.reward(), batch)


def shuffled_references(samples: Sequence[Sample], pool: Sequence[Sample]) -> list[str]:
    """Returns for each sample a reference of another row of `pool`, always the same draw."""
    random = generator(0, "shuffled references")
    texts = sorted({sample.references[0] for sample in pool if sample.references})
    drawn = []
    for sample in samples:
        others = [text for text in texts if text not in sample.references] or texts
        drawn.append(others[int(random.integers(len(others)))])
    return drawn


def _gold_value(
    metric: Metric, samples: Sequence[Sample], gold: Sequence[str], shuffled: Sequence[str]
) -> GoldValue:
    low, high = metric.bounds
    return GoldValue(
        gold=score(metric, gold, samples).value,
        shuffled=score(metric, shuffled, samples).value,
        best=high if metric.higher_is_better else low,
    )


def only(word: str, text: str) -> str:
    """Returns the word repeated as often as the text has words."""
    return " ".join([word] * len(text.split()))
