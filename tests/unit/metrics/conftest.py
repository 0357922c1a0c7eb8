"""Models in temporary folders, and caches of `evaluate` away from the home folder."""

import evaluate.config
import pytest
from fixtures.encoders import write_causal, write_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def causal(tmp_path_factory):
    return write_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture
def evaluate_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
