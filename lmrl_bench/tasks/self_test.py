"""The gold self-test, and the canaries: does the reference score as a reference should?

A task whose reward prefers an empty answer, a copy of the prompt or one repeated word to the
reference teaches just that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from lmrl_bench.metrics.base import Metric
from lmrl_bench.rewards.base import FloatArray, RewardBatch
from lmrl_bench.seeding import generator
from lmrl_bench.text.sample import Sample

if TYPE_CHECKING:
    from lmrl_bench.tasks.task import Task

ROWS: Final = 32
"""Rows of the validation split that are looked at."""

OVERLAP: Final = ("bleu", "chrf", "ter", "rouge-1", "rouge-2", "rouge-l", "meteor-exact-stem")
"""Metrics under which a reference has the best value there is."""

_WORDS: Final = 256
"""Words of the references that are tried as the answer; the most frequent ones."""

_PROBES: Final = 4
"""Rows on which each of them is tried; the best of them, `_FINALISTS`, then on all."""

_FINALISTS: Final = 16

_GAP_CLOSED: Final = (
    0.98  # METEOR's fragmentation penalty keeps even the reference a little below 1
)


@dataclass(frozen=True)
class GoldValue:
    """A metric's value of references in their place, of others' references, and its best value."""

    gold: float
    shuffled: float
    best: float

    @property
    def at_ceiling(self) -> bool:
        """Whether gold closes (nearly) the whole gap between shuffled and best."""
        gap = abs(self.best - self.shuffled)
        return gap > 0 and abs(self.best - self.gold) <= (1 - _GAP_CLOSED) * gap


@dataclass(frozen=True)
class SelfTest:
    """Result of the gold self-test.

    Attributes:
        gold_reward: mean reward of the references (of the rows that `supervised.where` asks for).
        shuffled_reward: mean reward of references of other rows.
        metrics: gold, shuffled and best value of every overlap metric of the task.
    """

    gold_reward: float
    shuffled_reward: float
    metrics: dict[str, GoldValue]

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words; empty if the task passes."""
        found = [
            f"{name}: the reference scores {value.gold:.4g}, the best value is {value.best:.4g} "
            f"(references of other rows: {value.shuffled:.4g})"
            for name, value in self.metrics.items()
            if not value.at_ceiling
        ]
        if self.gold_reward <= self.shuffled_reward:
            found.append(
                f"reward: the reference gets {self.gold_reward:.4g} on average, "
                f"references of other rows get {self.shuffled_reward:.4g}"
            )
        return found


def self_test(task: Task, rows: int = ROWS) -> SelfTest:
    """Scores the references of the first validation rows with overlap metrics and the reward.

    Raises:
        LmrlBenchError: The task's data, reward or metrics are unusable.
    """
    samples = task.matching("validation")[:rows]
    gold = [sample.references[0] for sample in samples]
    shuffled = shuffled_references(samples, task.samples("validation"))
    metrics = {
        component.key: _gold_value(task.metric(component.key), samples, gold, shuffled)
        for component in task.spec.metrics.all()
        if component.name in OVERLAP
    }
    return SelfTest(
        gold_reward=float(rewards(task, samples, gold).mean()),
        shuffled_reward=float(rewards(task, samples, shuffled).mean()),
        metrics=metrics,
    )


def canaries(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Returns `(B,)` degenerate responses by name: what a policy may find instead of an answer."""
    return {
        "empty reply": ["" for _ in samples],
        "copied prompt": [sample.prompt for sample in samples],
        "one word repeated": [
            only(sample.references[0].split()[0], sample.references[0]) for sample in samples
        ],
    }


def best_paid_word(task: Task, samples: Sequence[Sample]) -> str | None:
    """Returns the word of the references that pays most when an answer is nothing else.

    It finds what a policy finds: that "excellent", 25 times, is a positive film review to a classifier. None if the
    references hold no word of letters.
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
    """Whether the reward of an answer changes with the references that it is compared with.

    If not, the task is open-ended: many answers are good, and nothing ties the reward to one of them.
    """
    gold = [sample.references[0] for sample in samples]
    foreign = shuffled_references(samples, task.samples("validation"))
    exchanged = [
        replace(sample, references=(text,)) for sample, text in zip(samples, foreign, strict=True)
    ]
    return not np.allclose(rewards(task, samples, gold), rewards(task, exchanged, gold))


def rewards(task: Task, samples: Sequence[Sample], responses: Sequence[str]) -> FloatArray:
    """Returns rewards `(B,)` of responses that end with EOS; their lengths are words plus one."""
    batch = RewardBatch(
        samples=samples,
        responses=responses,
        lengths=np.array([len(text.split()) + 1 for text in responses], dtype=np.int64),
        terminated=np.ones(len(responses), dtype=np.bool_),
    )
    return task.reward()(batch).scores


def shuffled_references(samples: Sequence[Sample], pool: Sequence[Sample]) -> list[str]:
    """Returns for each sample a reference of another row of `pool`; the same draw every time."""
    random = generator(0, "shuffled references")
    texts = sorted({sample.references[0] for sample in pool})
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
        gold=metric.score(gold, samples).value,
        shuffled=metric.score(shuffled, samples).value,
        best=high if metric.higher_is_better else low,
    )


def only(word: str, text: str) -> str:
    """Returns the word as often as the text has words."""
    return " ".join([word] * len(text.split()))
