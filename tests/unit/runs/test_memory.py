"""Peak memory is the run's, not that of all that its process did before; where it is not, it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.runs import ToyWorld

from lmrl_bench import run
from lmrl_bench.runs import memory
from lmrl_bench.runs.memory import PeakMemory

LARGE = 300 * 2**20

needs_reset = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the system cannot reset its counter"
)


@needs_reset
def test_what_was_before_does_not_count_and_what_comes_does():
    # In a process of its own: one that has trained keeps freed memory for its next use, and would take it here.
    code = f"""
from lmrl_bench.runs.memory import PeakMemory
before = bytearray({LARGE}); del before
peak = PeakMemory(); start = peak.mebibytes()
during = bytearray({LARGE}); del during
print(peak.scope, peak.mebibytes() - start, PeakMemory().mebibytes() - start)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scope, grown, afterwards = done.stdout.split()
    assert scope == "run"
    assert float(grown) > 250
    assert float(afterwards) < 50


def test_without_a_reset_it_is_the_life_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    during = bytearray(LARGE)
    del during
    peak = PeakMemory()
    assert peak.scope == "process"
    assert peak.mebibytes() > 300


@needs_reset
def test_a_large_run_before_does_not_count_in_the_record(world: ToyWorld):
    given = world.given(algorithm={"name": "no-training"})
    first = run("toy", "no-training", config=given)
    before = bytearray(2 * LARGE)
    del before
    second = run(
        "toy", "no-training", config=world.given("second", algorithm={"name": "no-training"})
    )
    assert first.time.peak_memory_of == second.time.peak_memory_of == "run"
    assert second.time.peak_memory_mb < first.time.peak_memory_mb + 200
