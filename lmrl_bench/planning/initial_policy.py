"""The policy that a run starts from: the base model, or the task's SFT policy, trained once and reused.

An SFT policy is known by its recipe: what is learned of the task, the SFT configuration and the base
model, all by content. Some are shipped with the package; any other one is trained into the cache. No torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lmrl_bench.algorithms.schedules import sft_steps
from lmrl_bench.artifacts.recipe import Recipe
from lmrl_bench.config.run import PolicyConfig, RunConfig, training_digest
from lmrl_bench.core.errors import LmrlBenchError, PolicyError
from lmrl_bench.core.events import Listener
from lmrl_bench.core.paths import public_name
from lmrl_bench.models import names
from lmrl_bench.models.fingerprints import ModelDigests, local_digests, model_digests
from lmrl_bench.planning.resolve import resolve_unchecked, settings_file
from lmrl_bench.records.expected import ExpectedInitialPolicy
from lmrl_bench.tasks.task import Task

SFT = "sft"


class OtherWeightsError(PolicyError):
    """A shipped SFT policy was made from other weights of its base model than the installed ones."""


class SftSource(NamedTuple):
    """The source of an SFT policy: its configuration, and the folder of its task.

    `passed_over` says why a shipped one is not used.
    """

    config: RunConfig
    task_folder: Path
    passed_over: str | None


@dataclass(frozen=True)
class InitialPolicy:
    """The policy that a run starts from, as far as it is known before the run.

    Attributes:
        policy: The policy's configuration, which names the base model.
        kind: The base model itself, or sft on the task.
        base: Digests of the base model; None if it is not on this machine.
        digests: Digests of the initial policy; None if it has yet to be trained or downloaded.
        location: Folder or hub id that `LanguageModelPolicy.load` takes; None like `digests`.
        recipe: What makes an SFT policy; None for a base model.
        shipped: Whether the package brings the SFT policy.
        problem: Why the run cannot start.
    """

    policy: PolicyConfig
    kind: Literal["base", "sft"]
    base: ModelDigests | None = None
    digests: ModelDigests | None = None
    location: str | None = None
    recipe: Recipe | None = None
    shipped: bool = False
    problem: LmrlBenchError | None = None

    @property
    def model(self) -> str:
        """The base model, as the configuration names it."""
        return str(self.policy.model)

    @property
    def revision(self) -> str | None:
        """The pinned revision of a hub id, where the base model itself is loaded."""
        return self.policy.revision if self.kind == "base" else None

    @property
    def state(self) -> Literal["ready", "to be trained", "not available"]:
        """Whether a run can start from it now, or once it is trained, or not on this machine as it is."""
        if self.digests is not None:
            return "ready"
        return "not available" if self.problem or self.recipe is None else "to be trained"

    @property
    def key(self) -> str:
        """The content that a run starts from, for checkpoints; only of a policy that is ready."""
        assert self.digests is not None
        return f"{self.digests.weights}/{self.digests.tokenizer}"

    @property
    def expected(self) -> ExpectedInitialPolicy:
        """The facts that a record must state about it.

        A policy that is trained here may have other bits than one trained elsewhere from the same recipe, so its
        weights are not compared.
        """
        if self.base is None:
            return ExpectedInitialPolicy()
        if self.recipe is None:
            return ExpectedInitialPolicy(self.base.weights, self.base.tokenizer, self.base.weights)
        exact = self.digests if self.shipped else None
        weights, tokenizer = (exact.weights, exact.tokenizer) if exact else (None, None)
        return ExpectedInitialPolicy(weights, tokenizer, self.base.weights, self.recipe.fingerprint)

    def require_fitting(self) -> None:
        """Proves that no shipped policy was made from other weights of the base model.

        Raises:
            OtherWeightsError: One was.
        """
        if isinstance(self.problem, OtherWeightsError):
            raise self.problem


def find_initial_policy(task: Task, policy: PolicyConfig) -> InitialPolicy:
    """Returns the initial policy of a resolved configuration; nothing is trained or downloaded.

    What is wrong with it becomes its `problem`, since the record of a finished run may count all the same.
    """
    assert policy.model is not None  # `resolve` writes the task's default out
    return _find(task, policy, local_digests(policy.model, policy.revision))


def ready(task: Task, found: InitialPolicy, progress: Listener, *, train: bool) -> InitialPolicy:
    """Returns the initial policy, ready to be loaded; downloads or trains it first if need be.

    Args:
        task: The run's task.
        found: From `find_initial_policy`; another process may have trained it since.
        progress: Takes the events of its training.
        train: Whether it may be trained.

    Raises:
        DownloadError: The base model is a download that is not installed.
        PolicyError: There is no such base model; the SFT policy does not exist and may not be, or was not,
            trained; the shipped one was made from other weights; or the files have changed since.
        KeyboardInterrupt: The user stopped the training; it resumes with the next call.
    """
    found.require_fitting()
    if found.base is None:
        found = _find(
            task, found.policy, model_digests(found.model, found.policy.revision)
        )  # may ask a hub
        found.require_fitting()
    if found.recipe is not None and not found.shipped:
        # Also builds what is there already: a kill at the very end may have left something to tidy up.
        place = found.recipe.build(progress) if train else found.recipe.find()
        if place is None:
            raise PolicyError(_missing(task, found))
        return replace(found, location=str(place), digests=model_digests(str(place)))
    assert found.location is not None
    if found.digests != model_digests(found.location, found.revision):
        raise PolicyError(
            f"{found.location}: the policy has changed since the run was planned; run the command again"
        )
    return found


def _find(task: Task, policy: PolicyConfig, base: ModelDigests | None) -> InitialPolicy:
    model = str(policy.model)
    if policy.init == "base":
        location = None if base is None else model
        return InitialPolicy(policy, "base", base, base, location)
    if base is None:
        return InitialPolicy(policy, "sft")
    recipe = sft_recipe(task, policy, base)
    found = InitialPolicy(policy, "sft", base, recipe=recipe)
    folder = names.SHIPPED / f"{model}--{task.name}"
    if _made_of(folder) and not recipe.source.passed_over and (folder / "config.json").exists():
        if reason := _other_weights(task, model, folder, base):
            return replace(found, problem=reason)
        digests = model_digests(str(folder))
        return replace(found, digests=digests, location=str(folder), shipped=True)
    place = recipe.find()
    if place is None:
        return found
    return replace(found, digests=model_digests(str(place)), location=str(place))


def sft_config(task: Task, policy: PolicyConfig) -> RunConfig:
    """Returns the resolved configuration that trains the SFT policy of a model.

    With `policy.adapter` it is trained with such an adapter too, which is then merged into its weights: who cannot
    train all weights need not do so here either. The recipe says so, as it holds this configuration.
    """
    return resolve_unchecked(
        task,
        {
            "algorithm": {"name": "sft"},
            "policy": {
                "model": policy.model,
                "revision": policy.revision,
                "init": "base",
                "adapter": policy.adapter.model_dump() if policy.adapter else None,
            },
        },
    )


def sft_recipe(task: Task, policy: PolicyConfig, base: ModelDigests) -> Recipe:
    """Returns what makes an SFT policy: task, configuration, base model."""
    config = sft_config(task, policy)
    return Recipe(
        kind=SFT,
        name=task.name,
        inputs={
            "task": task.learning_digest,
            "config": training_digest(config.scientific()),
            "seed": config.seed,
            "base weights": base.weights,
            "base tokenizer": base.tokenizer,
        },
        source=SftSource(config, task.folder, _passed_over(task, str(policy.model), config)),
    )


def _made_of(folder: Path) -> dict[str, Any]:
    """Returns the training log of a shipped policy; empty if there is no such policy."""
    log = folder / "training.json"
    facts: dict[str, Any] = json.loads(log.read_text(encoding="utf-8")) if log.exists() else {}
    return facts


def _passed_over(task: Task, model: str, config: RunConfig) -> str | None:
    """Returns for what else a shipped policy was made; None if there is none, or if it fits."""
    folder = names.SHIPPED / f"{model}--{task.name}"
    facts = _made_of(folder)
    if not facts:
        return None
    made_for = f"the shipped SFT policy {folder.name} was made for"
    if facts.get("task", {}).get("learning_digest") != task.learning_digest:
        return f"{made_for} other data, prompts or completions of the task (their digest differs)"
    if facts.get("training_sha256") != training_digest(config.scientific()):
        return f"{made_for} other SFT settings (their digest differs)"
    return None


def _other_weights(
    task: Task, model: str, folder: Path, base: ModelDigests
) -> OtherWeightsError | None:
    if _made_of(folder).get("base_weights_sha256") == base.weights:
        return None
    return OtherWeightsError(
        f"{folder}: this SFT policy was made from other weights of '{model}' than the installed ones; "
        f"train it again (lmrl-bench run --task {task.name} --algorithm sft --set runtime.keep_policy=true "
        "--out RUN, then python -m lmrl_bench.pretraining start RUN), or remove the folder, and it is trained "
        "into the cache when it is first needed"
    )


def _missing(task: Task, found: InitialPolicy) -> str:
    return (
        f"task '{task.name}' has no SFT policy for '{found.model}' yet; `lmrl-bench run` and "
        "`leaderboard run` train it once, before the first run that starts from it "
        f"(lmrl-bench run --task {task.name} --algorithm ppo --policy {found.model}), or start from the base model "
        "with --set policy.init=base"
    )


def training_words(task: Task, recipe: Recipe) -> str:
    """Returns what training the SFT policy takes, how to shorten it and how to skip it."""
    config: RunConfig = recipe.source.config
    policy, settings = config.policy, config.algorithm.model_dump()
    samples = len(task.sft_samples()[: settings.get("max_samples")])
    steps = sft_steps(samples, settings["epochs"], settings["batch_size"], settings["max_steps"])
    file = settings_file(task, "sft", policy.model)
    adapter = f", with a LoRA adapter of rank {policy.adapter.rank}" if policy.adapter else ""
    return (
        f"task '{task.name}' has no SFT policy for '{public_name(str(policy.model))}' yet: {steps:,} steps of "
        f"{settings['batch_size']} samples ({samples:,} samples){adapter}, trained once and kept in "
        f"{recipe.folder}. To shorten it, {_shorter(steps, file)}; to skip it, --set policy.init=base"
    )


def _shorter(steps: int, file: Path) -> str:
    """How to train fewer steps; an order of magnitude as the example, never more than there are."""
    fewer = min(200, max(1, steps // 4))
    how = "lower `max_steps` in" if file.is_file() else "set `max_steps` in"
    return f"{how} {file}, for example `algorithm: {{max_steps: {fewer}}}`"


def state_line(task: Task, found: InitialPolicy) -> str:
    """Returns one line for `--dry-run`: what a run starts from, or what has to be trained or fixed first."""
    try:
        if found.problem:
            raise found.problem
        if found.base is None:
            found = _find(task, found.policy, model_digests(found.model, found.policy.revision))
    except LmrlBenchError as error:
        return f"initial policy: not available: {error}"
    if found.digests is None and found.recipe is not None:
        return f"initial policy: {training_words(task, found.recipe)}"
    if found.kind == "base":
        return f"initial policy: the base model '{public_name(found.model)}'"
    how = "shipped" if found.shipped else "trained here before"
    return f"initial policy: the SFT policy, {how} ({found.location})"
