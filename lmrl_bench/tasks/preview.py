"""Previews a task: prompts and references with the rewards of good, empty and wrong answers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lmrl_bench.core.strict_json import Fact
from lmrl_bench.tasks.self_test import rewards, scored, shuffled_references
from lmrl_bench.tasks.spec import Split

if TYPE_CHECKING:
    from lmrl_bench.tasks.lint import PromptCounter, TokenCounter
    from lmrl_bench.tasks.task import Task

_LABEL = 13  # columns of "  prompt     "


@dataclass(frozen=True)
class PreviewRow:
    """One sample with three rewards.

    Attributes:
        id: Identifier of the sample.
        prompt: What the policy reads, before truncation.
        prompt_tokens: Length in tokens of the default policy; None without a tokenizer.
        prompt_limit: `prompt.max_tokens`; longer prompts are truncated or rejected.
        truncate: What happens to longer prompts: `error`, `left` or `right`.
        references: Reference texts; may be empty.
        reference_tokens: Length of each reference in tokens.
        completion_limit: `completion.max_tokens`.
        gold_reward: Reward of the first reference; None without one.
        empty_reward: Reward of an empty completion.
        shuffled: Reference of another row; None if no row has one.
        shuffled_reward: Reward of `shuffled`.
        gold_info: Info of the reward for the first reference, by name.
    """

    id: str
    prompt: str
    prompt_tokens: int | None
    prompt_limit: int
    truncate: str
    references: tuple[str, ...]
    reference_tokens: tuple[int, ...] | None
    completion_limit: int
    gold_reward: float | None
    empty_reward: float
    shuffled: str | None
    shuffled_reward: float | None
    gold_info: dict[str, Fact] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the row as plain data, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Returns the row as text; continuation lines are indented."""
        lines = [f"[{self.id}]", _block("prompt", self.prompt + self._prompt_mark())]
        tokens = self.reference_tokens or (None,) * len(self.references)
        for reference, count in zip(self.references, tokens, strict=True):
            lines.append(
                _block("reference", reference + _mark(count, self.completion_limit, "cut"))
            )
        if not self.references:
            lines.append(_block("reference", "none"))
        paid = [] if self.gold_reward is None else [f"{self.gold_reward:.4g} for the reference"]
        paid.append(f"{self.empty_reward:.4g} for an empty answer")
        if self.shuffled is not None:
            paid.append(f"{self.shuffled_reward:.4g} for: {self.shuffled}")
        lines.append(_block("reward", ", ".join(paid)))
        if self.gold_info:
            said = [f"{name} {value}" for name, value in self.gold_info.items()]
            lines.append(_block("info", ", ".join(said)))
        return "\n".join(lines)

    def _prompt_mark(self) -> str:
        fate = "rejected" if self.truncate == "error" else f"its {self.truncate} end is truncated"
        return _mark(self.prompt_tokens, self.prompt_limit, fate)


def preview(
    task: Task,
    rows: int = 5,
    split: Split = "train",
    count_tokens: TokenCounter | None = None,
    count_prompts: PromptCounter | None = None,
) -> list[PreviewRow]:
    """Returns the first rows of a split with rewards of the reference and of two wrong answers.

    Args:
        task: The task.
        rows: Number of rows.
        split: The split.
        count_tokens: Token counter of the task's default policy.
        count_prompts: Token counter for whole prompts; by default `count_tokens` on their texts.

    Raises:
        LmrlBenchError: The task's data or reward are unusable.
    """
    samples = task.samples(split)[:rows]
    empty = rewards(task, samples, [""] * len(samples)).tolist()
    shuffled: Sequence[str | None] = [None] * len(samples)
    if any(sample.references for sample in task.samples(split)):
        shuffled = shuffled_references(samples, task.samples(split))
    shuffled_rewards = rewards(task, samples, [text or "" for text in shuffled]).tolist()
    gold = [sample.references[0] if sample.references else "" for sample in samples]
    gold_output = scored(task, samples, gold)
    gold_rewards = gold_output.scores.tolist()
    prompt_tokens = None
    if count_prompts is not None:
        prompt_tokens = count_prompts(samples)
    elif count_tokens is not None:
        prompt_tokens = count_tokens([sample.prompt for sample in samples])
    return [
        PreviewRow(
            id=sample.id,
            prompt=sample.prompt,
            prompt_tokens=int(prompt_tokens[row]) if prompt_tokens else None,
            prompt_limit=task.spec.prompt.max_tokens,
            truncate=task.spec.prompt.truncate,
            references=sample.references,
            reference_tokens=_counts(sample.references, count_tokens),
            completion_limit=task.spec.completion.max_tokens,
            gold_reward=gold_rewards[row] if sample.references else None,
            empty_reward=empty[row],
            shuffled=shuffled[row],
            shuffled_reward=None if shuffled[row] is None else shuffled_rewards[row],
            gold_info={name: facts[row] for name, facts in gold_output.info.items()}
            if sample.references
            else {},
        )
        for row, sample in enumerate(samples)
    ]


def _counts(texts: Sequence[str], count_tokens: TokenCounter | None) -> tuple[int, ...] | None:
    if count_tokens is None:
        return None
    return tuple(map(int, count_tokens(texts))) if texts else ()


def _mark(tokens: int | None, limit: int, fate: str) -> str:
    """Returns the token count in brackets, and what happens above the limit."""
    if tokens is None:
        return ""
    return f"  [{tokens} tokens{f', above {limit}: {fate}' if tokens > limit else ''}]"


def _block(label: str, text: str) -> str:
    first = f"  {label}".ljust(_LABEL)
    return first + textwrap.indent(text, " " * _LABEL, predicate=bool).removeprefix(" " * _LABEL)
