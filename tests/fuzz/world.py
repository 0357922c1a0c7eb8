"""Small valid files of every kind that the program reads, made by the program."""

from __future__ import annotations

import datetime
import gzip
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import yaml
from fixtures.runs import SETTINGS, make_world
from fixtures.submissions import run_leaderboard, small_leaderboard
from fixtures.toy import toy_task_folder

ROWS = [
    {"prompt": f"{word} {number}:", "answer": f"a {word}", "note": "é"}
    for number, word in enumerate(["bad", "tin", "cab", "ink", "on", "the", "a", "in"] * 16)
]
ROW_FOLDER = Path("results/small/toy/ppo")


def make(root: Path) -> None:
    """Writes the world; the working folder and the environment become its own."""
    root.mkdir(parents=True)
    os.chdir(root)
    scale = {"floor": 0.0, "ceiling": 100.0, "source": "the metric's bounds"}
    world = make_world(root, os.environ.__setitem__, score_normalization=scale)
    (root / "tmp").mkdir()
    os.environ["TMPDIR"] = str(root / "tmp")
    world.run_file()
    _algorithm_settings(world.folder)
    leaderboard = small_leaderboard(root)
    run_leaderboard(leaderboard, root / "results")
    _verification(root)
    _tables(root)
    _adapter(root)
    _plugged_task(root)
    _half_a_run(root, world)


def _algorithm_settings(task: Path) -> None:
    (task / "algorithms").mkdir()
    (task / "algorithms" / "ppo.yaml").write_text("algorithm:\n  learning_rate: 0.01\n")


def _tables(root: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    for name, mark in (("rows.csv", ","), ("rows.tsv", "\t")):
        lines = [mark.join(ROWS[0]), *(mark.join(row.values()) for row in ROWS)]
        (root / name).write_text("\n".join(lines) + "\n")
    lines = [json.dumps(row) for row in ROWS]
    (root / "rows.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    table = pyarrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, root / "rows.parquet")
    import datasets

    datasets.disable_progress_bars()
    rows = [{"prompt": row["prompt"], "references": [row["answer"]]} for row in ROWS]
    split = datasets.Dataset.from_list(rows)
    whole = datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), split))
    whole.save_to_disk(root / "tasks" / "saved" / "data")
    content = yaml.safe_load((root / "tasks" / "toy" / "task.yaml").read_text())
    content["name"] = "saved"
    content["data"] = {"reader": "hf-datasets", "dataset": "data"} | {
        name: {"split": name} for name in whole
    }
    (root / "tasks" / "saved" / "task.yaml").write_text(yaml.safe_dump(content))


def _verification(root: Path) -> None:
    from lmrl_bench.leaderboards.verification import Check, add_check
    from lmrl_bench.records.store import read_record

    row = root / ROW_FOLDER
    records = {seed: read_record(row / str(seed)).digest() for seed in range(3)}
    check = {"level": 1, "by": "x", "date": datetime.date(2026, 1, 2), "records": records}
    add_check(row, Check.model_validate(check | {"package_version": "0.1.0"}))


def _adapter(root: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(root / "model")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], r=2)
    peft.get_peft_model(base, config).save_pretrained(root / "adapter")
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        shutil.copy(root / "model" / name, root / "adapter" / name)
    shutil.copy(root / "model" / "tokenizer_config.json", root / "adapter")


def _plugged_task(root: Path) -> None:
    folder = toy_task_folder(root / "other", reward={"terms": [{"name": "planted"}]})
    content = yaml.safe_load((folder / "task.yaml").read_text())
    content["name"] = "plugged"
    content["policy"] = {"default": str(root / "model"), "kinds": ["causal"]}
    (folder / "task.yaml").write_text(yaml.safe_dump(content))
    (folder / "plugin.py").write_text(PLUGIN)
    shutil.move(folder, root / "tasks" / "plugged")
    (root / "other").rmdir()


PLUGIN = """\
import numpy as np
from lmrl_bench.rewards.base import RewardFunction, RewardOutput


class Planted(RewardFunction):
    name = "planted"
    signature = "planted|v1"

    def __call__(self, batch):
        return RewardOutput(np.array([float(len(text)) for text in batch.completions]))


REWARDS = {"planted": Planted}
"""


def _half_a_run(root: Path, world: Any) -> None:
    from lmrl_bench.planning.plan import plan_run
    from lmrl_bench.planning.resolve import resolve
    from lmrl_bench.runs.execute import execute
    from lmrl_bench.tasks.catalog import load_task

    given = world.given("half", budget={"tokens": 200})
    (root / "half.yaml").write_text(yaml.safe_dump({"task": "toy"} | given))
    iterations = 0

    def stop(event: Any) -> None:
        nonlocal iterations
        iterations += event.kind == "iteration"
        if event.kind == "iteration" and iterations == 3:
            signal.raise_signal(signal.SIGTERM)

    task = load_task("toy")
    record = execute(plan_run(task, resolve(task, given)), progress=stop)
    assert record.status == "interrupted", record.status
    assert SETTINGS["runtime"]["checkpoint_every"] == 2
