"""A toy world per test; commands run with it as the working folder."""

from __future__ import annotations

import pytest
from fixtures.runs import make_world


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_world(tmp_path, monkeypatch.setenv)
