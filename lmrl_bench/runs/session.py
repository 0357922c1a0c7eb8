"""The parts of one run, put together: task, codec, policy, episode core, algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import transformers

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.core.seeding import derive_seed
from lmrl_bench.core.wording import reason_of
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.envs.setup import task_codec
from lmrl_bench.planning.plan import RunPlan
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.rewards.transforms import make_transforms
from lmrl_bench.runs.evaluate import Evaluator
from lmrl_bench.tasks.spec import SPLITS
from lmrl_bench.tasks.task import Task

if TYPE_CHECKING:
    from lmrl_bench.algorithms.interface import Algorithm


@dataclass(frozen=True)
class Session:
    """Everything that a run works with."""

    plan: RunPlan
    codec: TextCodec
    policy: LanguageModelPolicy
    core: EpisodeCore
    algorithm: Algorithm
    evaluator: Evaluator

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.plan.config

    @property
    def task(self) -> Task:
        """The run's task."""
        return self.plan.task


def make_codec(task: Task, policy: LanguageModelPolicy) -> TextCodec:
    """Returns the codec of a task for a policy."""
    return task_codec(task, policy.tokenizer, kind=policy.kind, vocabulary=policy.vocabulary)


def _check_inputs(plan: RunPlan, codec: TextCodec) -> None:
    """Meets every row, reward, metric and limit that the run will, before any time is spent.

    The codec keeps what it encodes, so nothing is done twice. Where long prompts are cut, none of them can fail,
    and the training split is left for when it is drawn.
    """
    config, task = plan.config, plan.task
    rows = {
        "train": len(task.samples("train")) if codec.truncate == "error" else 0,
        "validation": config.evaluation.validation_samples,
        "test": config.evaluation.test_samples,
    }
    for split in SPLITS:
        for sample in task.samples(split)[: rows[split]]:
            codec.encode(sample)
    task.reward()
    task.metrics()


def require_device(name: str, setting: str = "runtime.device") -> None:
    """Proves that tensors can be made on the device that a setting names.

    Raises:
        ConfigError: They cannot; names the setting.
    """
    try:
        torch.zeros(1, device=name).tolist()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(
            f"{setting}: '{name}' cannot be used here ({reason_of(error)}); choose cpu, or another device"
        ) from error


def load_initial_policy(plan: RunPlan) -> LanguageModelPolicy:
    """Loads the policy that a prepared plan begins from, with its critic and, where the run trains one, a new adapter.

    Raises:
        LmrlBenchError: The policy cannot be loaded, does not fit the task, or has yet to be trained.
    """
    config, task, initial = plan.config, plan.task, plan.initial
    assert initial.location is not None  # the plan is prepared
    policy = LanguageModelPolicy.load(
        initial.location,
        revision=initial.revision,
        value_trunk=config.policy.value_trunk,
        max_prompt_tokens=task.spec.prompt.max_tokens,
        max_completion_tokens=task.spec.completion.max_tokens,
        adapter=config.policy.adapter,
        device=config.runtime.device,
    )
    policy.require_kind(task.spec.policy.kinds, task.name)
    return policy


def open_session(plan: RunPlan) -> Session:
    """Loads the initial policy of a prepared plan and builds the run's parts.

    Raises:
        LmrlBenchError: The policy does not fit the task, a download or a data file is missing, …
    """
    config, task = plan.config, plan.task
    require_device(config.runtime.device)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(config.runtime.threads)
    torch.manual_seed(derive_seed(config.seed, "torch"))
    policy = load_initial_policy(plan)
    policy.make_ref_policy()
    codec = make_codec(task, policy)
    _check_inputs(plan, codec)
    core = EpisodeCore(
        task,
        codec,
        split="train",
        seed=derive_seed(config.seed, "data"),
        transforms=make_transforms(config.reward.transforms or ()),
    )
    algorithm_class = ALGORITHMS.get(config.algorithm.name)
    algorithm = algorithm_class(
        policy,
        core,
        algorithm_class.config_class.model_validate(config.algorithm.model_dump(exclude={"name"})),
        sampling=config.sampling,
        total_tokens=config.budget.tokens,
        seed=derive_seed(config.seed, "sampling"),
        device=config.runtime.device,
    )
    evaluator = Evaluator(
        task, codec, policy, config.evaluation.batch_size, config.seed,
        sampling=config.evaluation.sampling(task.spec.decoding),
    )  # fmt: skip
    return Session(plan, codec, policy, core, algorithm, evaluator)
