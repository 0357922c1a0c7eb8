"""One row of a task. Text only, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with its references.

    Attributes:
        id: Unique within the task, stable across versions of the data.
        prompt: The text that the policy reads (template applied).
        references: Reference texts, never empty strings; may be empty if no reward or metric needs
            them.
        meta: Additional fields of the row (label, source text, …).
        written: Spans `(start, stop)` of the prompt that the task's template wrote; control tokens
            are recognized only there, the rest is data.
        messages: Role and content of each message of a chat, for the tokenizer's chat template;
            `prompt` then holds their plain text. Empty for other prompts.
    """

    id: str
    prompt: str
    references: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    written: tuple[tuple[int, int], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy cannot be pickled, but samples are sent to worker processes.
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
