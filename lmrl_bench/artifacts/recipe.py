"""A recipe: what an artifact is made from, by content. The same inputs name the same artifact. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from lmrl_bench.artifacts import ARTIFACT_KINDS
from lmrl_bench.core.digests import digest
from lmrl_bench.core.events import Listener, silent
from lmrl_bench.downloads.store import cache_root


@dataclass(frozen=True)
class Recipe:
    """Instructions to build one artifact. Picklable, so that any process can build it.

    Attributes:
        kind: Registered name of the kind of artifact.
        name: What people call it; the first part of its folder's name.
        inputs: Name to sha256 (hex), or to a number, of everything that can change the artifact. The order counts.
        source: What the kind needs to build it; takes no part in the fingerprint.
    """

    kind: str
    name: str
    inputs: Mapping[str, str | int] = field(hash=False)
    source: Any = field(default=None, compare=False, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the inputs."""
        return digest(list(self.inputs.values()))

    @property
    def folder(self) -> Path:
        """The folder in the cache that belongs to the artifact alone, whether or not it exists."""
        return cache_root() / "artifacts" / self.kind / f"{self.name}-{self.fingerprint[:12]}"

    def find(self) -> Path | None:
        """Returns the artifact's place, or None if it has yet to be built, or is damaged."""
        return ARTIFACT_KINDS.get(self.kind).find(self)

    def build(self, progress: Listener = silent) -> Path:
        """Returns the artifact's place; builds the artifact first if it does not exist.

        Raises:
            LmrlBenchError: It cannot be built.
            KeyboardInterrupt: The user stopped; the next call continues.
        """
        return ARTIFACT_KINDS.get(self.kind).build(self, progress)


class ArtifactKind(Protocol):
    """How artifacts of one kind are found and built; plug-ins register theirs in the group `lmrl_bench.artifacts`.

    Builders lock `recipe.folder` while they work, and publish an artifact in one step: who finds it, finds all of it.
    """

    def find(self, recipe: Recipe) -> Path | None:
        """Returns the place of a whole and undamaged artifact, or None. Imports no torch and changes nothing."""

    def build(self, recipe: Recipe, progress: Listener) -> Path:
        """Returns the artifact's place, building it if `find` does not find it."""
