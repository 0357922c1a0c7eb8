"""The small promises: start time, large tasks and leaderboards, rewards and their libraries, two jobs and one.

`python tests/performance/small.py`; each row says what was found and what is asked. CPU seconds wherever one process
works, so that a neighbor disturbs little.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from typing import Any

import numpy as np

from lmrl_bench.data.sample import Sample
from lmrl_bench.rewards.base import RewardBatch

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/fixtures

WORDS = " ".join(topics.values()).split()


@dataclass(frozen=True)
class Finding:
    """One promise: what was found, in `unit`, and the least or most that is asked."""

    what: str
    found: float
    unit: str
    asked: str
    kept: bool


def at_most(what: str, found: float, unit: str, limit: float) -> Finding:
    return Finding(what, found, unit, f"<= {limit:g}", found <= limit)


def at_least(what: str, found: float, unit: str, limit: float) -> Finding:
    return Finding(what, found, unit, f">= {limit:g}", found >= limit)


def cpu_seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def start() -> Iterator[Finding]:
    """The command line's help, and what `import lmrl_bench` loads."""
    walls = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "lmrl_bench.cli", "--help"], check=True, capture_output=True
        )
        walls.append(time.perf_counter() - started)
    yield at_most("lmrl-bench --help, wall", median(walls), "s", 0.3)
    heavy = "import lmrl_bench, sys; print(len({'torch', 'transformers'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True)
    yield at_most("torch, transformers loaded by import lmrl_bench", int(out.stdout), "", 0)


def large_task(rows: int = 300_000) -> Iterator[Finding]:
    """Opens a task and resets an environment on it."""
    from lmrl_bench.envs.vector import CompletionVectorEnv
    from lmrl_bench.tasks.task import Task

    with tempfile.TemporaryDirectory() as root:
        task = Task(write_task(Path(root) / "large-task", rows))
        yield at_most(
            f"open a task of {rows:,} rows, CPU",
            cpu_seconds(lambda: task.samples("train")),
            "s",
            2.0,
        )
        env = CompletionVectorEnv(task, num_envs=8)
        env.reset(seed=0)
        resets = [cpu_seconds(env.reset) for _ in range(20)]
        each = 1e6 * median(resets) / env.num_envs
        yield at_most("reset of an environment on it, CPU", each, "microseconds", 1000.0)


def write_task(folder: Path, rows: int) -> Path:
    folder.mkdir()
    rng = random.Random(0)
    for split, count in (("train", rows), ("validation", 10), ("test", 10)):
        lines = []
        for number in range(count):
            place = rng.randrange(len(WORDS) - 30)
            prompt, reference = WORDS[place : place + 20], WORDS[place + 20 : place + 30]
            row = {
                "id": f"{split}-{number}",
                "prompt": " ".join(prompt),
                "references": " ".join(reference),
            }
            lines.append(json.dumps(row))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = {
        "schema": 1,
        "name": folder.name,
        "version": 1,
        "summary": "Many rows.",
        "license": "PSF-2.0",
        "data": {
            "reader": "jsonl",
            "id": "id",
            **{split: {"path": f"{split}.jsonl"} for split in ("train", "validation", "test")},
        },
        "prompt": {"template": "continue: {{ prompt }}", "max_tokens": 64, "truncate": "left"},
        "completion": {"max_tokens": 16},
        "reward": {"terms": [{"name": "chrf"}]},
        "metrics": {"primary": {"name": "chrf"}, "held_out": [{"name": "bleu"}]},
        "policy": {"default": "nano-causal", "kinds": ["causal"]},
    }
    (folder / "task.yaml").write_text(json.dumps(task), encoding="utf-8")
    return folder


def texts(
    count: int, words: int, seed: int, of_completions: int = 0
) -> tuple[list[str], list[str]]:
    """Returns references, and completions of which half the words are the reference's.

    Args:
        count: Pairs.
        words: In each text.
        seed: Of the references.
        of_completions: Another number gives other completions to the same references.
    """
    rng = random.Random(seed)
    places = [rng.randrange(len(WORDS) - words) for _ in range(count)]
    references = [WORDS[place : place + words] for place in places]
    rng = random.Random(f"{seed}/{of_completions}")
    completions = [
        [rng.choice(row) if rng.random() < 0.5 else rng.choice(WORDS) for _ in row]
        for row in references
    ]
    return [" ".join(row) for row in references], [" ".join(row) for row in completions]


def library_scores() -> dict[str, Callable[[str, str], object]]:
    """Returns each library's call for one pair: completion, reference."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu, chrf = BLEU(effective_order=True), CHRF()
    scorers = {
        name: RougeScorer([name], use_stemmer=True) for name in ("rouge1", "rouge2", "rougeL")
    }
    return {
        "bleu": lambda completion, reference: bleu.sentence_score(completion, [reference]),
        "chrf": lambda completion, reference: chrf.sentence_score(completion, [reference]),
        "rouge-1": lambda completion, reference: scorers["rouge1"].score(reference, completion),
        "rouge-2": lambda completion, reference: scorers["rouge2"].score(reference, completion),
        "rouge-l": lambda completion, reference: scorers["rougeL"].score(reference, completion),
    }


def rewards(size: int = 64, turns: int = 5, in_a_row: int = 10) -> Iterator[Finding]:
    """Pairs per second as rewards, batches of 64, compared with the library's call per pair on the same texts, in turn.

    As in training, the references are known and the completions are new; 150,000 words came before them.
    """
    from lmrl_bench.metrics import make_metric
    from lmrl_bench.rewards.from_metric import MetricReward

    for words in (8, 60):
        batches = [reward_batch(size, words, seed) for seed in range(2400 // words)]
        for name, library in library_scores().items():
            reward = MetricReward(make_metric(name))
            for batch in batches:
                reward(batch)  # prepares the references
            ours, theirs = [], []
            for turn in range(1, turns + 1):
                some = [
                    replace(known, completions=texts(size, words, seed, of_completions=turn)[1])
                    for seed, known in enumerate(batches[:in_a_row])
                ]
                ours.append(cpu_seconds(partial(call_with_each, reward, some)))
                theirs.append(
                    cpu_seconds(partial(call_with_each, partial(call_for_each, library), some))
                )
            ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
            rate = size * in_a_row / median(ours)
            yield at_least(
                f"{name}, {words} words ({rate:,.0f} pairs/s), compared with its library",
                ratio,
                "x",
                20,
            )


def bleu_parts(size: int = 64, batches: int = 20) -> Iterator[Finding]:
    """Yields the parts of a BLEU reward's time, next to a twentieth of its library's; the parts have no target."""
    for words in (8, 60):
        made = [reward_batch(size, words, seed) for seed in range(batches)]
        for name, action in actions_of_bleu(made).items():
            times = [cpu_seconds(action) for _ in range(5)]
            # The library remembers texts: the first time is that of new completions.
            seconds = times[0] / 20 if "library" in name else min(times)
            microseconds = 1e6 * seconds / size / batches
            yield Finding(f"bleu, {words} words: {name}", microseconds, "us a pair", "", True)


def actions_of_bleu(batches: Sequence[RewardBatch]) -> dict[str, Callable[[], object]]:
    """The reward of all batches, its costliest parts, and the library's."""
    from lmrl_bench.metrics import make_metric
    from lmrl_bench.rewards.from_metric import MetricReward
    from lmrl_bench.speedups.ngrams import shared_ngrams

    metric: Any = make_metric("bleu")
    tokens = metric._tokens
    texts_of = [(one.completions, [s.references[0] for s in one.samples]) for one in batches]
    pairs = [tokens.pairs(*one) for one in texts_of]
    library = partial(call_for_each, library_scores()["bleu"])
    for one in batches:
        library(replace(one, completions=[""] * len(one)))  # as ours, it knows the references
    return {
        "split into words": lambda: [[text.split() for text in one] for one, _ in texts_of],
        "split and numbered": lambda: [tokens.pairs(*one) for one in texts_of],
        "n-grams counted": lambda: [shared_ngrams(one, 4) for one in pairs],
        "all of the reward": partial(call_with_each, MetricReward(metric), batches),
        "a twentieth of the library": partial(call_with_each, library, batches),
    }


def reward_batch(size: int, words: int, seed: int) -> RewardBatch:
    references, completions = texts(size, words, seed)
    samples = [Sample(f"{seed}-{i}", "", (text,)) for i, text in enumerate(references)]
    return RewardBatch(samples, completions, np.full(size, words), np.ones(size, dtype=bool))


def call_with_each(call: Callable[[RewardBatch], object], batches: Sequence[RewardBatch]) -> None:
    for batch in batches:
        call(batch)


def call_for_each(call: Callable[[str, str], object], batch: RewardBatch) -> None:
    for completion, sample in zip(batch.completions, batch.samples, strict=True):
        call(completion, sample.references[0])


def bertscore(size: int = 64) -> Iterator[Finding]:
    """BERTScore of 64 new completions to known references, compared with bert-score's own scorer."""
    from bert_score import BERTScorer

    from lmrl_bench.downloads import download_path
    from lmrl_bench.metrics import make_metric

    metric = make_metric("bertscore-minilm")
    library = BERTScorer(
        model_type=str(download_path("minilm")), num_layers=6, device="cpu", use_fast_tokenizer=True
    )
    library._tokenizer.model_max_length = 512
    references, _ = texts(size, 20, 0)
    samples = [Sample(str(i), "", (text,)) for i, text in enumerate(references)]
    metric.score(references, samples)
    ours, theirs = [], []
    for seed in range(1, 4):
        _, completions = texts(size, 20, seed)
        ours.append(cpu_seconds(partial(metric.score, completions, samples)))
        theirs.append(cpu_seconds(partial(library.score, completions, references)))
    ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
    yield at_least(
        f"bertscore ({size / median(ours):,.0f} pairs/s), compared with bert-score", ratio, "x", 1
    )


def large_leaderboard(tasks: int = 10, rows: int = 10, seeds: int = 100) -> Iterator[Finding]:
    """Builds a leaderboard of 10,000 invented records, which other processes write first: half a minute, 230 MB."""
    what = f"build a leaderboard of {tasks * rows * seeds:,} records, CPU, a process each time"
    with tempfile.TemporaryDirectory() as root:
        folder, size = Path(root), (tasks, rows, seeds)
        in_a_process(write_records, folder, size)
        for _ in range(3):
            yield at_most(what, in_a_process(seconds_to_build, folder, size), "s", 5.0)


def in_a_process(call: Callable[..., Any], *arguments: object) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def write_records(folder: Path, size: tuple[int, int, int]) -> None:
    from fixtures.leaderboards import write_many_records

    write_many_records(folder / "results", *size)


def seconds_to_build(folder: Path, size: tuple[int, int, int]) -> float:
    from fixtures.leaderboards import many_cells

    from lmrl_bench.leaderboards.build import build

    spec, expected = many_cells(*size)
    return cpu_seconds(lambda: build(spec, folder / "results", folder / "out", expected))


def two_jobs(rounds: int = 2) -> Iterator[Finding]:
    """The wall time of four cells of half a minute with one worker and with two, in turn; needs two free cores."""
    for _ in range(rounds):
        one, two = grid_seconds(jobs=1), grid_seconds(jobs=2)
        yield at_least(f"bench --jobs 2 ({two:.0f} s) compared with --jobs 1", one / two, "x", 1.8)


def grid_seconds(jobs: int) -> float:
    with tempfile.TemporaryDirectory() as root:
        leaderboard = write_leaderboard(Path(root) / "four-cells")
        program = [sys.executable, "-m", "lmrl_bench.cli", "leaderboard", "run", str(leaderboard)]
        options = ["--jobs", str(jobs), "--results", f"{root}/results", "--out", f"{root}/out"]
        started = time.perf_counter()
        subprocess.run([*program, *options], check=True, capture_output=True)
        return time.perf_counter() - started


def write_leaderboard(folder: Path) -> Path:
    folder.mkdir()
    leaderboard = {
        "name": folder.name,
        "title": "Four cells",
        "description": "For timing.",
        "tasks": [{"task": "docs-en-de"}],
        "entries": [{"entry": "ppo", "algorithm": "ppo"}],
        "baselines": {"zero_shot": None, "sft": None},
        "seeds": [0, 1, 2, 3],
        "config": {
            "budget": {"tokens": 12_000},
            "evaluation": {
                "every": 100,
                "validation_samples": 16,
                "test_samples": 64,
                "greedy": False,
            },
        },
    }
    (folder / "leaderboard.yaml").write_text(json.dumps(leaderboard), encoding="utf-8")
    return folder


MEASURES = {
    "start": start,
    "large-task": large_task,
    "rewards": rewards,
    "bleu-parts": bleu_parts,
    "bertscore-minilm": bertscore,
    "large-leaderboard": large_leaderboard,
    "two-jobs": two_jobs,
}


def show(findings: Sequence[Finding]) -> str:
    lines = ["| what | found | asked | |", "| --- | ---: | ---: | --- |"]
    for one in findings:
        kept = "" if one.kept else "missed"
        lines.append(
            f"| {one.what} | {one.found:.3g} {one.unit} | {one.asked} {one.unit} | {kept} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", help=f"of {', '.join(MEASURES)}; default: all")
    parser.add_argument("--json", type=Path, help="file for the findings")
    given = parser.parse_args()
    if unknown := set(given.measures) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose of {', '.join(MEASURES)}")
    findings = []
    for name in given.measures or MEASURES:
        for finding in MEASURES[name]():
            findings.append(finding)
            print(show([finding]).splitlines()[-1], file=sys.stderr, flush=True)
    print(show(findings))
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in findings], indent=1) + "\n")


if __name__ == "__main__":
    main()
