"""One row of a task. Text only, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with its references.

    Attributes:
        id: unique within the task, stable across versions of the data.
        prompt: the text the policy sees (template applied).
        references: good responses; never empty strings. None where no reward and no metric reads them.
        meta: further fields of the row (label, source text, …).
        written: the stretches `(start, stop)` of the prompt that the task's template wrote; only there
            are control tokens read. The rest is data.
        messages: role and content of a chat, for the tokenizer's chat template; `prompt` then shows
            them to people and metrics. Empty for other prompts.
    """

    id: str
    prompt: str
    references: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    written: tuple[tuple[int, int], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # Python cannot pickle a mappingproxy, and samples travel to worker processes.
        fields = (self.id, self.prompt, self.references, dict(self.meta))
        return _restore, (*fields, self.written, self.messages)


def _restore(
    identifier: str,
    prompt: str,
    references: tuple[str, ...],
    meta: dict[str, Any],
    written: tuple[tuple[int, int], ...],
    messages: tuple[tuple[str, str], ...],
) -> Sample:
    return Sample(identifier, prompt, references, MappingProxyType(meta), written, messages)
