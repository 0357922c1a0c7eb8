"""Names that `algorithm show` gives for other libraries are names that these libraries have."""

from __future__ import annotations

import dataclasses
import inspect

from stable_baselines3 import PPO
from trl import GRPOConfig

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.peer_names import PEER_NAMES
from lmrl_bench.config.reference import settings_of


def test_the_libraries_have_these_names():
    known = {
        "SB3": set(inspect.signature(PPO.__init__).parameters),
        "TRL": {field.name for field in dataclasses.fields(GRPOConfig)},
    }
    for setting, names in PEER_NAMES.items():
        for library, name in names.items():
            assert name in known[library], setting


def test_we_have_these_settings():
    ours = {
        setting.name
        for name in ALGORITHMS
        for setting in settings_of(ALGORITHMS.get(name).config_class)
    }
    assert set(PEER_NAMES) <= ours
