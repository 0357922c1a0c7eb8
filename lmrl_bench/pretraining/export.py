"""Writes a pretrained policy as a Hugging Face folder, with its training log and model card.

Weights are stored in float16 to halve the package size; `config.json` says float32, so that loading
without a `dtype` gives float32, and no CPU computes in half precision by accident.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from lmrl_bench.core.atomic import replace_folder
from lmrl_bench.core.errors import PolicyError
from lmrl_bench.pretraining.card import model_card
from lmrl_bench.pretraining.runs import PretrainingRun
from lmrl_bench.pretraining.train import Progress, mean_loss

MAXIMUM_LOSS_CHANGE: Final = 0.002
"""Largest change of a validation loss through float16 weights, in nats per token."""


def write_policy(
    run: PretrainingRun,
    name: str,
    settings: Mapping[str, Any],
    progress: Progress,
    output: Path,
) -> None:
    """Writes model, tokenizer, training log and model card, atomically.

    Args:
        run: The finished run.
        name: Name of the policy.
        settings: Hyper-parameters for the log.
        progress: Final progress of the training.
        output: Folder to write; an existing one is replaced.

    Raises:
        PolicyError: Rounding to float16 changes a validation loss by more than
            `MAXIMUM_LOSS_CHANGE`.
    """

    def write(temporary: Path) -> None:
        losses = _validation_losses(run, run.model)
        save_half(run.model, temporary)
        run.tokenizer.save_pretrained(temporary)
        reloaded = load_policy(temporary, seq2seq=run.model.config.is_encoder_decoder)
        losses_half = _validation_losses(run, reloaded)
        _check_rounding(losses, losses_half)
        log = _training_log(run, name, settings, progress, losses, losses_half)
        log |= {**run.measure(reloaded), "loss_curve": progress.curve}
        (temporary / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(
            model_card(log, run.card, reloaded, run.tokenizer), encoding="utf-8"
        )

    replace_folder(output, write)


def load_policy(folder: Path, *, seq2seq: bool) -> PreTrainedModel:
    """Loads a written policy in float32, as users do."""
    loader = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    model: PreTrainedModel = loader.from_pretrained(folder, dtype=torch.float32)
    return model


def save_half(model: PreTrainedModel, folder: Path) -> None:
    """Saves a model with float16 weights and a configuration that loads them as float32."""
    # Tied weights must remain one tensor, or they would be stored twice.
    halves: dict[int, torch.Tensor] = {}
    weights = {
        name: halves.setdefault(tensor.data_ptr(), tensor.half())
        for name, tensor in model.state_dict().items()
    }
    model.config.dtype = torch.float32
    model.save_pretrained(folder, state_dict=weights)


def _validation_losses(run: PretrainingRun, model: PreTrainedModel) -> dict[str, float]:
    return {name: mean_loss(model, batches) for name, batches in run.validation.items()}


def _check_rounding(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    for name, loss in before.items():
        if not abs(after[name] - loss) <= MAXIMUM_LOSS_CHANGE:
            raise PolicyError(
                f"rounding the weights to float16 changes the validation loss on {name} from "
                f"{loss:.4f} to {after[name]:.4f} nats per token; at most {MAXIMUM_LOSS_CHANGE} is "
                "allowed: train with more weight decay or a lower learning rate"
            )


def _training_log(
    run: PretrainingRun,
    name: str,
    settings: Mapping[str, Any],
    progress: Progress,
    losses: Mapping[str, float],
    losses_half: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "name": name,
        "architecture": type(run.model).__name__,
        "n_parameters": run.model.num_parameters(),
        "data": dict(run.data),
        "hyperparameters": settings,
        "precision": {"training": "float32 weights, bfloat16 autocast", "stored": "float16"},
        "steps": progress.step,
        "tokens_seen": progress.tokens,
        "wall_seconds": round(progress.wall_seconds, 1),
        "cpu_seconds": round(progress.cpu_seconds, 1),
        "n_threads": torch.get_num_threads(),
        "device": progress.device,
        "validation": {
            key: {
                "loss_float32": round(loss, 5),
                "loss_float16": round(losses_half[key], 5),
                "perplexity_float32": round(math.exp(loss), 3),
                "perplexity_float16": round(math.exp(losses_half[key]), 3),
            }
            for key, loss in losses.items()
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "transformers", "tokenizers")},
        },
    }
