"""The leaderboard as data: one object from which every page, file and plot is made (`leaderboard.json`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lmrl_bench.leaderboards.estimates import LeaderboardOverview, TaskPower
from lmrl_bench.leaderboards.spec import Baselines, TuningSpec
from lmrl_bench.records.record import Flag, TaskInfo

CellStatus = Literal["completed", "failed", "diverged", "interrupted", "missing"]
ControlKind = Literal["text", "reward", "policy", "decoding"]
STATUSES: tuple[CellStatus, ...] = ("completed", "failed", "diverged", "interrupted", "missing")


def significant(value: float) -> float:
    """Rounds to ten significant digits, so that every platform writes the same file."""
    return float(f"{value:.10g}") + 0.0  # no negative zero


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Summary(_Strict):
    """One number per completed seed, and what they say together."""

    points: list[float] = Field(description="one per completed seed, in the order of the seeds")
    n: int
    mean: float | None = Field(description="null below three seeds: then only the points count")
    interval: tuple[float, float] | None = Field(description="95 % Student-t interval of the mean")

    @property
    def half_width(self) -> float:
        """Half of the interval's width.

        Raises:
            ValueError: There is no interval.
        """
        if self.interval is None:
            raise ValueError("no interval below three seeds")
        return (self.interval[1] - self.interval[0]) / 2


class SplitSummary(_Strict):
    """Measurements on one split with one decoding."""

    metrics: dict[str, Summary]
    reward: Summary
    kl_to_reference: Summary | None = Field(
        description="nats per episode, against the initial policy; null if no policy wrote the completions"
    )
    mean_length: Summary = Field(description="completion tokens")
    truncated_share: Summary


class Run(_Strict):
    """One seed of one entry."""

    seed: int
    status: CellStatus
    folder: str = Field(description="of the record, below the results folder")
    error: str | None = None
    record_digest: str | None = None
    command: str | None = None
    package_version: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    platform: str | None = None
    python: str | None = None
    device: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    events: dict[str, int] = Field(default_factory=dict)
    flags: list[Flag] = Field(default_factory=list, description="fidelity bounds that were passed")


class Comparison(_Strict):
    """An entry against a baseline, on one measure."""

    measure: str = Field(description="'reward', or the name of the primary metric")
    decoding: Literal["test", "test-unfiltered"] = Field(
        "test", description="of this entry; the baseline's is the one that it is ranked by"
    )
    baseline: str
    difference: float
    interval: tuple[float, float] = Field(description="95 % Welch interval of the difference")
    intervals_overlap: bool = Field(description="of the two entries' own 95 % intervals")
    verdict: Literal["better", "worse", "not separated"] = Field(
        description="'not separated' where the interval of the difference contains 0"
    )


class Verification(_Strict):
    """The level to which a reviewer checked an entry's records; see `lmrl_bench.leaderboards.verification`."""

    level: int = Field(0, ge=0, le=4)
    word: str = "declared"
    by: str | None = None
    date: str | None = None
    bitwise: list[int] = Field(
        default_factory=list, description="seeds that training gave again bit for bit"
    )
    interval: list[int] = Field(
        default_factory=list,
        description="seeds trained again of which only the primary metric agrees: it lies inside the "
        "prediction interval of the entry's other seeds",
    )


class EntryResults(_Strict):
    """One entry of a task's table."""

    entry: str
    algorithm: str
    policy: str | None = None
    init: str | None = None
    parameters: int | None = None
    config_digest: str | None = None
    evaluation_only: bool = Field(
        description="nothing was trained: intervals are over evaluation sampling only"
    )
    complete: bool = Field(description="every seed of the leaderboard completed")
    counts: dict[CellStatus, int]
    runs: list[Run]
    splits: dict[str, SplitSummary] = Field(default_factory=dict)
    tokens: Summary | None = Field(None, description="generated completion tokens while training")
    wall_s: Summary | None = None
    cpu_s: Summary | None = None
    temperature: float | None = Field(
        None,
        description="of the evaluations, where the entry sets its own; null: the task's decoding",
    )
    filtered: bool = Field(
        False,
        description="the entry acts, and 'test' decodes, through its own token filter; 'test-unfiltered' "
        "is the same policy decoded like the other entries, and what it is ranked by",
    )
    control: ControlKind | None = Field(
        None,
        description="null for an entry that is ranked; else why it is not: 'text', 'reward' and 'policy' as in the "
        "record's traits, 'decoding' for an entry that sets its own decoding of evaluations",
    )
    oracle: bool = Field(
        False,
        description="a reward that reads the references picks the answers: nobody could use it",
    )
    best: list[str] = Field(
        default_factory=list,
        description="measures in which the entry is best or tied with the best",
    )
    comparisons: list[Comparison] = Field(default_factory=list)
    verification: Verification = Field(default_factory=Verification)

    @property
    def decoding(self) -> Literal["test", "test-unfiltered"]:
        """The decoding that the entry is ranked by: everybody's, so without a token filter of its own."""
        return "test-unfiltered" if self.filtered else "test"

    @property
    def tested(self) -> SplitSummary | None:
        """Measurements on the test split with the decoding that the entry is ranked by."""
        return self.splits.get(self.decoding)

    def through_filter(self) -> EntryResults | None:
        """Returns the entry as it acts, through its own token filter; None if it has none.

        This view is shown below the entry. It is never marked best, and has no comparisons of its own.
        """
        if not self.filtered:
            return None
        # Not `filtered`, so that the view's numbers are those of 'test', which are through the filter.
        return self.model_copy(update={"filtered": False, "best": [], "comparisons": []})


class CurveOfSeed(_Strict):
    """Validation values of one run by generated tokens."""

    seed: int
    tokens: list[int]
    reward: list[float]
    primary: list[float]


class Curve(_Strict):
    """The learning curves of one entry."""

    entry: str
    seeds: list[CurveOfSeed]


class ShownCompletion(_Strict):
    """An entry's completion of a shown prompt."""

    entry: str
    completion: str
    terminated: bool
    reward: float
    scores: dict[str, float] = Field(description="metrics of this sample")


class ShownSample(_Strict):
    """A test prompt with the completions of all entries side by side."""

    sample_id: str
    prompt: str
    references: list[str]
    completions: list[ShownCompletion]


class TaskTable(_Strict):
    """Everything about one task of the leaderboard."""

    task: str
    info: TaskInfo | None = Field(description="null while no run of the task has completed")
    entries: list[EntryResults]
    curves: list[Curve]
    samples: list[ShownSample]
    samples_seed: int = Field(description="the seed whose completions are shown")

    @property
    def metrics(self) -> list[str]:
        """Primary, held-out and other metrics, in that order."""
        if self.info is None:
            return []
        first = [self.info.primary_metric, *self.info.held_out_metrics]
        return [*first, *sorted(set(self.info.metric_signatures) - set(first))]


class LeaderboardTable(_Strict):
    """A leaderboard with all its tables."""

    schema_file: Literal["leaderboard.schema.json"] = Field(
        "leaderboard.schema.json", alias="$schema"
    )
    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    title: str
    description: str
    findings: list[str] = Field(
        default_factory=list, description="what the leaderboard's authors read from it"
    )
    seeds: list[int]
    entries: list[str]
    baselines: Baselines
    tuning: TuningSpec | None = Field(None, description="how the settings were chosen, if declared")
    tasks: list[TaskTable]
    overview: LeaderboardOverview | None = Field(
        None, description="null where `no_overview` says why"
    )
    no_overview: str | None = None
    power: list[TaskPower] = Field(
        default_factory=list,
        description="without tasks in which no entry that trains has two seeds",
    )
    unlisted: list[str] = Field(
        default_factory=list,
        description="records in the folder that the leaderboard does not ask for",
    )

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True
    )
