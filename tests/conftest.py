"""Settings of the whole suite: one thread, no network; the toy task and tokenizer as fixtures."""

from __future__ import annotations

import os

# Before anybody imports torch: several OpenMP threads on shared cores are far slower than one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


@pytest.fixture(scope="session")
def tokenizer():
    """The toy tokenizer; never change it in a test."""
    from fixtures.toy import toy_tokenizer

    return toy_tokenizer()


@pytest.fixture
def task(tmp_path):
    """A fresh toy task, whose reward counts its calls."""
    from fixtures.toy import toy_task

    return toy_task(tmp_path)
