"""Profiles a round, and measures one of the fast paths: with it, and with it switched off.

`python tests/performance/profile_round.py W1 grpo --without shared-prompts`; seconds of each part and CPU seconds of
all, medians of the rounds, played in turn, then the costliest operations of one round each. One thread.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from harness.material import Material, make_material
from harness.players import Ours
from harness.settings import acting_algorithms
from harness.workloads import WORKLOADS, Workload
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from lmrl_bench.data.episodes import Completions
from lmrl_bench.speedups import VARIABLE
from lmrl_bench.speedups.allocator import reuse_freed_memory

PARTS = ("generate", "reward", "score", "update", "all, CPU")


def each_prompt_for_itself(ids: Any, mask: Any, _pad_id: int) -> tuple[Any, Any, Any]:
    return ids, mask, torch.arange(len(ids))


def shared_prompts() -> AbstractContextManager[Any]:
    """The prompt of a group is read once while sampling and while scoring."""
    stack = ExitStack()
    for module in ("lmrl_bench.models.causal", "lmrl_bench.rollouts.engine"):
        stack.enter_context(patch(f"{module}.distinct_prompts", each_prompt_for_itself))
    return stack


def fast_kernels() -> AbstractContextManager[Any]:
    """Linear layers through oneDNN where MKL is slower, GELU in one operation; decided when a model is opened."""
    return patch("lmrl_bench.models.networks.use_fast_kernels", lambda _model: None)


def float32_attention() -> AbstractContextManager[Any]:
    """Attention in float32 in an update that is otherwise in bfloat16."""
    return patch("lmrl_bench.speedups.kernels._Float32Attention", nullcontext)


def packed_weights() -> AbstractContextManager[Any]:
    """Weights in the kernels' own order while sampling."""
    return patch("lmrl_bench.rollouts.engine.PACKED_TOKENS", 2**31)


def packing() -> AbstractContextManager[Any]:
    """Rows of like length, and of one prompt, read together; without it, all that fit into the memory's bound."""
    return patch("lmrl_bench.speedups.packing.CALL_TOKENS", 10**9)


def narrowing() -> AbstractContextManager[Any]:
    """The last block's feed-forward layer skips the tokens of prompts."""
    return patch("lmrl_bench.models.causal.narrowed", lambda _layer, _start: nullcontext())


@contextmanager
def allocator() -> Iterator[None]:
    """Freed memory stays in the process; without it, with the largest thresholds that glibc takes by itself."""
    library = ctypes.CDLL(None)
    library.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
    library.mallopt(-1, 2**26)  # M_TRIM_THRESHOLD
    try:
        yield
    finally:
        reuse_freed_memory()


def all_speedups() -> AbstractContextManager[Any]:
    """Turns off what LMRL_BENCH_SPEEDUPS=0 turns off in a round: kernels, packed weights, packing and narrowing."""
    return patch.dict(os.environ, {VARIABLE: "0"})


OFF: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "all": all_speedups,
    "allocator": allocator,
    "shared-prompts": shared_prompts,
    "fast-kernels": fast_kernels,
    "float32-attention": float32_attention,
    "packed-weights": packed_weights,
    "packing": packing,
    "narrowing": narrowing,
}
"""Fast path to a context in which it is off."""


def cut_completions(algorithm: Any) -> None:
    """Makes completions ragged: of geometric length, a third of the longest on average, equal in all rounds."""
    generate = algorithm.collector.generate

    def ragged(prompts: Any) -> Completions:
        done = generate(prompts)
        longest = done.mask.shape[1]
        noise = torch.rand(len(done.mask), 1, generator=torch.Generator().manual_seed(0))
        lengths = (-longest / 3 * noise.log()).ceil()
        mask = done.mask & (torch.arange(longest) < lengths)
        return replace(done, mask=mask, logprobs=done.logprobs * mask)

    algorithm.collector.generate = ragged


class Side:
    """One of our algorithms, with every fast path or without one of them."""

    def __init__(
        self, material: Material, algorithm: str, precision: str, without: str, cut: bool
    ) -> None:
        self.name = f"without {without}" if without else "as it is"
        self._off = OFF[without] if without else nullcontext
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}
        self.difference = 0.0
        with self._off():
            self._algorithm = Ours(material, algorithm, precision=precision).algorithm
            if cut:
                cut_completions(self._algorithm)
            self._round()  # the first is slower

    def play(self) -> None:
        """Plays a round and takes its times."""
        started = time.process_time()
        with self._off():
            seconds = self._round()
        for part, value in (seconds | {"all, CPU": time.process_time() - started}).items():
            self.parts[part].append(value)

    def operations(self, count: int) -> Iterator[tuple[str, float]]:
        """Yields the costliest operations of one round and their milliseconds, without what they call."""
        with self._off(), profile(activities=[ProfilerActivity.CPU]) as watched:
            self._round()
        found = sorted(watched.key_averages(), key=lambda one: -one.self_cpu_time_total)
        yield from ((one.key, one.self_cpu_time_total / 1000) for one in found[:count])

    def products(self) -> float:
        """Returns the operations of the products of matrices in one round, attention among them, in units of 1e9."""
        onednn = {torch.ops.mkldnn._linear_pointwise: _flops}
        with self._off(), FlopCounterMode(display=False, custom_mapping=onednn) as counter:
            self._round()
        return counter.get_total_flops() / 1e9

    def _round(self) -> dict[str, float]:
        stats: list[Any] = []
        self._algorithm.learn(self._algorithm.tokens + 1, after_iteration=stats.append)
        self.difference = max(self.difference, stats[0].update.max_logprob_difference)
        return dict(stats[0].seconds)


def _flops(input: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * math.prod(input) * weight[0]


@contextmanager
def sides(
    workload: Workload, algorithm: str, precision: str, without: str, cut: bool
) -> Iterator[list[Side]]:
    with tempfile.TemporaryDirectory() as folder:
        material = make_material(workload, Path(folder) / "material")
        names = ["", without] if without else [""]
        yield [Side(material, algorithm, precision, name, cut) for name in names]


def show(found: Sequence[Side], operations: int) -> str:
    lines = [f"| | {' | '.join(PARTS)} |", "| --- |" + " ---: |" * len(PARTS)]
    for side in found:
        cells = [f"{median(side.parts[part]):.2f}" for part in PARTS]
        lines.append(f"| {side.name} | {' | '.join(cells)} |")
    lines.append("")
    for side in found:
        lines.append(
            f"{side.name}: {side.products():,.0f} GFLOP in products; sampled and scored log-probabilities "
            f"differ by {side.difference:.1g} nats at most"
        )
    for side in found:
        lines += ["", f"| {side.name}: operation | ms |", "| --- | ---: |"]
        lines += [f"| `{name}` | {ms:,.0f} |" for name, ms in side.operations(operations)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("algorithm", choices=acting_algorithms())
    parser.add_argument("--without", choices=OFF, default="", help="the fast path to switch off")
    parser.add_argument("--bfloat16", action="store_true", help="updates in bfloat16")
    parser.add_argument("--ragged", action="store_true", help="cut completions to several lengths")
    parser.add_argument("--minibatch", type=int, help="episodes per gradient step, if others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--operations", type=int, default=10, help="number of operations to show")
    given = parser.parse_args()
    if given.rounds < 1 or (given.minibatch is not None and given.minibatch < 1):
        parser.error("--rounds and --minibatch are at least 1")
    torch.set_num_threads(1)
    precision = "bfloat16" if given.bfloat16 else "none"
    workload = WORKLOADS[given.workload]
    if given.minibatch:
        workload = replace(workload, minibatch_episodes=given.minibatch)
    with sides(workload, given.algorithm, precision, given.without, given.ragged) as found:
        for _ in range(given.rounds):
            for side in found:
                side.play()
        print(show(found, given.operations))


if __name__ == "__main__":
    main()
