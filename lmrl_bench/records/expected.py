"""Expected content of a record for a run today: settings, task and initial policy, by content.

Used wherever a record can replace a run: by leaderboards, and by runs that find a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from lmrl_bench.core.digests import digest
from lmrl_bench.records.record import PolicyInfo, RunRecord, ScoreNormalization

ABSENT = "absent"


@dataclass(frozen=True)
class ExpectedInitialPolicy:
    """The initial policy that a run has today.

    None means that this machine cannot know: digests of a model that is not installed, or weights
    of an SFT policy that every machine trains itself.

    Attributes:
        weights: sha256 of the weights that the run starts from.
        tokenizer: sha256 of their tokenizer.
        base_weights: sha256 of the weights that the SFT policy was trained from; equals
            `weights` for a base model.
        recipe: sha256 of what determines an SFT policy: task, SFT configuration, and
            base model.
    """

    weights: str | None = None
    tokenizer: str | None = None
    base_weights: str | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class ExpectedRun:
    """Configuration, task and initial policy of a run as of today.

    Attributes:
        config: The scientific part of the configuration, resolved.
        task_version: The task's version.
        task_digest: The task's digest.
        start: The initial policy.
        score_normalization: The task's scale, or None. A record with another scale still counts, because
            leaderboards use this one.
        oracle: The reward picks the answers, and reads the references: nobody could use the method.
    """

    config: Mapping[str, Any]
    task_version: int
    task_digest: str
    initial_policy: ExpectedInitialPolicy
    score_normalization: ScoreNormalization | None = None
    oracle: bool = False

    @cached_property
    def config_digest(self) -> str:
        """Digest of `config`, the same for all seeds of a row."""
        return digest(self.config)


class Difference(NamedTuple):
    """A field in which a record differs from the expected one."""

    field: str
    found: Any
    expected: Any

    def __str__(self) -> str:
        return f"{self.field} is {_short(self.found)} in the record, {_short(self.expected)} today"


def differences(record: RunRecord, expected: ExpectedRun) -> list[Difference]:
    """Returns the fields in which a record differs from what is expected; empty for the same run.

    The configuration is compared field by field, so that differences have a name. The record of a
    run that failed before loading its policy has no initial policy to compare.
    """
    same = record.config == expected.config
    found = [
        *_task(record, expected),
        *([] if same else _config(record, expected.config)),
        *_algorithm(record),
        *(_start(record.policy, expected.initial_policy) if record.policy else ()),
    ]
    made = expected.config_digest if same else digest(record.config)
    if record.config_digest != made:
        found.append(Difference("config_digest", record.config_digest, made))
    return found


def _task(record: RunRecord, expected: ExpectedRun) -> Iterator[Difference]:
    if record.task.version != expected.task_version:
        yield Difference("task.version", record.task.version, expected.task_version)
    elif record.task.digest != expected.task_digest:
        yield Difference("task.digest", record.task.digest, expected.task_digest)


def _config(record: RunRecord, expected: Mapping[str, Any]) -> Iterator[Difference]:
    made, asked = dict(_leaves(record.config)), dict(_leaves(expected))
    for name in dict.fromkeys([*asked, *made]):
        found, wanted = made.get(name, ABSENT), asked.get(name, ABSENT)
        if found != wanted:
            yield Difference(name, found, wanted)


def _algorithm(record: RunRecord) -> Iterator[Difference]:
    if record.algorithm != record.config.get("algorithm"):
        yield Difference("algorithm", record.algorithm, record.config.get("algorithm", ABSENT))


def _start(policy: PolicyInfo, expected: ExpectedInitialPolicy) -> Iterator[Difference]:
    for field, found, wanted in (
        ("policy.base_weights_sha256", policy.base_weights_sha256, expected.base_weights),
        ("policy.sft_recipe_sha256", policy.sft_recipe_sha256, expected.recipe),
        ("policy.weights_sha256", policy.weights_sha256, expected.weights),
        ("policy.tokenizer_sha256", policy.tokenizer_sha256, expected.tokenizer),
    ):
        if wanted is not None and found != wanted:
            yield Difference(field, ABSENT if found is None else found, wanted)


def _leaves(data: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, name)
        else:
            yield name, value


def _short(value: Any) -> str:
    """Returns a value for messages; the first digits of a digest are enough to distinguish it."""
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:12]}…"
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
