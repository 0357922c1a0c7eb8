"""The configuration of one run.

Its scientific part has a digest, which excludes the seed, the entry's name and `runtime`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.digests import digest
from lmrl_bench.core.paths import public_name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AlgorithmChoice(BaseModel):
    """The algorithm's registered name and its own fields.

    The algorithm's configuration class validates these fields.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: str = Field(description="a registered algorithm; see `lmrl-bench algorithm list`")


class AdapterConfig(_Strict):
    """Low-rank adapters that are trained while the model's weights stay frozen (extra 'peft')."""

    kind: Literal["lora"] = Field("lora", description="low-rank adapters, arXiv 2106.09685")
    rank: int = Field(8, gt=0, description="rank of the matrices")
    alpha: int = Field(
        16, gt=0, description="scale: the product of the matrices times alpha / rank"
    )
    targets: list[str] | None = Field(
        None,
        description="names of the adapted linear layers; default: PEFT's choice for the architecture",
    )


LARGEST: Final = 2**63 - 1
"""Largest integer that other programs can read from records (64 bits)."""


class PolicyConfig(_Strict):
    """The policy and its initial weights."""

    model: str | None = Field(
        None,
        min_length=1,
        description="shipped policy, download, folder or hub id; default: the task's",
    )
    revision: str | None = Field(None, description="pinned revision of a hub id")
    init: Literal["sft", "base"] = Field(
        "sft", description="start from the task's SFT policy or from the base model"
    )
    value_trunk: Literal["shared", "separate", "frozen"] = Field(
        "shared",
        description="value head on the policy's trunk, on a copy of it, or on the detached trunk",
    )
    adapter: AdapterConfig | None = Field(
        None, description="train an adapter on the frozen initial policy instead of all weights"
    )


class BudgetConfig(_Strict):
    """Training budget of a run."""

    tokens: int = Field(
        60_000, gt=0, description="generated completion tokens; the last iteration is completed"
    )


class TransformSpec(_Strict):
    """A registered reward transform with its arguments."""

    name: str = Field(description="a reward transform; see lmrl_bench/rewards/transforms.py")
    args: dict[str, Any] = Field(default_factory=dict, description="arguments of its class")


class RewardConfig(_Strict):
    """Changes to the task's reward that apply only in training."""

    transforms: list[TransformSpec] | None = Field(
        None,
        description="reward transforms in their order, in training only; default: those of the "
        "task; []: none",
    )


class EvaluationConfig(_Strict):
    """Samples and schedule of evaluations."""

    every: int = Field(
        5, gt=0, description="iterations between evaluations on the validation split"
    )
    validation_samples: int = Field(
        128, gt=0, description="number of rows, from the start of the validation split"
    )
    test_samples: int = Field(
        256,
        ge=0,
        description="number of rows, from the start of the test split; 0: no test, while tuning",
    )
    greedy: bool = Field(True, description="also report greedy decoding on the test split")
    temperature: float | None = Field(
        None,
        gt=0.0,
        description="sampling temperature of every evaluation; default: the task's decoding",
    )
    batch_size: int = Field(128, gt=0, description="prompts per decoding batch")

    def sampling(self, task: SamplingConfig) -> SamplingConfig:
        """Returns the decoding of evaluations: the task's, or sampling at `temperature`."""
        if self.temperature is None:
            return task
        return SamplingConfig(temperature=self.temperature)


class RuntimeConfig(_Strict):
    """Device and output of a run; does not affect results on one CPU thread."""

    output: Path | None = Field(
        None,
        description="folder of the run; default: results/runs/<task>/<entry>/<seed>, or "
        "<entry>-<first 8 digits of the digest> for settings other than the defaults",
    )
    device: str = Field("cpu", description="torch device, for example cuda")
    threads: int = Field(1, gt=0, le=1024, description="number of torch threads")
    checkpoint_every: int = Field(5, gt=0, description="iterations between checkpoints")
    trackers: list[str] = Field(
        default_factory=list,
        description="experiment trackers to write to as well: tensorboard (extra 'trackers'), "
        "trackio or wandb (extras of their names)",
    )
    keep_policy: bool = Field(False, description="keep the trained policy as a Hugging Face folder")


RUNS: Final = Path("results") / "runs"


class RunConfig(_Strict):
    """One training run: task, algorithm, policy, budget and seed."""

    task: str = Field(description="task name or folder")
    algorithm: AlgorithmChoice
    entry: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_.-]*$",
        max_length=100,
        description="row name on leaderboards; default: the algorithm's name",
    )
    policy: PolicyConfig = Field(default_factory=PolicyConfig)
    sampling: SamplingConfig = Field(
        default_factory=SamplingConfig, description="decoding while training"
    )
    reward: RewardConfig = Field(
        default_factory=RewardConfig, description="changes to the reward while training"
    )
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    seed: int = Field(0, ge=0, le=LARGEST, description="root of all random streams of the run")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    @property
    def entry_name(self) -> str:
        """Name of the entry: `entry`, or else the algorithm's name."""
        return self.entry or self.algorithm.name

    @property
    def name(self) -> str:
        """<task>/<entry>/<seed>, the run's name in events and lists."""
        return f"{self.task}/{self.entry_name}/{self.seed}"

    @property
    def folder(self) -> Path:
        """The place where the run is written: as configured, or results/runs/<task>/<entry>/<seed>."""
        return self.runtime.output or RUNS / self.task / self.entry_name / str(self.seed)

    def scientific(self) -> dict[str, Any]:
        """Returns the part that defines the experiment: all but the seed, the entry's name and `runtime`.

        Because it is published, model folders are reduced to their last path component; records
        identify the weights by digest.
        """
        part = self.model_dump(mode="json", exclude={"seed", "runtime", "entry"})
        model = self.policy.model
        part["policy"]["model"] = public_name(model) if model else None
        return part

    def digest(self) -> str:
        """Returns the sha256 (hex) of the scientific part, equal for all seeds of an experiment."""
        return digest(self.scientific())


def training_digest(scientific: Mapping[str, Any]) -> str:
    """Returns the sha256 (hex) of the settings that determine the result of supervised fine-tuning.

    Excludes evaluation and reward transforms, which supervised fine-tuning does not use, and precision
    and micro-batch size, which affect the weights only through rounding, like a change of machine;
    an SFT policy may be trained anywhere.

    Args:
        scientific: `RunConfig.scientific()`, or a record's `config`.
    """
    algorithm = {
        name: value
        for name, value in scientific["algorithm"].items()
        if name not in ("autocast", "micro_batch_tokens")
    }
    rest = {n: value for n, value in scientific.items() if n not in ("evaluation", "reward")}
    return digest(rest | {"algorithm": algorithm})
