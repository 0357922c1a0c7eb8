"""`LMRL_BENCH_SPEEDUPS=0`: every fast path is off, and the numbers stay what they are up to rounding."""

import ctypes
import gc
import itertools

import numpy as np
import pytest
import torch
from fixtures.policies import tiny_model
from fixtures.training import largest_difference, make_algorithm, weights_of
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from lmrl_bench.core.errors import ConfigError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric
from lmrl_bench.records.provenance import changes, collect
from lmrl_bench.speedups import kernels, speedups_on
from lmrl_bench.speedups.allocator import reuse_freed_memory
from lmrl_bench.speedups.garbage import collector_off
from lmrl_bench.speedups.narrowing import last_feed_forward
from lmrl_bench.speedups.packing import pack_rows


@pytest.fixture
def off(monkeypatch):
    monkeypatch.setenv("LMRL_BENCH_SPEEDUPS", "0")


def test_they_are_on_unless_switched_off(monkeypatch):
    monkeypatch.delenv("LMRL_BENCH_SPEEDUPS", raising=False)
    assert speedups_on()
    monkeypatch.setenv("LMRL_BENCH_SPEEDUPS", "1")
    assert speedups_on()
    monkeypatch.setenv("LMRL_BENCH_SPEEDUPS", "off")
    with pytest.raises(ConfigError, match=r"LMRL_BENCH_SPEEDUPS: is 'off' \(allowed: 0, 1\)"):
        speedups_on()


def test_models_keep_the_modules_of_torch_and_transformers(off):
    model = tiny_model("gpt2")
    kernels.use_fast_kernels(model)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | Conv1D)]
    activations = [layer for layer in model.modules() if isinstance(layer, NewGELUActivation)]
    assert {type(layer) for layer in layers} == {nn.Linear, Conv1D}
    assert {type(layer) for layer in activations} == {NewGELUActivation}
    assert last_feed_forward(model) is None


def test_the_allocator_and_the_collector_are_left_alone(off, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: pytest.fail("asked"))
    reuse_freed_memory()
    with collector_off():
        assert gc.isenabled()


def test_rows_are_read_in_their_order_within_the_budget(off):
    prompts, completions = [3, 1, 4, 1, 5, 9], torch.tensor([2, 6, 5, 3, 5, 8])
    mask = torch.arange(9) >= 9 - torch.tensor(prompts)[:, None]
    groups = [rows.tolist() for rows in pack_rows(mask.long(), mask, completions, 20)]
    assert groups == [[0, 1], [2, 3], [4], [5]]
    assert list(itertools.chain(*groups)) == list(range(6))


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge-1", "rouge-2", "rouge-l"])
def test_metrics_of_texts_are_the_libraries_to_the_last_digits(name, monkeypatch):
    samples = [Sample(id=str(n), prompt="", references=(text,)) for n, text in enumerate((
        "The cat sat on the mat.", "two cats were sitting", "Nothing in common", "one",
    ))]  # fmt: skip
    completions = ["The cats sat on a mat .", "two cats", "", "one one two"]
    found = []
    for value in ("1", "0"):
        monkeypatch.setenv("LMRL_BENCH_SPEEDUPS", value)
        found.append(make_metric(name).score(completions, samples))
    fast, plain = found
    assert fast.value == pytest.approx(plain.value, rel=1e-12)
    np.testing.assert_allclose(fast.per_sample, plain.per_sample, rtol=1e-12)


@pytest.mark.parametrize("name", ["ppo", "grpo", "trpo"])
def test_training_gives_the_same_weights_up_to_rounding(name, monkeypatch):
    monkeypatch.setattr(kernels, "SMALLEST", 1)  # else no product of so small a model is fast
    # Adam's own epsilon is so small that it blows roundings of vanishing gradients up to a step.
    found = []
    for value in ("1", "0"):
        monkeypatch.setenv("LMRL_BENCH_SPEEDUPS", value)
        algorithm = make_algorithm(name, micro_batch_tokens=64, adam_epsilon=1e-3)
        before = weights_of(algorithm.policy)
        algorithm.learn(1)
        found.append(weights_of(algorithm.policy))
    fast, plain = found
    assert largest_difference(fast, before) > 1e-4
    assert largest_difference(fast, plain) < 2e-5


def test_a_run_without_them_is_recorded_as_such(monkeypatch):
    with_them = collect("cpu", 1)
    monkeypatch.setenv("LMRL_BENCH_SPEEDUPS", "0")
    without = collect("cpu", 1)
    assert (with_them.speedups, without.speedups) == (True, False)
    assert changes(with_them, without) == ["speedups"]
