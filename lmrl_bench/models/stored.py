"""Checks a checkpoint's files before a library reads them: unique weights, in floating point.

The library silently keeps one of two weights for the same parameter, and silently converts integers
to floating point.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lmrl_bench.core.errors import LmrlBenchError

_LEGACY: Final = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
"""Names in old TensorFlow checkpoints, which the library renames."""
_WHOLE_NUMBERS: Final = re.compile(r"^(U?I(8|16|32|64)|BOOL)$")


def check_stored(
    files: list[Path], model: nn.Module, prefix: str, what: str, kind: type[LmrlBenchError]
) -> None:
    """Checks the files that a model was read from.

    Args:
        files: Weights and, with shards, their index.
        model: The loaded model.
        prefix: The library's name of the trunk, an optional prefix of names.
        what: What is read, and from where.
        kind: Exception type to raise.

    Raises:
        LmrlBenchError: Two weights belong to one parameter, or a parameter is stored as integers.
    """
    parameters = {_place(name, prefix) for name, _ in model.named_parameters()}
    seen: dict[str, tuple[str, str]] = {}
    for file in files:
        if file.suffix == ".json":
            continue
        for name, whole_numbers in _stored(file):
            place = _place(name, prefix)
            if place in seen:
                other, elsewhere = seen[place]
                raise kind(
                    f"{what} has two weights for the same parameter: '{other}' in {elsewhere} and '{name}' in "
                    f"{file.name}; one would be dropped. Save the model again"
                )
            if whole_numbers and place in parameters:
                raise kind(
                    f"{what} stores the weight '{name}' as integers ({file.name}): it is quantized in an "
                    "unknown way; use the checkpoint that is not quantized"
                )
            seen[place] = name, file.name


def check_finite(tensors: Mapping[str, Tensor], what: str, kind: type[LmrlBenchError]) -> None:
    """Checks that all weights are finite.

    Raises:
        LmrlBenchError: A weight is infinite or not a number.
    """
    broken = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not bool(value.float().isfinite().all())
    ]
    if broken:
        raise kind(
            f"{what}: {len(broken)} weights have values that are not finite, such as '{broken[0]}'; "
            "choose a checkpoint with finite weights"
        )


def _place(name: str, prefix: str) -> str:
    for old, new in _LEGACY:
        name = name.replace(old, new)
    return name.removeprefix(f"{prefix}.") if prefix else name


def _stored(file: Path) -> Iterator[tuple[str, bool]]:
    """Yields the names of a file's weights and whether they are integers, without reading them."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                yield name, _WHOLE_NUMBERS.match(stored.get_slice(name).get_dtype()) is not None
        return
    content: Any = torch.load(file, map_location="meta", weights_only=True)
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield str(name), not (value.is_floating_point() or value.is_complex())
