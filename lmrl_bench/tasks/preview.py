"""What a task looks like: prompts, references, and rewards of good, empty and wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lmrl_bench.tasks.self_test import rewards, shuffled_references
from lmrl_bench.tasks.spec import Split

if TYPE_CHECKING:
    from lmrl_bench.tasks.task import Task


@dataclass(frozen=True)
class PreviewRow:
    """One sample and three rewards.

    Attributes:
        id: the sample's identifier.
        prompt: what the policy sees, before it is cut to the limit.
        references: good responses.
        gold_reward: reward of the first reference.
        empty_reward: reward of an empty response.
        shuffled: a reference of another row.
        shuffled_reward: its reward.
    """

    id: str
    prompt: str
    references: tuple[str, ...]
    gold_reward: float
    empty_reward: float
    shuffled: str
    shuffled_reward: float

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """The row for people, a few lines."""
        return "\n".join(
            [
                f"[{self.id}]",
                f"  prompt     {self.prompt}",
                *(f"  reference  {reference}" for reference in self.references),
                f"  reward     {self.gold_reward:.4g} for the reference, {self.empty_reward:.4g}"
                f" for an empty answer, {self.shuffled_reward:.4g} for: {self.shuffled}",
            ]
        )


def preview(task: Task, rows: int = 5, split: Split = "train") -> list[PreviewRow]:
    """Returns the first rows of a split with rewards of the reference and of two wrong answers.

    Raises:
        LmrlBenchError: The task's data or reward are unusable.
    """
    samples = task.samples(split)[:rows]
    shuffled = shuffled_references(samples, task.samples(split))
    gold_rewards, empty_rewards, shuffled_rewards = (
        rewards(task, samples, responses).tolist()
        for responses in _answers([sample.references[0] for sample in samples], shuffled)
    )
    return [
        PreviewRow(
            id=sample.id,
            prompt=sample.prompt,
            references=sample.references,
            gold_reward=gold_rewards[row],
            empty_reward=empty_rewards[row],
            shuffled=shuffled[row],
            shuffled_reward=shuffled_rewards[row],
        )
        for row, sample in enumerate(samples)
    ]


def _answers(gold: Sequence[str], shuffled: Sequence[str]) -> tuple[Sequence[str], ...]:
    return gold, [""] * len(gold), shuffled
