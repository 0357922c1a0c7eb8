"""`lmrl-bench task lint`: checks of a task before training.

Each check is a function that yields findings. Higher layers (environments, policies) pass their
checks as `extra_checks` and the tokenizer as `count_tokens`, because imports only go down.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.data.sample import Sample
from lmrl_bench.tasks.self_test import (
    ROWS,
    SelfTest,
    best_paid_word,
    canaries,
    degenerate,
    one_answer,
    only,
    reads_references,
    rewards,
    self_test,
    with_references,
)
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.task import Task

TokenCounter = Callable[[Sequence[str]], Sequence[int]]
"""Maps texts to token counts, including special tokens."""
PromptCounter = Callable[[Sequence[Sample]], Sequence[int]]
"""Maps samples to prompt token counts; chats are formatted with their chat template."""

# Above this share of prompts the limit is wrong, rather than a few rows long.
_TRUNCATED_SHARE = 0.25
_TOO_LONG_SHARE = 0.10  # of the references


@dataclass(frozen=True)
class Finding:
    """A problem found by lint.

    Attributes:
        severity: Errors must be fixed; warnings should be known.
        place: File, split or part of the task.
        message: What is wrong, with numbers.
        remedy: What to do.
    """

    severity: Literal["error", "warning"]
    place: str
    message: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """Returns the finding as plain data, for JSON and tables."""
        return asdict(self)

    def text(self, width: int) -> str:
        """Returns the finding as text, wrapped to `width` columns: place, message, remedy."""
        lines = [f"{self.severity:7}  {self.place}"]
        for start, words in (("         ", self.message), ("         -> ", self.remedy)):
            lines += textwrap.wrap(
                words,
                width,
                initial_indent=start,
                subsequent_indent=" " * len(start),
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join(lines)


Check = Callable[[Task], Iterable[Finding]]


def lint(
    task: Task,
    count_tokens: TokenCounter | None = None,
    extra_checks: Sequence[Check] = (),
    count_prompts: PromptCounter | None = None,
) -> list[Finding]:
    """Runs all checks; a check that fails to run becomes a finding itself.

    Args:
        task: The task; loading it has validated `task.yaml`.
        count_tokens: Token counter of the task's default policy. Without it lengths are not
            checked, which becomes a finding.
        extra_checks: Checks of higher layers.
        count_prompts: Token counter for whole prompts; by default `count_tokens` on their texts.

    Returns:
        Findings, errors first.
    """
    checks: list[Check] = [
        _digests,
        _rows,
        _leaks,
        _lengths(count_tokens, count_prompts),
        _reward,
        _gold,
    ]
    findings: list[Finding] = []
    for check in [*checks, *extra_checks]:
        try:
            findings += check(task)
        except LmrlBenchError as error:
            findings.append(
                Finding("error", str(task.folder), str(error), "fix this, then run lint again")
            )
    unique = list(dict.fromkeys(findings))
    return sorted(unique, key=lambda finding: finding.severity)


def _digests(task: Task) -> Iterator[Finding]:
    """Checks that every file declares its sha256 and row count; reading verifies them."""
    for split in SPLITS:
        file = task.spec.data.file(split)
        place = f"{task.folder / 'task.yaml'}: data.{split}"
        if file.path is not None and file.sha256 is None:
            yield Finding(
                "error",
                place,
                "no sha256: changes to the file would go unnoticed",
                f"add `sha256: {task.data_info()[split]['sha256']}`",
            )
        if file.rows is None:
            rows = len(task.samples(split))
            yield Finding("warning", place, "no row count", f"add `rows: {rows}`")


def _rows(task: Task) -> Iterator[Finding]:
    """Checks that all rows can be read: reading rejects empty references and repeated ids."""
    for split in SPLITS:
        samples = task.samples(split)
        if len(samples) < ROWS:
            yield Finding(
                "warning",
                f"split '{split}'",
                f"only {len(samples)} rows",
                "differences between algorithms will drown in noise; add data",
            )
    without = [sample.id for sample in task.matching("train") if not sample.references]
    if without:
        yield Finding(
            "warning",
            "split 'train'",
            f"{len(without)} rows have no reference, for example '{without[0]}': an SFT policy "
            "cannot be trained",
            "start every run from the base model (policy.init: base), or add references",
        )


def _leaks(task: Task) -> Iterator[Finding]:
    """Checks that prompts of evaluation splits are not training prompts."""
    for first, second in itertools.combinations(SPLITS, 2):
        prompts = {sample.prompt: sample for sample in task.samples(first)}
        shared = [sample for sample in task.samples(second) if sample.prompt in prompts]
        answers = [
            sample
            for sample in shared
            if set(sample.references) & set(prompts[sample.prompt].references)
        ]
        if shared:
            yield Finding(
                "error" if answers else "warning",
                f"splits '{first}' and '{second}'",
                f"{len(shared)} prompts of '{second}' are also in '{first}' ({len(answers)} with "
                "the same reference), "
                f"for example '{shared[0].id}'",
                "remove them from one split, and split by document rather than by row",
            )


def _lengths(count_tokens: TokenCounter | None, count_prompts: PromptCounter | None) -> Check:
    def check(task: Task) -> Iterator[Finding]:
        """Checks that prompts and references fit the limits, in tokens of the default policy."""
        if count_tokens is None:
            yield Finding(
                "warning",
                "lengths",
                "not checked: no tokenizer was given",
                f"lint with the tokenizer of '{task.spec.policy.default}'",
            )
            return
        for split in SPLITS:
            yield from _prompt_lengths(task, split, count_prompts or _by_text(count_tokens))
            yield from _reference_lengths(task, split, count_tokens)

    return check


def _by_text(count_tokens: TokenCounter) -> PromptCounter:
    return lambda samples: count_tokens([sample.prompt for sample in samples])


def _prompt_lengths(task: Task, split: Split, count_prompts: PromptCounter) -> Iterator[Finding]:
    limit, mode = task.spec.prompt.max_tokens, task.spec.prompt.truncate
    samples = task.samples(split)
    share, longest = _share_above(limit, count_prompts(samples))
    if share == 0 or (mode != "error" and share <= _TRUNCATED_SHARE):
        return
    yield Finding(
        "error" if mode == "error" else "warning",
        f"prompts of '{split}'",
        f"{share:.1%} are longer than prompt.max_tokens {limit} (longest: {longest} tokens)",
        "raise prompt.max_tokens, or shorten a message"
        if task.spec.prompt.messages
        else "raise prompt.max_tokens, or set prompt.truncate to left or right"
        if mode == "error"
        else f"the {mode} end is truncated; raise prompt.max_tokens if it matters",
    )


def _reference_lengths(task: Task, split: Split, count_tokens: TokenCounter) -> Iterator[Finding]:
    limit = task.spec.completion.max_tokens
    samples = task.samples(split)
    texts = [reference for sample in samples for reference in sample.references]
    if not texts:
        return
    share, longest = _share_above(limit, count_tokens(texts))
    if share > _TOO_LONG_SHARE:
        yield Finding(
            "warning",
            f"references of '{split}'",
            f"{share:.1%} are longer than completion.max_tokens {limit} (longest: {longest} "
            "tokens): no completion can equal them",
            "raise completion.max_tokens, or remove the long rows",
        )


def _share_above(limit: int, counts: Sequence[int]) -> tuple[float, int]:
    lengths = np.asarray(counts)
    return float((lengths > limit).mean()), int(lengths.max())


def _reward(task: Task) -> Iterator[Finding]:
    """Checks that rewards are deterministic and independent of the rest of the batch."""
    samples = task.matching("validation")[:ROWS]
    answers = [sample.references[0] if sample.references else sample.prompt for sample in samples]
    together = rewards(task, samples, answers)
    if not np.array_equal(together, rewards(task, samples, answers)):
        yield Finding(
            "error",
            "reward",
            "two calls on the same batch differ",
            "remove randomness (dropout, sampling) from the reward",
        )
    alone = np.concatenate(
        [rewards(task, [sample], [text]) for sample, text in zip(samples, answers, strict=True)]
    )
    if not np.allclose(together, alone, rtol=1e-4, atol=1e-5):
        worst = float(np.abs(together - alone).max())
        yield Finding(
            "error",
            "reward",
            f"a row's reward depends on the rest of its batch (largest difference {worst:.3g})",
            "score each row on its own; do not use batch statistics in a reward",
        )


def _gold(task: Task) -> Iterator[Finding]:
    """Checks that references reach the best metric values and earn more than degenerate answers."""
    result = self_test(task)
    if not result.rows:
        yield Finding(
            "warning",
            "gold self-test",
            "no row of 'validation' has a reference, so lint cannot tell whether good answers earn more",
            "inspect answers and their rewards with: lmrl-bench task preview",
        )
        return
    yield from _gold_metrics(task, result)
    samples = with_references(task)
    if one_answer(samples):
        yield Finding(
            "warning",
            "gold self-test",
            f"all {len(samples)} rows checked have the same reference, "
            f"'{samples[0].references[0]:.60}': a constant answer is always right",
            "add rows with other answers, or shuffle the validation split",
        )
    elif not set(result.blind_metrics) & {term.name for term in task.spec.reward.terms}:
        yield from _paid_as_much(task, samples, result)


def _gold_metrics(task: Task, result: SelfTest) -> Iterator[Finding]:
    """Yields overlap metrics that rate references below their best value; blind ones are errors."""
    for name, value in result.metrics.items():
        if value.at_ceiling:
            continue
        rewarded = name in {term.name for term in task.spec.reward.terms}
        also = "; neither can the reward" if rewarded else ""
        scores = (
            f"{name}: the reference scores {value.gold:.4g}, the best value is {value.best:.4g} "
            f"(references of other rows: {value.shuffled:.4g})"
        )
        if value.tells_nothing:
            yield Finding(
                "error",
                "gold self-test",
                f"{scores}: it cannot distinguish these references from others{also}",
                "choose a metric that reads them: rouge and meteor read only a-z and digits, bleu and "
                "rouge-2 need several words; chrf reads every script",
            )
        else:
            yield Finding(
                "warning",
                "gold self-test",
                f"{scores}: no answer can reach the best value",
                "usual for METEOR and BLEU on short references; compare values with the reference's, or "
                "choose another metric",
            )


def _paid_as_much(task: Task, samples: Sequence[Sample], result: SelfTest) -> Iterator[Finding]:
    """Yields one finding for everything that earns as much as the references on average."""
    paid = list(_canaries(task, samples))
    if result.tells_rows_apart and result.gold_reward <= result.shuffled_reward:
        yield Finding(
            "error",
            "gold self-test",
            "; ".join([result.reward_problem, *paid]),
            "check that references match their prompts and that the reward measures the task",
        )
    elif paid:
        yield Finding(
            "error",
            "reward canary",
            "; ".join(paid),
            "a policy will learn that answer; change the reward or add a penalty",
        )
    else:
        yield from _best_paid_word(task, samples, result.gold_reward)


def _canaries(task: Task, samples: Sequence[Sample]) -> Iterator[str]:
    """Yields degenerate answers that earn as much as the references, unless one is a reference."""
    for name, completions in canaries(samples).items():
        rows = degenerate(samples, completions)
        if not rows:
            continue
        chosen = [samples[row] for row in rows]
        gold = float(rewards(task, chosen, [sample.references[0] for sample in chosen]).mean())
        value = float(rewards(task, chosen, [completions[row] for row in rows]).mean())
        if value >= gold:
            yield f"{name} gets {value:.4g} on average, the reference {gold:.4g}"


def _best_paid_word(task: Task, samples: Sequence[Sample], gold: float) -> Iterator[Finding]:
    """Yields the best-paid repeated word; an error only if the reward reads references."""
    word = best_paid_word(task, samples)
    if word is None:
        return
    answers = [only(word, sample.references[0]) for sample in samples]
    value = float(rewards(task, samples, answers).mean())
    if value < gold:
        return
    message = f"'{word}', repeated, gets {value:.4g} on average, the reference {gold:.4g}"
    if reads_references(task, samples):
        remedy = "a policy will learn that answer; change the reward or add a penalty"
        yield Finding("error", "reward canary", message, remedy)
        return
    held_out = ", ".join(metric.key for metric in task.spec.metrics.held_out)
    yield Finding(
        "warning",
        "reward canary",
        f"{message}; the reward does not read references, so it cannot tell",
        f"keep the KL penalty on, and read the reward together with the held-out metrics ({held_out})",
    )
