"""Where a run's policy starts: the base model, or the task's supervised policy, trained once and reused.

A supervised start is known by its recipe: what is learnt of the task, the supervised configuration and the
base model, all by content. A start with another recipe is another start. No torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmrl_bench.algorithms.schedules import sft_steps
from lmrl_bench.config.run import PolicyConfig, RunConfig, training_digest
from lmrl_bench.core.digests import digest
from lmrl_bench.core.errors import LmrlBenchError, PolicyError
from lmrl_bench.core.paths import PACKAGE, public_name
from lmrl_bench.downloads.store import cache_root
from lmrl_bench.models.fingerprints import ModelDigests, local_digests, model_digests
from lmrl_bench.planning.resolve import resolve_unchecked, settings_file
from lmrl_bench.records.expected import ExpectedRun, ExpectedStart
from lmrl_bench.records.seal import seal_problem
from lmrl_bench.records.store import RECORD, damaged
from lmrl_bench.tasks.task import Task

SHIPPED = PACKAGE / "policies" / "weights"


@dataclass(frozen=True)
class Start:
    """A start policy.

    Attributes:
        location: folder or hub id that `LanguageModelPolicy.load` takes.
        model: the base model's name.
        kind: base, or supervised on the task.
        digests: of the start itself.
        base: of the base model; equal to `digests` for a base start.
        recipe: of a supervised start; see `start_recipe`.
    """

    location: str
    model: str
    kind: Literal["base", "supervised"]
    digests: ModelDigests
    base: ModelDigests
    recipe: str | None = None

    @property
    def key(self) -> str:
        """The content that a run starts from, for checkpoints."""
        return f"{self.digests.weights}/{self.digests.tokenizer}"


def find_start(task: Task, policy: PolicyConfig) -> Start:
    """Returns the start of a run.

    Raises:
        AssetError: The base model is an asset that is not installed.
        PolicyError: There is no such base model; the supervised policy does not exist yet (see
            `ensure_start`); or the shipped one was made from other weights.
    """
    found = existing_start(task, policy)
    if found is not None:
        return found
    model = policy.model or task.spec.policies.default
    raise PolicyError(
        f"task '{task.name}' has no supervised policy for '{model}' yet; `lmrl-bench run` and `leaderboard run` train "
        f"it once, before the first run that starts from it (lmrl-bench run --task {task.name} --algorithm ppo "
        f"--policy {model}), or start from the base model with --set policy.start=base"
    )


def existing_start(task: Task, policy: PolicyConfig) -> Start | None:
    """As `find_start`, but returns None where the supervised policy has yet to be trained."""
    model = policy.model or task.spec.policies.default
    base = model_digests(model, policy.revision)
    if policy.start == "base":
        return Start(model, model, "base", base, base)
    folder = shipped_start(task, policy, base)
    if folder is None or not (folder / "config.json").exists():
        folder = trained_start(task, policy, base)
        if not _finished(folder):
            return None
    found, recipe = model_digests(str(folder)), start_recipe(task, policy, base)
    return Start(str(folder), model, "supervised", found, base, recipe)


def _finished(folder: Path) -> bool:
    """Whether the training of a start has ended and none of its files is damaged since; else it is trained again."""
    return (
        (folder / "config.json").exists()
        and (folder.parent / RECORD).exists()
        and damaged(folder.parent) is None
        and seal_problem(folder) is None
    )


def supervised_config(task: Task, policy: PolicyConfig) -> RunConfig:
    """Returns the resolved configuration that trains the supervised start of a policy.

    With `policy.adapter` the start is learned with such an adapter too, which is then merged into its weights: who
    cannot train all weights need not do so for the start either. The recipe says so, as it holds this configuration.
    """
    model = policy.model or task.spec.policies.default
    return resolve_unchecked(
        task,
        {
            "algorithm": {"name": "supervised"},
            "policy": {
                "model": model,
                "revision": policy.revision,
                "start": "base",
                "adapter": policy.adapter.model_dump() if policy.adapter else None,
            },
        },
    )


def start_words(task: Task, policy: PolicyConfig) -> str:
    """Returns what training the supervised start of a policy takes, how to shorten it and how to skip it."""
    config = supervised_config(task, policy)
    settings = config.algorithm.model_dump()
    samples = len(task.supervised_samples())
    steps = sft_steps(samples, settings["epochs"], settings["batch_size"], settings["max_steps"])
    model = public_name(policy.model or task.spec.policies.default)
    file = settings_file(task, "supervised", policy.model)
    adapter = f", with a LoRA adapter of rank {policy.adapter.rank}" if policy.adapter else ""
    return (
        f"task '{task.name}' has no supervised start for '{model}' yet: {steps:,} steps of {settings['batch_size']} "
        f"samples ({samples:,} samples){adapter}, trained once and kept in {trained_start(task, policy).parent}. "
        f"To shorten it, {_shorter(steps, file)}; to skip it, --set policy.start=base"
    )


def _shorter(steps: int, file: Path) -> str:
    """How to train fewer steps; an order of magnitude as the example, never more than there are."""
    fewer = min(200, max(1, steps // 4))
    how = "lower `max_steps` in" if file.is_file() else "set `max_steps` in"
    return f"{how} {file}, for example `algorithm: {{max_steps: {fewer}}}`"


def start_state(task: Task, policy: PolicyConfig) -> str:
    """Returns one line for `--dry-run`: what a run starts from, or what has to be trained or fixed first."""
    try:
        found = existing_start(task, policy)
    except LmrlBenchError as error:
        return f"start: not available: {error}"
    if found is None:
        return f"start: {start_words(task, policy)}"
    if found.kind == "base":
        return f"start: the base model '{public_name(found.model)}'"
    how = "shipped" if found.location.startswith(str(SHIPPED)) else "trained here before"
    return f"start: the supervised policy, {how} ({found.location})"


def start_recipe(task: Task, policy: PolicyConfig, base: ModelDigests) -> str:
    """Returns the sha256 (hex) of what makes a supervised start: task, configuration, base model."""
    config = supervised_config(task, policy)
    return digest(
        [
            task.learning_digest,
            training_digest(config.scientific()),
            config.seed,
            base.weights,
            base.tokenizer,
        ]
    )


def shipped_start(task: Task, policy: PolicyConfig, base: ModelDigests) -> Path | None:
    """Returns the shipped supervised policy if it was made for this task with these settings.

    Raises:
        PolicyError: It was, but from other base weights.
    """
    folder = SHIPPED / f"{policy.model or task.spec.policies.default}--{task.name}"
    facts = _made_of(folder)
    if not facts or _other_purpose(task, policy, facts):
        return None
    if facts.get("base_weights_sha256") != base.weights:
        raise PolicyError(
            f"{folder}: this supervised start was made from other weights of "
            f"'{policy.model or task.spec.policies.default}' than the installed ones; train it again "
            f"(lmrl-bench run --task {task.name} --algorithm supervised --set runtime.keep_policy=true "
            "--out RUN, then python -m lmrl_bench.pretraining start RUN), or remove the folder, and "
            "it is trained into the cache when it is first needed"
        )
    return folder


def why_not_shipped(task: Task, policy: PolicyConfig) -> str | None:
    """Returns why a shipped start is passed over, or None if there is none or it fits."""
    folder = SHIPPED / f"{policy.model or task.spec.policies.default}--{task.name}"
    facts = _made_of(folder)
    other = _other_purpose(task, policy, facts) if facts else None
    return f"the shipped start {folder.name} was made for {other}" if other else None


def trained_start(task: Task, policy: PolicyConfig, base: ModelDigests | None = None) -> Path:
    """Returns the cache folder of the supervised policy, named by its recipe.

    What was trained with an adapter is kept as such in `policy` and used from `merged`.
    """
    model = policy.model or task.spec.policies.default
    base = base or model_digests(model, policy.revision)
    key = start_recipe(task, policy, base)[:12]
    return (
        cache_root() / "starts" / f"{task.name}-{key}" / ("merged" if policy.adapter else "policy")
    )


def expected_run(task: Task, config: RunConfig) -> ExpectedRun:
    """Returns what a record must say to count as this run, as far as this machine can know it."""
    return ExpectedRun(
        config=config.scientific(),
        task_version=task.spec.version,
        task_digest=task.digest,
        start=_expected_start(task, config.policy),
        score_range=task.spec.score_range,
    )


def _expected_start(task: Task, policy: PolicyConfig) -> ExpectedStart:
    """A start that is trained here may have other bits than one trained elsewhere from the same recipe."""
    base = local_digests(policy.model or task.spec.policies.default, policy.revision)
    if base is None:
        return ExpectedStart()
    if policy.start == "base":
        return ExpectedStart(base.weights, base.tokenizer, base.weights)
    recipe = start_recipe(task, policy, base)
    shipped = shipped_start(task, policy, base)
    if shipped is None:
        return ExpectedStart(base_weights=base.weights, recipe=recipe)
    found = model_digests(str(shipped))
    return ExpectedStart(found.weights, found.tokenizer, base.weights, recipe)


def _made_of(folder: Path) -> dict[str, Any]:
    """What the training log of a shipped start says; empty if there is no such start."""
    log = folder / "training.json"
    facts: dict[str, Any] = json.loads(log.read_text(encoding="utf-8")) if log.exists() else {}
    return facts


def _other_purpose(task: Task, policy: PolicyConfig, facts: dict[str, Any]) -> str | None:
    """Returns for what else a shipped start was made, or None if it was made for this."""
    if facts.get("task", {}).get("learning_digest") != task.learning_digest:
        return "other data, prompts or responses of the task (their digest differs)"
    if facts.get("training_sha256") != training_digest(
        supervised_config(task, policy).scientific()
    ):
        return "other supervised settings (their digest differs)"
    return None
