"""Where a run's policy starts: the base model, or the task's supervised policy, trained once and reused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmrl_bench.assets.store import cache_root
from lmrl_bench.config.run import PolicyConfig
from lmrl_bench.digests import digest
from lmrl_bench.errors import PolicyError
from lmrl_bench.paths import PACKAGE
from lmrl_bench.runs.progress import Listener, silent
from lmrl_bench.runs.resolve import resolve
from lmrl_bench.tasks.task import Task

SHIPPED = PACKAGE / "policies" / "assets"


@dataclass(frozen=True)
class Start:
    """A start policy.

    Attributes:
        location: folder or hub id that `LanguageModelPolicy.load` takes.
        model: the base model's name.
        kind: base, or supervised on the task.
    """

    location: str
    model: str
    kind: Literal["base", "supervised"]


def find_start(task: Task, policy: PolicyConfig) -> Start:
    """Returns the start of a run.

    Raises:
        PolicyError: The supervised policy does not exist yet (see `ensure_start`).
    """
    model = policy.model or task.spec.policies.default
    if policy.start == "base":
        return Start(model, model, "base")
    for folder in (shipped_start(task, model), trained_start(task, policy)):
        if folder is not None and (folder / "config.json").exists():
            return Start(str(folder), model, "supervised")
    raise PolicyError(
        f"task '{task.name}' has no supervised policy for '{model}' yet; `lmrl-bench run` and `bench` train "
        f"it once, before the first run that starts from it (lmrl-bench run --task {task.name} --algorithm ppo "
        f"--policy {model}), or start from the base model with --set policy.start=base"
    )


def ensure_start(task: Task, policy: PolicyConfig, progress: Listener = silent) -> Start:
    """Returns the start of a run; trains the supervised policy first if nobody has.

    Raises:
        LmrlBenchError: It cannot be trained.
        KeyboardInterrupt: The user stopped the training; it resumes with the next call.
    """
    try:
        return find_start(task, policy)
    except PolicyError:
        if policy.start == "base":
            raise
    from lmrl_bench.runs.execute import execute

    given = {
        "algorithm": {"name": "supervised"},
        "policy": {"model": policy.model, "revision": policy.revision, "start": "base"},
        "runtime": {"output": str(trained_start(task, policy).parent), "keep_policy": True},
    }
    record = execute(resolve(task, given), task, progress=progress)
    if record.status == "interrupted":
        raise KeyboardInterrupt
    if record.status != "completed":
        message = record.error.message if record.error else record.status
        raise PolicyError(f"the supervised policy of '{task.name}' was not trained: {message}")
    return find_start(task, policy)


def shipped_start(task: Task, model: str) -> Path | None:
    """Returns the shipped supervised policy if it was made for this version of the task."""
    folder = SHIPPED / f"{model}--{task.name}"
    facts = folder / "training.json"
    if not facts.exists():
        return None
    made_for = json.loads(facts.read_text(encoding="utf-8")).get("task", {})
    return folder if made_for.get("version") == task.spec.version else None


def trained_start(task: Task, policy: PolicyConfig) -> Path:
    """Returns the cache folder of the supervised policy, named by everything that defines it."""
    model = policy.model or task.spec.policies.default
    given = {"algorithm": {"name": "supervised"}, "policy": {"model": model, "start": "base"}}
    key = digest([task.digest, resolve(task, given).scientific(), policy.revision])[:12]
    return cache_root() / "starts" / f"{task.name}-{key}" / "policy"
