"""The kinds of files that the program reads: where they lie in the fuzzer's world, and which commands read them."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuzz import mutators
from fuzz.mutators import Mutator

Command = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        files: Places in the world.
        mutators: What is done to them.
        judges: Commands that must refuse a file that is wrong.
        readers: Commands that read it, too, and may leave the file out with a word.
        strict: Whether the file is strictly typed.
        accepts: Mutators after which the file is still right, or that it may survive.
        optional: Whether the program may do without the file, or with an empty one.
        named: Words that name what is wrong as well as the file's own name does.
        weight: How often it comes; commands that train are rare.
    """

    files: tuple[str, ...]
    mutators: list[Mutator]
    judges: tuple[Command, ...]
    readers: tuple[Command, ...] = ()
    strict: bool = False
    accepts: frozenset[str] = field(default_factory=frozenset)
    optional: bool = False
    named: tuple[str, ...] = ()
    weight: int = 4


SHOW: Command = ("task", "show", "toy")
LINT: Command = ("task", "lint", "toy")
PREVIEW: Command = ("task", "preview", "toy")
DRY: Command = ("run", "run.yaml", "--dry-run")
RUN: Command = ("run", "run.yaml", "--rerun", "all")
VALIDATE: Command = ("results", "validate", "results/small", "--leaderboard", "leaderboards/small")
RESCORE: Command = ("results", "rescore", "results/small")
STATISTICS: Command = ("leaderboard", "stats", "leaderboards/small", "--results", "results")
BUILD: Command = (
    "leaderboard",
    "build",
    "leaderboards/small",
    "--results",
    "results",
    "--out",
    "page",
)
PLAN: Command = ("leaderboard", "run", "leaderboards/small", "--results", "results", "--dry-run")
PLUGGED_RUN: Command = (
    "run", "--task", "plugged", "--algorithm", "no-training", "--out", "plugged-run",
    "--set", "policy.init=base",
)  # fmt: skip
ROW = "results/small/toy/ppo/1/"
LIST_RUNS: Command = ("results", "list", "results")
SHOW_RUN: Command = ("results", "show", ROW)
SAMPLES: Command = ("results", "samples", ROW, "--best")
COMPARE: Command = ("results", "compare", ROW, "results/small/toy/ppo/0")


def new_task(file: str) -> Command:
    """Makes a task from a file."""
    return ("task", "new", "made", "--from", file, "--out", "made-tasks")


KINDS: dict[str, Kind] = {
    "task.yaml": Kind(
        ("tasks/toy/task.yaml",), mutators.YAML, (SHOW, PREVIEW, DRY), (LINT,), strict=True
    ),
    "run YAML": Kind(("run.yaml",), mutators.YAML, (DRY,), strict=True, named=("--task",)),
    "leaderboard.yaml": Kind(
        ("leaderboards/small/leaderboard.yaml",), mutators.YAML, (PLAN, STATISTICS), strict=True,
        named=("results/small", "leaderboard 'small'"),
    ),
    "algorithms/*.yaml": Kind(
        ("tasks/toy/algorithms/ppo.yaml",), mutators.YAML, (DRY,), strict=True, optional=True,
        accepts=frozenset({"not finite", "another type"}),  # run.yaml's own values are laid over
    ),
    "JSON lines": Kind(
        tuple(f"tasks/toy/data/{split}.jsonl" for split in ("train", "validation", "test")),
        mutators.JSONL, (RUN,), (LINT, PREVIEW),
        # Unknown columns and values are a row's own; other columns may be of any type.
        accepts=frozenset({"another type in a line", "an unknown key in a line",
                           "not finite in a line"}),
        weight=6,
    ),
    "JSON lines, gzip": Kind(
        ("rows.jsonl.gz",), mutators.inside_gzip(mutators.JSONL), (new_task("rows.jsonl.gz"),),
    ),
    "CSV": Kind(("rows.csv",), mutators.TABLE, (new_task("rows.csv"),)),
    "TSV": Kind(("rows.tsv",), mutators.TABLE, (new_task("rows.tsv"),)),
    "Parquet": Kind(("rows.parquet",), mutators.PARQUET, (new_task("rows.parquet"),)),
    "saved data set": Kind(
        ("tasks/saved/data/train/*", "tasks/saved/data/dataset_dict.json"),
        mutators.JSON, (), (("task", "preview", "saved"),),
        named=("data set 'data'",), weight=1,
    ),
    "record.json": Kind(
        (ROW + "record.json", "results/small/toy/start/0/record.json"), mutators.JSON,
        (VALIDATE,), (STATISTICS, RESCORE, BUILD, LIST_RUNS, SHOW_RUN, COMPARE), strict=True, weight=8,
    ),
    "config.yaml": Kind((ROW + "config.yaml",), mutators.YAML, (), (VALIDATE, STATISTICS)),
    "curves.jsonl": Kind(
        (ROW + "curves.jsonl",), mutators.JSONL, (VALIDATE,), (BUILD, STATISTICS, SHOW_RUN, COMPARE),
        strict=True,
    ),
    "samples.parquet": Kind(
        (ROW + "samples.parquet",), mutators.PARQUET, (VALIDATE,), (RESCORE, BUILD, SAMPLES, COMPARE),
        strict=True,
    ),
    "verification.json": Kind(
        ("results/small/toy/ppo/verification.json",), mutators.JSON, (VALIDATE,), (BUILD,),
        strict=True, optional=True,
    ),
    "model config.json": Kind(("model/config.json",), mutators.JSON, (), (RUN,), weight=2),
    "generation_config.json": Kind(
        ("model/generation_config.json",), mutators.JSON, (), (RUN,), weight=2
    ),
    "tokenizer files": Kind(
        ("model/tokenizer.json", "model/tokenizer_config.json"), mutators.JSON, (), (RUN,),
        weight=2,
    ),
    "safetensors": Kind(
        ("model/model.safetensors",), mutators.SAFETENSORS, (), (RUN,), weight=2
    ),
    "adapter": Kind(
        ("adapter/adapter_config.json",), mutators.JSON, (),
        (("run", "run.yaml", "--rerun", "all", "--policy", "adapter"),), weight=2,
    ),
    "adapter weights": Kind(
        ("adapter/adapter_model.safetensors",), mutators.SAFETENSORS, (),
        (("run", "run.yaml", "--rerun", "all", "--policy", "adapter"),),
        weight=1,
    ),
    "checkpoint": Kind(
        ("half/checkpoint/*", "half/curves.jsonl", "half/config.yaml"),
        mutators.BYTES, (), (("run", "half.yaml"),), weight=4,
    ),
    "plugin.py": Kind(
        ("tasks/plugged/plugin.py",), mutators.PYTHON, (PLUGGED_RUN,),
        (("task", "lint", "plugged"), ("task", "show", "plugged")), weight=2,
    ),
}  # fmt: skip
