"""What is made once and reused by many runs: a recipe names it by content, finds it, and builds it. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmrl_bench.core.registry import Registry

if TYPE_CHECKING:
    from lmrl_bench.artifacts.recipe import ArtifactKind

ARTIFACT_KINDS: Registry[ArtifactKind] = Registry(
    "artifact kind",
    {"sft": "lmrl_bench.runs.sft_policy:SFT_POLICIES"},
    group="lmrl_bench.artifacts",
)
