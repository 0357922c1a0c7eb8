"""The training loop: Muon and AdamW, bfloat16 autocast, a checkpoint every two minutes."""

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
from lmrl_bench.pretraining.recipes import OptimiserRecipe

CHECKPOINT_SECONDS: Final = 120.0
LOG_EVERY: Final = 25

_log = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a run has done so far.

    Attributes:
        step: Updates made.
        tokens: Tokens read or predicted, padding excluded.
        wall_seconds: Wall-clock time of the loop, over all its resumptions.
        cpu_seconds: Processor time of the loop.
        device: Where the model was trained: `cpu`, or the name of the accelerator.
        curve: One entry per `LOG_EVERY` steps: step, tokens, mean training loss in nats per token.
    """

    step: int = 0
    tokens: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    device: str = "cpu"
    curve: list[dict[str, float]] = field(default_factory=list)


def learning_rate(step: int, recipe: OptimiserRecipe) -> float:
    """Return the learning rate of update `step` (from 0): linear warm-up, then half a cosine."""
    if step < recipe.warmup_steps:
        return recipe.peak_learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.n_steps - recipe.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return recipe.peak_learning_rate * (recipe.final_ratio + (1.0 - recipe.final_ratio) * cosine)


def build_optimisers(model: PreTrainedModel, recipe: OptimiserRecipe) -> list[Optimizer]:
    """Build Muon for the matrices inside the layers and AdamW for embeddings and norms.

    Muon (Jordan 2024) orthogonalises the momentum of a matrix; its steps are scaled to the root
    mean square of AdamW's (Liu et al. 2025), so that one learning rate serves both.
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
    recipe: OptimiserRecipe,
    checkpoint: Path,
    device: str = "cpu",
) -> Progress:
    """Train a model in place, going on from `checkpoint` where it exists.

    Args:
        model: The model; its loss is the mean over the labels in nats.
        source: Batches by step.
        recipe: Optimiser settings and number of steps.
        checkpoint: File for model, optimiser and progress; replaced as a whole.
        device: Where the model is trained; it comes back on the processor.

    Returns:
        The progress at the end.
    """
    model.to(device)  # type: ignore[arg-type]
    optimisers = build_optimisers(model, recipe)
    progress = _restore(model, optimisers, checkpoint) if checkpoint.is_file() else Progress()
    progress.device = torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu"
    model.train()
    wall, cpu = time.perf_counter(), time.process_time()
    last_save = wall
    losses: list[torch.Tensor] = []
    while progress.step < recipe.n_steps:
        batch = {name: ids.to(device) for name, ids in source.batch(progress.step).items()}
        losses.append(_update(model, optimisers, batch, recipe, progress.step))
        progress.step += 1
        progress.tokens += tokens_in(batch)
        now, cpu_now = time.perf_counter(), time.process_time()
        progress.wall_seconds += now - wall
        progress.cpu_seconds += cpu_now - cpu
        wall, cpu = now, cpu_now
        if progress.step % LOG_EVERY == 0:
            _note(progress, losses)
        if now - last_save > CHECKPOINT_SECONDS:
            _save(model, optimisers, progress, checkpoint)
            last_save = now
    _save(model, optimisers, progress, checkpoint)
    model.to("cpu")  # type: ignore[arg-type]
    return progress


@torch.no_grad()
def mean_loss(model: PreTrainedModel, batches: Sequence[Batch]) -> float:
    """Return the loss in nats per predicted token over whole batches, in float32."""
    model.train(False)
    total, count = 0.0, 0
    for batch in batches:
        n_labels = _predicted(model, batch)
        total += float(model(**batch).loss) * n_labels
        count += n_labels
    return total / count


def batches_of(source: BatchSource, n_batches: int) -> Iterator[Batch]:
    """Yield the first batches of a source."""
    return (source.batch(step) for step in range(n_batches))


def _predicted(model: PreTrainedModel, batch: Batch) -> int:
    labels = batch["labels"] if model.config.is_encoder_decoder else batch["labels"][:, 1:]
    return int((labels != IGNORED_LABEL).sum())


def _update(
    model: PreTrainedModel,
    optimisers: list[Optimizer],
    batch: Batch,
    recipe: OptimiserRecipe,
    step: int,
) -> torch.Tensor:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, recipe)
    with torch.autocast(model.device.type, dtype=torch.bfloat16):
        loss = model(**batch).loss
    model.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    for optimiser in optimisers:
        optimiser.step()
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
    model: PreTrainedModel, optimisers: list[Optimizer], progress: Progress, checkpoint: Path
) -> None:
    temporary = checkpoint.with_suffix(".partial")
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "progress": vars(progress),
    }
    torch.save(state, temporary)
    temporary.replace(checkpoint)


def _restore(model: PreTrainedModel, optimisers: list[Optimizer], checkpoint: Path) -> Progress:
    state = torch.load(checkpoint, weights_only=True, map_location=model.device)
    model.load_state_dict(state["model"])
    for optimiser, optimiser_state in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(optimiser_state)
    progress = Progress(**state["progress"])
    _log.info("resumed %s at step %d", checkpoint, progress.step)
    return progress
