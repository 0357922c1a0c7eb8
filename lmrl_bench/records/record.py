"""The record of a run (`record.json`): configuration in, facts out.

Written last and atomically. No torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from lmrl_bench.digests import digest
from lmrl_bench.paths import is_plain_name, public_name

Status = Literal["completed", "failed", "diverged", "interrupted"]
Flag = Literal["max_logprob_difference", "first_clip_fraction", "truncated_share"]


def _plain(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError(f"{name!r} is a path; a record names what lies in its own folder")
    return name


def _public(name: str) -> str:
    if public_name(name) != name or "\0" in name:
        raise ValueError(f"{name!r} is a path outside the working folder; a record names no such")
    return name


PlainName = Annotated[str, AfterValidator(_plain)]
PublicName = Annotated[str, AfterValidator(_public)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorInfo(_Strict):
    """Why a run did not complete."""

    type: str
    message: str
    iteration: int | None = None
    traceback: str | None = None


class ScoreRange(_Strict):
    """Frozen numbers that normalise the primary metric on boards."""

    floor: FiniteFloat
    ceiling: FiniteFloat
    source: str = Field(description="record id or reason of the numbers")

    @model_validator(mode="after")
    def _unequal(self) -> Self:
        if self.floor == self.ceiling:
            raise ValueError(f"floor and ceiling are both {self.floor:g}; they must differ")
        return self


class TaskInfo(_Strict):
    """Which task, exactly."""

    name: PlainName
    version: int
    digest: str = Field(
        description="sha256 of task.yaml without its prose, the data digests, plug-in and models"
    )
    data: dict[str, dict[str, Any]] = Field(description="split to sha256 and rows")
    metric_signatures: dict[str, str] = Field(default_factory=dict)
    reward_signature: str = ""
    primary_metric: str = Field(description="the metric that boards rank by")
    held_out_metrics: list[str] = Field(
        default_factory=list, description="metrics that are no part of the reward"
    )
    lower_is_better: list[str] = Field(
        default_factory=list, description="metrics of which less is better"
    )
    neutral_metrics: list[str] = Field(
        default_factory=list,
        description="metrics of which neither direction is better; left out where there is none, "
        "and not in older records",
    )
    score_range: ScoreRange | None = Field(
        None, description="as it was then; boards take the scale from the task as it is now"
    )

    def higher_is_better(self, metric: str) -> bool | None:
        """Returns the direction of a metric; None where neither is better."""
        if metric in self.lower_is_better:
            return False
        # Records from before `neutral_metrics` hold one metric without a direction: the length.
        of_length = self.metric_signatures.get(metric, "").startswith("length|")
        return None if of_length or metric in self.neutral_metrics else True

    # With a return type, pydantic would take that for the JSON schema instead of the fields.
    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # noqa: ANN202
        content = handler(self)
        if not self.neutral_metrics:
            content.pop("neutral_metrics", None)
        return content


class PolicyInfo(_Strict):
    """Which weights the run started from. Digests are over files, of a hub id over its commit."""

    model: PublicName
    start: str
    revision: str | None = None
    weights_sha256: str = Field(description="of the policy that the run started from")
    tokenizer_sha256: str
    base_weights_sha256: str | None = Field(
        None, description="of the model that the start was made from; null in older records"
    )
    start_recipe_sha256: str | None = Field(
        None,
        description="of a supervised start: task, supervised configuration and base model together",
    )
    parameters: int = Field(description="tied weights once; older records count them each time")
    kind: str


class BudgetInfo(_Strict):
    """Planned and used."""

    planned_tokens: int
    tokens: int = 0
    episodes: int = 0
    iterations: int = 0
    optimiser_steps: int = 0


class MetricValue(_Strict):
    """One number with the number of samples behind it."""

    value: float
    n: int
    per_sample: bool = Field(False, description="samples.parquet holds it per sample")


class SplitResults(_Strict):
    """Everything measured on one split under one decoding."""

    metrics: dict[str, MetricValue]
    reward: float
    reward_components: dict[str, float] = Field(default_factory=dict)
    kl_to_reference: float = Field(
        description="nats per episode: mean log-ratio of the responses to the start policy under the same "
        "behaviour; the k1 estimate of the KL where responses are sampled, no KL where they are greedy"
    )
    mean_length: float = Field(description="response tokens")
    truncated_share: float
    n: int


class Fidelity(_Strict):
    """Whether the policy that was scored is the policy that sampled."""

    max_logprob_difference: float = Field(
        0.0, description="nats, largest |sampled - scored| over the run"
    )
    first_clip_fraction: float = Field(
        0.0, description="largest share clipped before the first step of an update"
    )
    truncated_share: float = 0.0
    flags: list[Flag] = Field(default_factory=list, description="bounds that were passed")


class FileInfo(_Strict):
    """A file beside the record."""

    path: PlainName
    sha256: str
    rows: int


class Provenance(_Strict):
    """Where, when and with what: as the run began, in its first sitting."""

    package_version: str
    commit: str | None = Field(None, pattern=r"^[0-9a-f]{7,64}$")
    dirty: bool | None = None
    command: str = ""
    python: str = ""
    platform: str = ""
    packages: dict[str, str] = Field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1


class TimeInfo(_Strict):
    """Seconds; not part of the digest."""

    started: str
    finished: str
    wall_s: float
    train_s: float = 0.0
    generate_s: float = 0.0
    reward_s: float = 0.0
    evaluate_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_mb: float = Field(
        0.0, description="largest resident memory of the process, libraries included, MiB"
    )
    peak_memory_of: Literal["run", "process"] = Field(
        "process",
        description="since the run began; or since the process began, which may have done other "
        "runs before, where the system cannot start its counter anew",
    )


class RunRecord(_Strict):
    """One run, as a fact."""

    schema_: Literal[1] = Field(1, alias="schema")
    id: str = Field(
        description="<task>/<row>/<policy>/s<seed>-<first 8 digits of the configuration's digest>"
    )
    status: Status
    row: PlainName
    seed: int = Field(ge=0)
    error: ErrorInfo | None = None
    task: TaskInfo
    algorithm: dict[str, Any] = Field(description="name and every resolved field")
    policy: PolicyInfo | None = None
    config: dict[str, Any] = Field(description="scientific part, resolved")
    config_digest: str
    budget: BudgetInfo
    results: dict[str, SplitResults] = Field(
        default_factory=dict,
        description="validation, test, test-greedy, and test-unmasked for NLPO",
    )
    fidelity: Fidelity = Field(default_factory=Fidelity)
    events: dict[str, int] = Field(
        default_factory=dict, description="counted events, e.g. prompts cut at the limit"
    )
    curves: FileInfo | None = None
    samples: FileInfo | None = None
    provenance: Provenance
    time: TimeInfo

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        serialize_by_alias=True,
    )

    @model_validator(mode="after")
    def _names_no_place(self) -> Self:
        policy = self.config.get("policy") or {}
        if not isinstance(policy, dict):
            raise ValueError("config.policy is no mapping")
        model = policy.get("model")
        if isinstance(model, str):
            _public(model)
        return self

    def facts(self) -> dict[str, Any]:
        """The part that must be equal when the same configuration and seed run again.

        The promise holds on one CPU thread.
        """
        facts = self.model_dump(mode="json", exclude={"provenance", "time"})
        if facts["error"]:
            facts["error"].pop("traceback")
        return facts

    def digest(self) -> str:
        """sha256 (hex) of `facts()`."""
        return digest(self.facts())
