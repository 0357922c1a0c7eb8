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
    """

    id: str
    prompt: str
    references: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __reduce__(self) -> tuple[Any, ...]:
        # Python cannot pickle a mappingproxy, and samples travel to worker processes.
        return _restore, (self.id, self.prompt, self.references, dict(self.meta))


def _restore(
    identifier: str, prompt: str, references: tuple[str, ...], meta: dict[str, Any]
) -> Sample:
    return Sample(identifier, prompt, references, MappingProxyType(meta))
