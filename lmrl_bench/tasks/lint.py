"""`lmrl-bench task lint`: what can be checked about a task before anybody trains on it.

Each check is a function that yields findings. Layers above (environments, policies) bring their
checks as `extra_checks` and the tokenizer as `count_tokens`, because imports only go down.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from lmrl_bench.errors import LmrlBenchError
from lmrl_bench.tasks.self_test import (
    ROWS,
    best_paid_word,
    canaries,
    only,
    reads_references,
    rewards,
    self_test,
)
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.task import Task
from lmrl_bench.text.sample import Sample

TokenCounter = Callable[[Sequence[str]], Sequence[int]]
"""Texts to their numbers of tokens, special tokens included."""

_TRUNCATED_SHARE = (
    0.25  # of the prompts; more than that is a wrong limit rather than a few long rows
)
_TOO_LONG_SHARE = 0.10  # of the references


@dataclass(frozen=True)
class Finding:
    """One thing that lint found.

    Attributes:
        severity: an error must be mended; a warning must be known.
        place: file, split or part of the task.
        message: what is wrong, with numbers.
        remedy: what to do.
    """

    severity: Literal["error", "warning"]
    place: str
    message: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """The finding as plain data, for JSON and tables."""
        return asdict(self)


Check = Callable[[Task], Iterable[Finding]]


def lint(
    task: Task, count_tokens: TokenCounter | None = None, extra_checks: Sequence[Check] = ()
) -> list[Finding]:
    """Runs all checks; a check that cannot run is itself a finding.

    Args:
        task: The task; its `task.yaml` has been validated by opening it.
        count_tokens: Counts with the tokenizer of the task's default policy; without it, lengths
            are not checked, which is itself a finding.
        extra_checks: Checks of higher layers.

    Returns:
        Findings, errors first.
    """
    checks: list[Check] = [_digests, _rows, _leaks, _lengths(count_tokens), _gold, _reward]
    findings: list[Finding] = []
    for check in [*checks, *extra_checks]:
        try:
            findings += check(task)
        except LmrlBenchError as error:
            findings.append(
                Finding("error", str(task.folder), str(error), "mend this, then lint again")
            )
    unique = list(dict.fromkeys(findings))
    return sorted(unique, key=lambda finding: finding.severity)


def _digests(task: Task) -> Iterator[Finding]:
    """Every file has its sha256 and its number of rows; reading checks them."""
    for split in SPLITS:
        file = task.spec.data.file(split)
        place = f"{task.folder / 'task.yaml'}: data.{split}"
        if file.path is not None and file.sha256 is None:
            yield Finding(
                "error",
                place,
                "no sha256: a changed file would go unnoticed",
                f"add `sha256: {task.data_info()[split]['sha256']}`",
            )
        if file.rows is None:
            rows = len(task.samples(split))
            yield Finding("warning", place, "no number of rows", f"add `rows: {rows}`")


def _rows(task: Task) -> Iterator[Finding]:
    """All rows can be read; reading finds empty references, repeated ids, wrong row numbers."""
    for split in SPLITS:
        samples = task.samples(split)
        if len(samples) < ROWS:
            yield Finding(
                "warning",
                f"split '{split}'",
                f"only {len(samples)} rows",
                "differences between algorithms drown in noise; add data",
            )
    task.supervised_samples()


def _leaks(task: Task) -> Iterator[Finding]:
    """No prompt of an evaluation split is a training prompt."""
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


def _lengths(count_tokens: TokenCounter | None) -> Check:
    def check(task: Task) -> Iterator[Finding]:
        """Prompts and references fit the limits, counted in the default policy's tokens."""
        if count_tokens is None:
            yield Finding(
                "warning",
                "lengths",
                "not checked: no tokenizer was given",
                f"lint with the tokenizer of '{task.spec.policies.default}'",
            )
            return
        for split in SPLITS:
            yield from _prompt_lengths(task, split, count_tokens)
            yield from _reference_lengths(task, split, count_tokens)

    return check


def _prompt_lengths(task: Task, split: Split, count_tokens: TokenCounter) -> Iterator[Finding]:
    limit, mode = task.spec.prompt.max_tokens, task.spec.prompt.truncate
    samples = task.samples(split)
    share, longest = _share_above(limit, [sample.prompt for sample in samples], count_tokens)
    if share == 0 or (mode != "error" and share <= _TRUNCATED_SHARE):
        return
    yield Finding(
        "error" if mode == "error" else "warning",
        f"prompts of '{split}'",
        f"{share:.1%} are longer than prompt.max_tokens {limit} (longest: {longest} tokens)",
        "raise prompt.max_tokens, or set prompt.truncate to left or right"
        if mode == "error"
        else f"their {mode} end is cut off; raise prompt.max_tokens if what is cut matters",
    )


def _reference_lengths(task: Task, split: Split, count_tokens: TokenCounter) -> Iterator[Finding]:
    limit = task.spec.response.max_tokens
    samples = task.samples(split)
    texts = [reference for sample in samples for reference in sample.references]
    share, longest = _share_above(limit, texts, count_tokens)
    if share > _TOO_LONG_SHARE:
        yield Finding(
            "warning",
            f"references of '{split}'",
            f"{share:.1%} are longer than response.max_tokens {limit} (longest: {longest} "
            "tokens): no response can equal them",
            "raise response.max_tokens, or drop the long rows",
        )


def _share_above(limit: int, texts: Sequence[str], count_tokens: TokenCounter) -> tuple[float, int]:
    lengths = np.asarray(count_tokens(texts))
    return float((lengths > limit).mean()), int(lengths.max())


def _gold(task: Task) -> Iterator[Finding]:
    """The reference is at the ceiling of overlap metrics and above other references in reward."""
    for problem in self_test(task).problems:
        yield Finding(
            "error",
            "gold self-test",
            problem,
            "check that references belong to their prompts and that the reward measures the task",
        )


def _reward(task: Task) -> Iterator[Finding]:
    """Rewards repeat, ignore batch mates, and rank the reference above degenerate answers."""
    samples = task.matching("validation")[:ROWS]
    gold = [sample.references[0] for sample in samples]
    together = rewards(task, samples, gold)
    if not np.array_equal(together, rewards(task, samples, gold)):
        yield Finding(
            "error",
            "reward",
            "two calls on the same batch differ",
            "take randomness (dropout, sampling) out of the reward",
        )
    alone = np.concatenate(
        [rewards(task, [sample], [text]) for sample, text in zip(samples, gold, strict=True)]
    )
    if not np.allclose(together, alone, rtol=1e-4, atol=1e-5):
        worst = float(np.abs(together - alone).max())
        yield Finding(
            "error",
            "reward",
            f"a row's reward depends on its batch mates (largest difference {worst:.3g})",
            "score each row by itself; no batch statistics in a reward",
        )
    yield from _canaries(task, samples, float(together.mean()))


def _canaries(task: Task, samples: Sequence[Sample], gold: float) -> Iterator[Finding]:
    """No degenerate answer is paid as much as the references are, on average."""
    for name, responses in canaries(samples).items():
        value = float(rewards(task, samples, responses).mean())
        if value >= gold:
            yield Finding(
                "error",
                "reward canary",
                f"{name} gets {value:.4g} on average, the reference {gold:.4g}",
                "a policy will learn that answer; change the reward or add a penalty",
            )
    yield from _best_paid_word(task, samples, gold)


def _best_paid_word(task: Task, samples: Sequence[Sample], gold: float) -> Iterator[Finding]:
    """The worst of the repeated words: an error where the reward knows the references, else a fact to be known."""
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
        f"{message}; the reward reads no reference, so it cannot tell",
        f"keep the KL charge on, and read the reward beside the held-out metrics ({held_out})",
    )
