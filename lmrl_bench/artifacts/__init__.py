"""Artifacts that many runs reuse: a recipe names one by its content, finds it, and builds it. Does not import torch."""

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
