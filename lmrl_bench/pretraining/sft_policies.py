"""Ships an SFT policy: turns a finished `sft` run into a folder of shipped weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lmrl_bench.config.run import training_digest
from lmrl_bench.core.atomic import replace_folder
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models.fingerprints import model_digests
from lmrl_bench.pretraining.export import load_policy, save_half
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import read_curves, read_record
from lmrl_bench.tasks.catalog import load_task


def ship_sft_policy(run: Path, weights: Path) -> Path:
    """Writes `<weights>/<model>--<task>` atomically: float16 weights, tokenizer, log and card.

    Args:
        run: Folder of a completed run of `sft` with `runtime.keep_policy`.
        weights: Folder of the shipped policies.

    Raises:
        PolicyError: The run is not a completed sft one, kept no policy, started from other
            weights than the shipped policy has now, or used another version of the task.
        RecordError: There is no record.
    """
    record = read_record(run)
    policy = run / "policy"
    if record.status != "completed" or record.algorithm["name"] != "sft" or not policy.is_dir():
        raise PolicyError(
            f"{run}: not a completed run of 'sft' that kept its policy; run "
            "lmrl-bench run --task TASK --algorithm sft --set policy.init=base "
            "--set runtime.keep_policy=true"
        )
    if record.policy is None:
        raise PolicyError(f"{run}: the record has no policy")
    if record.policy.weights_sha256 != model_digests(record.policy.model).weights:
        raise PolicyError(
            f"{run}: the run started from other weights of '{record.policy.model}' than those installed; "
            "run it again"
        )
    task = load_task(record.task.name)
    if task.digest != record.task.digest:
        raise PolicyError(
            f"{run}: the run used another version of the task '{task.name}' than the installed one (their "
            "digests differ); run it again"
        )
    output, kind = weights / f"{record.policy.model}--{record.task.name}", record.policy.kind

    def write(temporary: Path) -> None:
        save_half(load_policy(policy, seq2seq=kind == "seq2seq"), temporary)
        for file in sorted(policy.glob("*token*.json")) + sorted(
            policy.glob("generation_config.json")
        ):
            shutil.copy(file, temporary / file.name)
        log = training_log(record, read_curves(run), task.learning_digest)
        (temporary / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(_card(record), encoding="utf-8")

    replace_folder(output, write)
    return output


def training_log(
    record: RunRecord, curves: list[dict[str, Any]], learning_digest: str
) -> dict[str, Any]:
    """Returns the origin of the policy: task, settings, results and loss curve."""
    return {
        "name": f"{record.policy.model if record.policy else ''}--{record.task.name}",
        "task": {
            "name": record.task.name,
            "version": record.task.version,
            "digest": record.task.digest,
            "learning_digest": learning_digest,
            "data": record.task.model_dump(mode="json")["data"],
        },
        "base_weights_sha256": record.policy.weights_sha256 if record.policy else None,
        "training_sha256": training_digest(record.config),
        "algorithm": record.algorithm,
        "record_id": record.id,
        "optimizer_steps": record.budget.optimizer_steps,
        "wall_seconds": round(record.time.wall_s, 1),
        "results_float32": {
            split: {"reward": results.reward, **{k: v.value for k, v in results.metrics.items()}}
            for split, results in record.results.items()
        },
        "versions": {k: record.provenance.packages[k] for k in ("torch", "transformers")},
        "loss_curve": [
            {
                "step": line["optimizer_steps"],
                **{
                    k.rpartition("/")[2]: v for k, v in line.items() if k.startswith("update/terms")
                },
            }
            for line in curves
            if line["kind"] == "train"
        ],
    }


def _card(record: RunRecord) -> str:
    model = record.policy.model if record.policy else ""
    return (
        f"# {model}--{record.task.name}\n\n"
        f"The SFT policy of the task `{record.task.name}` (version {record.task.version}): "
        f"`{model}` fine-tuned on the training references by the algorithm `sft`. RL starts from it by "
        "default.\n\nMade by `lmrl-bench run --task "
        f"{record.task.name} --algorithm sft --set policy.init=base "
        "--set runtime.keep_policy=true --out RUN` and `python -m lmrl_bench.pretraining start RUN`. "
        "Settings, data digests, results and the loss curve are in `training.json`; weights are float16.\n"
    )
