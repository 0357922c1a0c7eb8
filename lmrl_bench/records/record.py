"""The record of a run (`record.json`): configuration in, facts out. No torch.

Written last and atomically. Types are strict: strings and booleans are not numbers, and fractions
are not counts. Further limits of fields are in `lmrl_bench.verification.bounds_table`.
"""

from __future__ import annotations

import datetime
import unicodedata
from typing import Annotated, Any, Final, Literal, Self

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

from lmrl_bench.core.digests import digest
from lmrl_bench.core.paths import is_plain_name, public_name

Status = Literal["completed", "failed", "diverged", "interrupted"]
Flag = Literal["max_logprob_difference", "first_clip_fraction", "truncated_share"]


def _plain(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError(f"{name!r} is a path; a record only names files in its own folder")
    return name


def _public(name: str) -> str:
    if public_name(name) != name or "\0" in name:
        raise ValueError(
            f"{name!r} is a path outside the working directory; records must not contain such paths"
        )
    return name


def control_character(text: str) -> str | None:
    """Returns the first character that does not belong in one line of plain text, or None.

    These are control and format characters (including those that reverse the reading direction),
    line and paragraph separators, surrogates and private-use characters.
    """
    if text.isascii() and text.isprintable():
        return None
    return next((c for c in text if unicodedata.category(c) in _NOT_PLAIN), None)


def readable(text: str, longest: int, lines: bool = False) -> str:
    """Returns a text for a record: escapes control characters, and shortens long texts.

    Args:
        text: A message, a traceback or a command.
        longest: Maximum number of characters.
        lines: Keep line breaks and tabs.
    """
    kept = "\n\t" if lines else ""
    plain = "".join(
        c if c in kept or control_character(c) is None else ascii(c)[1:-1] for c in text
    )
    if len(plain) <= longest:
        return plain
    mark = f" [... {len(plain) - longest:,} or more characters left out ...] "
    half = (longest - len(mark)) // 2
    return plain[:half] + mark + plain[-half:]


def _one_line(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text  # fast path: records have dozens of texts, leaderboards thousands of records
    if (found := control_character(text)) is not None:
        raise ValueError(f"contains the control character {found!a}; write one line of plain text")
    return text


def _moment(text: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"{text[:40]!r} is not a time with a time zone, such as 2026-01-31T12:00:00+00:00"
        )
    return text


_NOT_PLAIN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
LARGEST_COUNT: Final = 2**63 - 1
LONGEST_ERROR: Final = 10_000
LONGEST_COMMAND: Final = 2_000
"""Maximum lengths of an error's message and traceback, and of a command, in our records."""
OneLine = Annotated[str, AfterValidator(_one_line), Field(max_length=2_000)]
Name = Annotated[str, AfterValidator(_one_line), Field(min_length=1, max_length=200)]
PlainName = Annotated[str, AfterValidator(_plain), AfterValidator(_one_line), Field(max_length=255)]
PublicName = Annotated[
    str, AfterValidator(_public), AfterValidator(_one_line), Field(max_length=255)
]
Moment = Annotated[str, AfterValidator(_moment), Field(max_length=40)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ErrorInfo(_Strict):
    """Reason why a run did not complete."""

    type: str
    message: str
    iteration: Count | None = None
    traceback: str | None = None


class ScoreNormalization(_Strict):
    """Fixed numbers that normalize the primary metric on leaderboards."""

    floor: FiniteFloat
    ceiling: FiniteFloat
    source: OneLine = Field(description="record id or reason of the numbers")

    @model_validator(mode="after")
    def _unequal(self) -> Self:
        if self.floor == self.ceiling:
            raise ValueError(f"floor and ceiling are both {self.floor:g}; they must differ")
        return self


class DataInfo(_Strict):
    """Digest and row count of one split."""

    sha256: Sha256
    rows: Count


class TaskInfo(_Strict):
    """Exact version of the task."""

    name: PlainName
    version: Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
    digest: Sha256 = Field(
        description="sha256 of task.yaml without descriptive fields, data digests, plug-in, models"
    )
    data: dict[Literal["train", "validation", "test"], DataInfo] = Field(
        description="split to sha256 and rows"
    )
    metric_signatures: dict[Name, OneLine] = Field(default_factory=dict)
    reward_signature: OneLine = ""
    primary_metric: Name = Field(description="the metric that leaderboards rank by")
    held_out_metrics: list[Name] = Field(
        default_factory=list, description="metrics that are not part of the reward"
    )
    lower_is_better: list[Name] = Field(
        default_factory=list, description="metrics for which lower is better"
    )
    neutral_metrics: list[str] = Field(
        default_factory=list,
        description="metrics of which neither direction is better",
    )
    score_normalization: ScoreNormalization | None = Field(
        None, description="at the time of the run; leaderboards use the task's current scale"
    )

    def higher_is_better(self, metric: str) -> bool | None:
        """Returns the direction of a metric; None if neither direction is better."""
        if metric in self.lower_is_better:
            return False
        return None if metric in self.neutral_metrics else True


class PolicyInfo(_Strict):
    """Weights that the run started from. Digests are over files, or over a hub id's commit."""

    model: PublicName
    init: Literal["base", "sft"]
    revision: OneLine | None = None
    weights_sha256: Sha256 = Field(description="of the policy that the run started from")
    tokenizer_sha256: Sha256
    base_weights_sha256: Sha256 | None = Field(
        None, description="of the model that the start was made from"
    )
    sft_recipe_sha256: Sha256 | None = Field(
        None,
        description="of an SFT policy: task, SFT configuration and base model together",
    )
    parameters: Annotated[int, Field(ge=1, le=LARGEST_COUNT)] = Field(
        description="tied weights count once"
    )
    kind: Name


class BudgetInfo(_Strict):
    """Planned and used budget."""

    planned_tokens: Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
    tokens: Count = 0
    episodes: Count = 0
    iterations: Count = 0
    optimizer_steps: Count = 0


class MetricValue(_Strict):
    """One value with the number of samples behind it."""

    value: float
    n: Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
    per_sample: bool = Field(False, description="samples.parquet has it per sample")


class SplitResults(_Strict):
    """All measurements on one split under one decoding."""

    metrics: dict[Name, MetricValue]
    reward: float
    reward_components: dict[Name, float] = Field(default_factory=dict)
    kl_to_reference: float | None = Field(
        description="nats per episode: mean log-ratio of the completions to the initial policy under the same "
        "behavior; the k1 estimate of the KL if completions are sampled, not a KL if they are greedy; null if no "
        "policy wrote them"
    )
    mean_length: NotNegative = Field(description="completion tokens")
    truncated_share: Share
    n: Annotated[int, Field(ge=1, le=LARGEST_COUNT)]


class Fidelity(_Strict):
    """How closely the scored policy matches the policy that sampled."""

    max_logprob_difference: NotNegative = Field(
        0.0, description="nats, largest |sampled - scored| over the run"
    )
    first_clip_fraction: Share = Field(
        0.0, description="largest share clipped before the first step of an update"
    )
    truncated_share: Share = 0.0
    flags: list[Flag] = Field(default_factory=list, description="exceeded limits")


class FileInfo(_Strict):
    """A file next to the record."""

    path: PlainName
    sha256: Sha256
    rows: Count


class Provenance(_Strict):
    """Code, versions and machine in the first session of the run."""

    package_version: Name
    commit: str | None = Field(None, pattern=r"^[0-9a-f]{7,64}$")
    dirty: bool | None = None
    command: str = ""
    python: OneLine = ""
    platform: OneLine = ""
    packages: dict[Name, Name] = Field(default_factory=dict)
    device: Name = "cpu"
    threads: Annotated[int, Field(ge=1, le=LARGEST_COUNT)] = 1
    speedups: bool = Field(
        True, description="false with LMRL_BENCH_SPEEDUPS=0: other kernels, so other roundings"
    )


class TimeInfo(_Strict):
    """Times in seconds; not part of the digest."""

    started: Moment
    finished: Moment
    wall_s: NotNegative
    train_s: NotNegative = 0.0
    generate_s: NotNegative = 0.0
    reward_s: NotNegative = 0.0
    evaluate_s: NotNegative = 0.0
    cpu_s: NotNegative = 0.0
    peak_memory_mb: NotNegative = Field(
        0.0, description="largest resident memory of the process, including libraries, MiB"
    )
    peak_memory_of: Literal["run", "process"] = Field(
        "process",
        description="since the start of the run, or of the process (which may have done other runs "
        "before) if the system cannot reset its counter",
    )


SEAL = "content_sha256"
"""Field of `record.json` outside the record: the digest of all other fields."""


Control = Literal["text", "reward", "policy"]
"""Kinds of controls: answers without a policy, the reward's choice, or another decoding of the initial policy."""


class AlgorithmTraits(_Strict):
    """Properties of an algorithm that leaderboards depend on, whoever wrote it.

    Leaderboards judge by these traits, never by an algorithm's name.
    """

    trains: bool = Field(
        description="it changes the policy; false: the policy is evaluated as it is"
    )
    spends_tokens: bool = Field(
        description="it trains on tokens that it generates, and ends with the token budget"
    )
    filters_tokens: bool = Field(
        description="it acts through a token filter of its own, and is evaluated without it too"
    )
    control: Control | None = Field(
        None,
        description="absent but for controls, which leaderboards show without a rank: 'text' writes answers "
        "without the policy, 'reward' lets the reward choose, 'policy' decodes the initial policy in another way",
    )

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves an absent trait out, so that records from before it keep their digests."""
        return {name: value for name, value in handler(self).items() if value is not None}


class RunRecord(_Strict):
    """The record of one run."""

    schema_: Literal[1] = Field(1, alias="schema")
    id: Annotated[str, AfterValidator(_one_line)] = Field(
        description="<task>/<entry>/<policy>/s<seed>-<first 8 digits of the configuration's digest>"
    )
    status: Status
    entry: PlainName
    seed: Count
    error: ErrorInfo | None = None
    task: TaskInfo
    algorithm: dict[str, Any] = Field(description="name and every resolved field")
    traits: AlgorithmTraits
    policy: PolicyInfo | None = None
    config: dict[str, Any] = Field(description="scientific part, resolved")
    config_digest: Sha256
    budget: BudgetInfo
    results: dict[str, SplitResults] = Field(
        default_factory=dict,
        description="validation, test, test-greedy, and test-unfiltered for NLPO",
    )
    fidelity: Fidelity = Field(default_factory=Fidelity)
    events: dict[Name, Count] = Field(
        default_factory=dict, description="counted events, such as prompts cut at the limit"
    )
    curves: FileInfo | None = None
    samples: FileInfo | None = None
    provenance: Provenance
    time: TimeInfo

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        serialize_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_seal(cls, content: Any) -> Any:
        """Drops the digest of the file's own content, which serves to detect damage."""
        if isinstance(content, dict) and SEAL in content:
            return {name: value for name, value in content.items() if name != SEAL}
        return content

    @model_validator(mode="after")
    def _names_no_place(self) -> Self:
        policy = self.config.get("policy") or {}
        if not isinstance(policy, dict):
            raise ValueError("config.policy is not a mapping")
        model = policy.get("model")
        if isinstance(model, str):
            _public(model)
        return self

    @model_validator(mode="after")
    def _kl_of_a_policy(self) -> Self:
        written = self.traits.control == "text"
        for name, results in self.results.items():
            if (results.kl_to_reference is None) is not written:
                raise ValueError(
                    f"results.{name}.kl_to_reference is {results.kl_to_reference}; it is null if, and only if, no "
                    "policy wrote the completions (traits.control: text)"
                )
        return self

    def lacking(self) -> list[str]:
        """Returns the parts of a completed run that this record lacks.

        None may be missing, because checks compare all of them.
        """
        if self.status != "completed":
            return []
        evaluation = self.config.get("evaluation")
        tested = not isinstance(evaluation, dict) or evaluation.get("test_samples") != 0
        parts = {
            "policy": self.policy,
            "curves": self.curves,
            "results.validation": self.results.get("validation"),
        }
        if tested:  # trials of tuning are not tested
            parts |= {"samples": self.samples, "results.test": self.results.get("test")}
        return [name for name, value in parts.items() if value is None]

    def facts(self) -> dict[str, Any]:
        """Returns the part that must be equal if the same configuration and seed run again.

        Guaranteed on one CPU thread.
        """
        facts = self.model_dump(mode="json", exclude={"provenance", "time"})
        if facts["error"]:
            facts["error"].pop("traceback")
        return facts

    def digest(self) -> str:
        """Returns the sha256 (hex) of `facts()`."""
        return digest(self.facts())
