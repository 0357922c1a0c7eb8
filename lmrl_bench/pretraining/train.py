"""Training loop: Muon and AdamW, bfloat16 autocast, and a checkpoint every two minutes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel

from lmrl_bench.pretraining.batches import IGNORED_LABEL, Batch, BatchSource, tokens_in
from lmrl_bench.pretraining.recipes import OptimizerRecipe

CHECKPOINT_SECONDS: Final = 120.0
LOG_EVERY: Final = 25

_log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        step: Number of updates.
        tokens: Tokens read or predicted, without padding.
        wall_seconds: Wall-clock time of the loop, over all sessions.
        cpu_seconds: CPU time of the loop.
        device: `cpu`, or the name of the accelerator.
        curve: One entry per `LOG_EVERY` steps: step, tokens, mean training loss in nats per token.
    """

    step: int = 0
    tokens: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    device: str = "cpu"
    curve: list[dict[str, float]] = field(default_factory=list)


def learning_rate(step: int, recipe: OptimizerRecipe) -> float:
    """Returns the learning rate of update `step` (from 0): linear warm-up, then half a cosine."""
    if step < recipe.warmup_steps:
        return recipe.peak_learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.n_steps - recipe.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return recipe.peak_learning_rate * (recipe.final_ratio + (1.0 - recipe.final_ratio) * cosine)


def build_optimizers(model: PreTrainedModel, recipe: OptimizerRecipe) -> list[Optimizer]:
    """Builds Muon for the matrices inside the layers and AdamW for embeddings and norms.

    Muon (Jordan 2024) orthogonalizes the momentum of a matrix; its steps are scaled to the root
    mean square of AdamW's (Liu et al. 2025), so that both share one learning rate.
    """
    embeddings = {
        id(weight)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
        for weight in module.parameters()
    }
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in embeddings]
    others = [p for p in model.parameters() if p.ndim != 2 or id(p) in embeddings]
    rate = recipe.peak_learning_rate
    return [
        torch.optim.Muon(
            matrices,
            lr=rate,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=rate, betas=recipe.betas, weight_decay=0.0, fused=True),
    ]


def train(
    model: PreTrainedModel,
    source: BatchSource,
    recipe: OptimizerRecipe,
    checkpoint: Path,
    device: str = "cpu",
) -> Progress:
    """Trains a model in place, resuming from `checkpoint` if it exists.

    Args:
        model: The model; its loss is the mean over the labels in nats.
        source: Batches by step.
        recipe: Optimizer settings and number of steps.
        checkpoint: File for model, optimizer and progress; replaced atomically.
        device: Device for training; the model is moved back to the CPU afterwards.

    Returns:
        The final progress.
    """
    model.to(device)  # type: ignore[arg-type]
    optimizers = build_optimizers(model, recipe)
    progress = _restore(model, optimizers, checkpoint) if checkpoint.is_file() else Progress()
    progress.device = torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu"
    model.train()
    wall, cpu = time.perf_counter(), time.process_time()
    last_save = wall
    losses: list[torch.Tensor] = []
    while progress.step < recipe.n_steps:
        batch = {name: ids.to(device) for name, ids in source.batch(progress.step).items()}
        losses.append(_update(model, optimizers, batch, recipe, progress.step))
        progress.step += 1
        progress.tokens += tokens_in(batch, seq2seq=model.config.is_encoder_decoder)
        now, cpu_now = time.perf_counter(), time.process_time()
        progress.wall_seconds += now - wall
        progress.cpu_seconds += cpu_now - cpu
        wall, cpu = now, cpu_now
        if progress.step % LOG_EVERY == 0:
            _note(progress, losses)
        if now - last_save > CHECKPOINT_SECONDS:
            _save(model, optimizers, progress, checkpoint)
            last_save = now
    _save(model, optimizers, progress, checkpoint)
    model.to("cpu")  # type: ignore[arg-type]
    return progress


@torch.no_grad()
def mean_loss(model: PreTrainedModel, batches: Sequence[Batch]) -> float:
    """Returns the loss in nats per predicted token over complete batches, in float32."""
    model.train(False)
    total, count = 0.0, 0
    for batch in batches:
        n_labels = _predicted(model, batch)
        total += float(model(**batch).loss) * n_labels
        count += n_labels
    return total / count


def batches_of(source: BatchSource, n_batches: int) -> Iterator[Batch]:
    """Yields the first batches of a source."""
    return (source.batch(step) for step in range(n_batches))


def _predicted(model: PreTrainedModel, batch: Batch) -> int:
    labels = batch["labels"] if model.config.is_encoder_decoder else batch["labels"][:, 1:]
    return int((labels != IGNORED_LABEL).sum())


def _update(
    model: PreTrainedModel,
    optimizers: list[Optimizer],
    batch: Batch,
    recipe: OptimizerRecipe,
    step: int,
) -> torch.Tensor:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
    with torch.autocast(model.device.type, dtype=torch.bfloat16):
        loss = model(**batch).loss
    model.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    for optimizer in optimizers:
        optimizer.step()
    detached: torch.Tensor = loss.detach()
    return detached


def _note(progress: Progress, losses: list[torch.Tensor]) -> None:
    loss = float(torch.stack(losses).mean())
    losses.clear()
    progress.curve.append(
        {"step": progress.step, "tokens": progress.tokens, "loss": round(loss, 4)}
    )
    _log.info(
        "step %d  loss %.3f  tokens %d  %.0f tokens/s",
        progress.step,
        loss,
        progress.tokens,
        progress.tokens / progress.wall_seconds,
    )


def _save(
    model: PreTrainedModel, optimizers: list[Optimizer], progress: Progress, checkpoint: Path
) -> None:
    temporary = checkpoint.with_suffix(".partial")
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "progress": vars(progress),
    }
    torch.save(state, temporary)
    temporary.replace(checkpoint)


def _restore(model: PreTrainedModel, optimizers: list[Optimizer], checkpoint: Path) -> Progress:
    state = torch.load(checkpoint, weights_only=True, map_location=model.device)
    model.load_state_dict(state["model"])
    for optimizer, optimizer_state in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(optimizer_state)
    progress = Progress(**state["progress"])
    _log.info("resumed %s at step %d", checkpoint, progress.step)
    return progress
