"""Schema of `task.yaml`. No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from lmrl_bench.config.run import TransformSpec
from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.records.record import ScoreNormalization

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataFile(_Strict):
    """One split: a file in the task folder or in a download, or a split of a `datasets` data set.

    File readers require `path`; `hf-datasets` requires `split`.
    """

    path: str | None = Field(None, description="relative to the task folder or the download")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    split: str | None = Field(None, description="split name, for the reader 'hf-datasets'")
    rows: int | None = Field(
        None, gt=0, description="expected number of rows; any other number is an error"
    )


class DataSpec(_Strict):
    """Source of the rows, and the columns that make a sample."""

    reader: str = Field(
        description="jsonl, csv, tsv, parquet, hf-datasets, or plugin (`read` of the task's plugin.py)"
    )
    train: DataFile
    validation: DataFile
    test: DataFile
    download: str | None = Field(
        None, description="download that contains the files (lmrl-bench download install NAME)"
    )
    dataset: str | None = Field(None, description="hf-datasets: local path or hub id")
    revision: str | None = Field(
        None, description="hf-datasets: pinned revision; required for a hub id"
    )
    id: str | None = Field(None, description="identifier column; default: split and row number")
    references: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        "references",
        description="column(s) with the reference text(s); null for none. Default: the column "
        "'references', if it exists",
    )
    meta: list[str] = Field(
        default_factory=list, description="additional columns to keep with the sample"
    )

    def file(self, split: Split) -> DataFile:
        """Returns the description of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    @model_validator(mode="after")
    def _fields_fit_the_reader(self) -> DataSpec:
        _refuse_repeated("data.meta", self.meta)
        if isinstance(self.references, list):
            _refuse_repeated("data.references", self.references)
        needed = "split" if self.reader == "hf-datasets" else "path"
        for name in SPLITS:
            if getattr(self.file(name), needed) is None:
                raise ValueError(f"data.{name}.{needed} is required by the reader '{self.reader}'")
        if self.reader == "hf-datasets" and self.dataset is None:
            raise ValueError("data.dataset is required by the reader 'hf-datasets'")
        if self.reader != "hf-datasets" and (self.dataset or self.revision):
            raise ValueError("data.dataset and data.revision require the reader 'hf-datasets'")
        return self


def _refuse_repeated(key: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{key} lists '{twice[0]}' twice")


class MessageSpec(_Strict):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(description="Jinja2 over the row's columns")


class PromptSpec(_Strict):
    """Template and length limit of the prompt."""

    template: str = Field("{{ prompt }}", description="Jinja2 over the row's columns")
    messages: Annotated[list[MessageSpec], Field(min_length=1)] | None = Field(
        None,
        description="instead of a template: a chat, formatted by the policy's chat template",
    )
    max_tokens: int = Field(gt=0)
    truncate: Literal["error", "left", "right"] = Field(
        "error",
        description="how to treat longer prompts: reject them, or truncate that side (counted)",
    )

    @model_validator(mode="after")
    def _one_way(self) -> PromptSpec:
        if self.messages is None:
            return self
        if "template" in self.model_fields_set:
            raise ValueError("prompt.template and prompt.messages exclude each other; remove one")
        if self.truncate != "error":
            raise ValueError(
                f"prompt.truncate: {self.truncate} would cut through the turns of a chat; remove it, or "
                "shorten a message in prompt.messages, for example {{ article[:2000] }}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits the unused form, so that digests of tasks without messages do not change."""
        fields: dict[str, Any] = handler(self)
        fields.pop("messages" if self.messages is None else "template", None)
        return fields


class CompletionSpec(_Strict):
    """Length limits of a completion."""

    max_tokens: int = Field(gt=0)
    min_tokens: int = Field(0, ge=0, description="EOS is suppressed before this many tokens")

    @model_validator(mode="after")
    def _ordered(self) -> CompletionSpec:
        if self.min_tokens >= self.max_tokens:
            raise ValueError(
                f"min_tokens ({self.min_tokens}) must be below max_tokens ({self.max_tokens})"
            )
        return self


class ComponentSpec(_Strict):
    """A named metric or reward with its arguments."""

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    as_: str | None = Field(
        None,
        alias="as",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="name in records and leaderboards; distinguishes two uses of one metric",
    )

    @property
    def key(self) -> str:
        """The name in records and leaderboards: `as`, or the registered name."""
        return self.as_ or self.name


class RewardTerm(ComponentSpec):
    """One term of the reward: any registered reward, or any metric by its name."""

    weight: float = 1.0
    clip: tuple[float, float] | None = Field(
        None, description="bounds of this term, applied before its weight"
    )


class RewardSpec(_Strict):
    """The reward: a weighted sum of terms, optionally clipped."""

    terms: Annotated[list[RewardTerm], Field(min_length=1)]
    clip: tuple[float, float] | None = None
    transforms: list[TransformSpec] = Field(
        default_factory=list,
        description="reward transforms in their order, in training only; a run may replace them",
    )

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out an empty list: the digest of a task without transforms does not name it."""
        fields: dict[str, Any] = handler(self)
        if not self.transforms:
            del fields["transforms"]
        return fields


class MetricsSpec(_Strict):
    """Metrics of the evaluation splits."""

    primary: ComponentSpec
    held_out: Annotated[
        list[ComponentSpec], Field(min_length=1, description="at least one other than the reward")
    ]
    others: list[ComponentSpec] = Field(default_factory=list)

    def all(self) -> list[ComponentSpec]:
        """Returns primary, held-out and other metrics, in this order."""
        return [self.primary, *self.held_out, *self.others]

    @model_validator(mode="after")
    def _keys_are_unique(self) -> MetricsSpec:
        keys = [metric.key for metric in self.all()]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(
                f"metrics: {', '.join(twice)} is listed twice; name the uses with `as: <name>`"
            )
        return self


class PolicySpec(_Strict):
    """Policies that fit the task."""

    default: str = Field(
        description="a shipped policy (nano-causal, nano-seq2seq, nano-letters, …), a download, a folder, or a hub id"
    )
    kinds: Annotated[list[Literal["causal", "seq2seq"]], Field(min_length=1)]


class SFTSpec(_Strict):
    """Training rows for the SFT policy."""

    filter: dict[str, Any] = Field(
        default_factory=dict, description="meta field to the value it must have"
    )


class TaskSpec(_Strict):
    """A task: data, prompt, completion, reward, metrics, decoding."""

    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: int = Field(gt=0, description="increase with any change that affects scores")
    summary: str
    license: str = Field(description="of the data")
    citation: str = ""
    language: str = Field("en", description="of the completions")
    data: DataSpec
    prompt: PromptSpec
    completion: CompletionSpec
    reward: RewardSpec
    metrics: MetricsSpec
    policy: PolicySpec
    decoding: SamplingConfig = Field(default_factory=lambda: SamplingConfig())
    sft: SFTSpec = Field(default_factory=lambda: SFTSpec())
    score_normalization: ScoreNormalization | None = None

    @model_validator(mode="after")
    def _held_out_is_not_the_reward(self) -> TaskSpec:
        reward = {(term.name, str(sorted(term.args.items()))) for term in self.reward.terms}
        held_out = {
            (metric.name, str(sorted(metric.args.items()))) for metric in self.metrics.held_out
        }
        if held_out <= reward:
            raise ValueError(
                "metrics.held_out: at least one must differ from every term of the reward"
            )
        return self
