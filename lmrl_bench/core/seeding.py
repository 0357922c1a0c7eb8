"""Named random streams derived from one root seed, so that parts never share numbers."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(root: int, *names: str | int) -> int:
    """Returns a 63-bit seed for a named stream of the root seed, equal on every platform."""
    text = "/".join(str(part) for part in (root, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """Returns a numpy generator for a named stream of the root seed."""
    return np.random.default_rng(derive_seed(root, *names))
