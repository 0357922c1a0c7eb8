"""Parameter counts from the headers of weight files. Does not import torch."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=8)
def parameter_counts(folder: str) -> frozenset[int]:
    """Returns how many numbers the weights of a folder are; empty where its files do not say.

    Older records count tied weights once for each use, so there may be more than one count.
    """
    shapes: dict[str, list[int]] = {}
    try:
        for path in sorted(Path(folder).glob("*.safetensors")):
            if path.name.startswith("model"):
                shapes |= _shapes(path)
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset()  # no file of weights that this machine can read
    if not shapes or not isinstance(config, dict):
        return frozenset()
    total = sum(map(math.prod, shapes.values()))
    tables = {math.prod(shape) for shape in shapes.values() if config.get("vocab_size") in shape}
    return frozenset(total + times * table for table in tables or {0} for times in range(4))


def _shapes(path: Path) -> dict[str, list[int]]:
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(min(size, 100_000_000)))
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
