"""Measured fast paths, each equal to a plain one; `LMRL_BENCH_SPEEDUPS=0` turns all of them off."""

from __future__ import annotations

import os

from lmrl_bench.core.errors import ConfigError

VARIABLE = "LMRL_BENCH_SPEEDUPS"


def speedups_on() -> bool:
    """Returns False if the environment variable `LMRL_BENCH_SPEEDUPS` is 0.

    Models and metrics ask when they are opened, and keep what they were opened with.

    Raises:
        ConfigError: The variable is neither 0 nor 1.
    """
    value = os.environ.get(VARIABLE, "1")
    if value not in ("0", "1"):
        raise ConfigError(
            f"environment variable {VARIABLE}: is {value!r} (allowed: 0, 1); unset it"
        )
    return value == "1"
