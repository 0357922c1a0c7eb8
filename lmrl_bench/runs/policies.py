"""Uses of a trained policy: export it, sample from it, evaluate it.

Each function takes the folder of a run that kept its policy (`--keep-policy`), the folder of any policy, or a name that
`--policy` takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lmrl_bench.config.loading import Located
from lmrl_bench.config.run import RunConfig
from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.errors import ConfigError, LmrlBenchError, PolicyError
from lmrl_bench.core.seeding import derive_seed
from lmrl_bench.core.strict_json import Fact
from lmrl_bench.data.sample import Sample
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.models.names import resolve_model
from lmrl_bench.planning.folders import POLICY
from lmrl_bench.planning.plan import RerunPolicy, RunPlan, plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.policies.export import export_policy as write_policy
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.records.record import RunRecord, SplitResults
from lmrl_bench.records.store import CONFIG, RECORD, read_record
from lmrl_bench.runs.evaluate import respond
from lmrl_bench.runs.execute import execute
from lmrl_bench.runs.session import load_initial_policy, make_codec, open_session
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task


@dataclass(frozen=True)
class SampledCompletion:
    """One one of a policy.

    Attributes:
        prompt: What the policy read.
        completion: What it answered.
        references: The task's references; empty for a prompt that is not the task's.
        terminated: Whether it ended by itself, and not at the task's limit.
        reward: The task's reward, where it was asked for.
        info: What the reward says besides, by name.
    """

    prompt: str
    completion: str
    references: tuple[str, ...]
    terminated: bool
    reward: float | None = None
    info: dict[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyResults:
    """The numbers of a policy on the test split.

    Attributes:
        results: By decoding: test, and test-greedy.
        kl_to_initial: True if the KL is to the initial policy of the run; otherwise it is to the policy itself,
            and 0.
        remarks: What a reader of the numbers should know.
    """

    results: dict[str, SplitResults]
    kl_to_initial: bool
    remarks: list[str]


def load_policy(
    place: str | Path, task: str | Path | None = None, *, device: str = "cpu"
) -> LanguageModelPolicy:
    """Loads a policy for a task: network, tokenizer, decoding limits.

    Args:
        place: Folder of a run that kept its policy, folder of any policy, or a model's name.
        task: Task name or folder; may be left out for a run.
        device: Where to compute.

    Raises:
        LmrlBenchError: There is no such policy or task, or they do not fit.
    """
    return load_initial_policy(_planned(place, task, 0, device).prepared())


def export_policy(place: str | Path, out: str | Path, *, merge_adapter: bool = False) -> Path:
    """Writes a policy as an ordinary Hugging Face folder (model and tokenizer, no critic) and returns it.

    Args:
        place: Folder of a run, or a policy.
        out: Folder to write.
        merge_adapter: Merge a LoRA adapter into its base model, so that `from_pretrained` needs neither.

    Raises:
        PolicyError: There is no policy, `out` is not empty, or the result could not be loaded elsewhere.
    """
    write_policy(policy_of(place), Path(out), merge=merge_adapter)
    return Path(out)


def sample(
    place: str | Path,
    task: str | Path | None = None,
    *,
    prompt: str | None = None,
    n: int = 3,
    temperature: float | None = None,
    greedy: bool = False,
    reward: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> list[SampledCompletion]:
    """Draws drawn from a policy.

    Args:
        place: Folder of a run, or a policy.
        task: Whose prompts, limits and decoding apply; may be left out for a run.
        prompt: Draw `n` drawn to this text, which the policy reads as it is; default: one one to each of the
            first `n` prompts of the test split.
        n: Completions.
        temperature: Replaces that of the task's decoding.
        greedy: Take the most probable tokens.
        reward: Also score the drawn with the task's reward.
        seed: Of the random numbers.
        device: Where to compute.

    Raises:
        LmrlBenchError: There is no such policy or task, or they do not fit.
    """
    if n < 1:
        raise ConfigError(f"--n is {n}; ask for at least one one")
    if reward and prompt is not None:
        raise ConfigError("--reward scores drawn to the task's own prompts; leave out --prompt")
    plan = _planned(place, task, seed, device, temperature=temperature)
    loaded, policy = plan.task, load_initial_policy(plan.prepared())
    codec = make_codec(loaded, policy)
    samples = list(loaded.samples("test")[:n])
    if prompt is not None:
        # Who types a prompt writes it as a template does, control tokens included.
        samples = [Sample("prompt", prompt, (), written=((0, len(prompt)),))] * n
    sampling = plan.config.evaluation.sampling(loaded.spec.decoding)
    sampling = SamplingConfig(temperature=sampling.temperature, greedy=greedy or sampling.greedy)
    rng = torch.Generator().manual_seed(derive_seed(seed, "sample"))
    prompts, completions, _ = respond(loaded, codec, policy, samples, sampling, rng)
    texts = codec.decode(completions.ids, completions.mask)
    ended = completions.terminated.tolist()
    drawn = [
        SampledCompletion(row.prompt, text, tuple(row.references), bool(end))
        for row, text, end in zip(samples, texts, ended, strict=True)
    ]
    if not reward:
        return drawn
    outcome = EpisodeCore(loaded, codec, split="test").outcome(prompts, completions)
    return [
        replace(
            one,
            reward=float(outcome.totals[number]),
            info={name: facts[number] for name, facts in outcome.info.items()},
        )
        for number, one in enumerate(drawn)
    ]


def evaluate(
    place: str | Path,
    task: str | Path | None = None,
    *,
    samples: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    device: str = "cpu",
    out: str | Path | None = None,
) -> PolicyResults:
    """Evaluates a policy on the test split; of a run's policy, the numbers are those of the run's record.

    Args:
        place: Folder of a run, or a policy.
        task: Task name or folder; may be left out for a run.
        samples: First rows of the test split; default: as the run, or 256.
        temperature: Replaces that of the task's decoding, or of the run's.
        seed: Of the random numbers; default: as the run, or 0.
        device: Where to compute.
        out: Also write a record there, as a run of the algorithm 'no-training' whose start is the policy.

    Raises:
        LmrlBenchError: There is no such policy or task, or they do not fit.
    """
    if out is not None:
        plan = _planned(
            place,
            task,
            seed or 0,
            device,
            samples=samples,
            temperature=temperature,
            output=Path(out),
        )
        return PolicyResults(dict(execute(plan).results), True, [])
    run = run_of(place)
    seed = seed if seed is not None else run.seed if run else 0
    plan = _planned(place, task, seed, device, samples=samples, temperature=temperature)
    loaded, evaluation = plan.task, plan.config.evaluation
    session = open_session(plan.prepared())
    remarks = []
    kl_to_initial = False
    if run is not None and run.task.name == loaded.name:
        try:
            began = load_initial_policy(
                plan_run(loaded, _run_config(run, loaded, device)).prepared()
            )
            began.make_ref_policy()
            session.policy.ref_policy = began.network.frozen_copy()
            kl_to_initial = True
        except LmrlBenchError as error:
            remarks.append(
                f"the initial policy of the run is not available, so there is no KL: {error}"
            )
        if "test-unfiltered" in run.results:
            remarks.append(
                "the run acted through a token filter; compare its numbers without it (test-unfiltered)"
            )
    rows = evaluation.test_samples
    found = {"test": session.evaluator("test", rows).results}
    if evaluation.greedy:
        found["test-greedy"] = session.evaluator("test", rows, greedy=True).results
    return PolicyResults(found, kl_to_initial, remarks)


def policy_of(place: str | Path) -> str:
    """Returns what `policy.model` takes: the policy that a run kept, a policy's folder, or a name.

    Raises:
        PolicyError: It is a folder without a policy.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        return str(place)
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        return str(folder)
    if (folder / POLICY).is_dir():
        return str(folder / POLICY)
    if (folder / RECORD).exists() or (folder / CONFIG).exists():
        raise PolicyError(
            f"{folder}: the run kept no policy; run it again with --keep-policy (and --rerun all, if it is complete)"
        )
    raise PolicyError(
        f"{folder}: neither a policy (a folder with config.json) nor a run that kept one (a folder with {POLICY}/)"
    )


def run_of(place: str | Path) -> RunRecord | None:
    """Returns the record of the run that kept the policy; None for any other policy.

    Raises:
        RecordError: The record cannot be read.
    """
    folder = Path(place).expanduser()
    for candidate in (folder, folder.parent if folder.name == POLICY else folder):
        if (candidate / RECORD).is_file():
            return read_record(candidate)
    return None


def _planned(
    place: str | Path, task: str | Path | None, seed: int, device: str, *,
    samples: int | None = None, temperature: float | None = None, output: Path | None = None,
) -> RunPlan:  # fmt: skip
    """Returns the evaluation of the policy as a run; of a run's policy, with the run's settings."""
    run, policy = run_of(place), policy_of(place)
    if task is None and run is None:
        resolve_model(policy)  # that there is no such policy is said first
        raise ConfigError(
            f"{place}: a policy and not the folder of a run, so name a task with --task"
        )
    loaded = load_task(task if task is not None else run.task.name)  # type: ignore[union-attr]
    evaluation: dict[str, Any] = {}
    if run is not None and run.task.name == loaded.name:
        evaluation |= run.config.get("evaluation") or {}
    evaluation |= {} if samples is None else {"test_samples": samples}
    evaluation |= {} if temperature is None else {"temperature": temperature}
    given = {
        "algorithm": {"name": "no-training"},
        "policy": {"model": policy, "init": "base"},
        "evaluation": evaluation,
        "seed": seed,
        "runtime": {"device": device, "output": str(output) if output else None},
    }
    config = resolve(loaded, Located.plain(given, "command line"))
    return plan_run(loaded, config, rerun=RerunPolicy.FAILED)


def _run_config(run: RunRecord, task: Task, device: str) -> RunConfig:
    given = {**run.config, "seed": run.seed, "runtime": {"device": device}}
    return resolve(task, Located.plain(given, "record"))
