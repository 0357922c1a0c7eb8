"""SFT policies as artifacts: each the result of one run, kept in the cache with its record and a seal."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from lmrl_bench.artifacts.recipe import ArtifactKind, Recipe
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import PolicyError, RecordError
from lmrl_bench.core.events import Event, Listener, of_an_sft_policy
from lmrl_bench.planning.folders import POLICY, untidy
from lmrl_bench.planning.initial_policy import SftSource, training_words
from lmrl_bench.planning.plan import RerunPolicy, plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.records.files import remove_leftovers
from lmrl_bench.records.lock import RunLock
from lmrl_bench.records.seal import seal_problem, write_seal
from lmrl_bench.records.store import RECORD, damaged
from lmrl_bench.tasks.catalog import load_task

MERGED = "merged"
"""Folder of what was trained with an adapter, which is then merged into the weights."""


class _SftPolicies:
    def find(self, recipe: Recipe) -> Path | None:
        """Returns the policy's folder once its training has ended, if none of its files is damaged since."""
        place = _place(recipe)
        whole = (
            (place / "config.json").exists()
            and (recipe.folder / RECORD).exists()
            and damaged(recipe.folder) is None
            and seal_problem(place) is None
        )
        return place if whole else None

    def build(self, recipe: Recipe, progress: Listener) -> Path:
        """Trains the policy, unless it exists.

        Raises:
            PolicyError: Its training failed.
            KeyboardInterrupt: The user stopped the training; it resumes with the next call.
        """
        place = self.find(recipe)
        if place is not None:
            _tidy(recipe.folder)
            return place
        _train(recipe, progress)
        return _place(recipe)


SFT_POLICIES: Final[ArtifactKind] = _SftPolicies()


def _place(recipe: Recipe) -> Path:
    return recipe.folder / (MERGED if _config(recipe).policy.adapter else POLICY)


def _config(recipe: Recipe) -> RunConfig:
    source: SftSource = recipe.source
    return source.config


def _train(recipe: Recipe, progress: Listener) -> None:
    from lmrl_bench.policies.export import merge_adapter
    from lmrl_bench.runs.execute import execute

    source: SftSource = recipe.source
    task = load_task(source.task_folder)
    progress = of_an_sft_policy(progress)
    name = f"{task.name}/sft/{source.config.seed}"
    if source.passed_over:
        progress(Event(name, "note", text=f"{source.passed_over}; training one"))
    progress(Event(name, "note", text=training_words(task, recipe)))
    config = _config(recipe).model_dump(mode="json")
    config["runtime"] |= {"output": str(recipe.folder), "keep_policy": True}
    # Nothing in the cache is the user's, and the same policy comes out.
    rerun = RerunPolicy.FAILED | RerunPolicy.STALE
    record = execute(plan_run(task, resolve(task, config), rerun=rerun), progress=progress)
    if record.status == "interrupted":
        raise KeyboardInterrupt
    if record.status != "completed":
        message = record.error.message if record.error else record.status
        raise PolicyError(f"the SFT policy of '{task.name}' was not trained: {message}")
    place = _place(recipe)
    if place.name == MERGED:
        merge_adapter(recipe.folder / POLICY, place)
        write_seal(place)


def _tidy(folder: Path) -> None:
    """Removes what a kill at its very end left of a finished run, unless another process is at work there."""
    from lmrl_bench.runs.checkpoint import remove_checkpoint

    if untidy(folder):
        with contextlib.suppress(RecordError), RunLock(folder):
            remove_leftovers(folder)
            remove_checkpoint(folder)
