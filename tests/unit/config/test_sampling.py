"""Decoding options apply to sampling and scoring alike, so truncated sampling is not an option (pitfall A5)."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from lmrl_bench.config.sampling import SamplingConfig


@pytest.mark.parametrize(
    "name", ["top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "num_beams"]
)
def test_truncated_sampling_does_not_exist(name):
    with pytest.raises(ValidationError, match=name):
        SamplingConfig(**{name: 1})


def test_temperature_is_positive():
    with pytest.raises(ValidationError, match="greater than 0"):
        SamplingConfig(temperature=0.0)
