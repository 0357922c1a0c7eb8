"""Statistics of a leaderboard as data: `LeaderboardTable.overview` and `LeaderboardTable.power`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Strict):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class EntryOverview(_Strict):
    """An entry over all tasks; without numbers while a run of it is missing."""

    name: str = Field(
        description="the entry's name; '<entry>, filtered †' for the entry through its own token filter"
    )
    entry: str
    title: str = Field(description="the name as tables show it: of a control, with that word")
    ranked: bool = Field(
        description="false for a control, and for an entry through its token filter, shown below the entry without it"
    )
    collapsed: int = Field(description="runs that failed or diverged; they score 0")
    missing: int = Field(description="runs that are not there; they have no score")
    scores: dict[str, list[float] | None] = Field(
        description="by task, ascending; null where a run is missing"
    )
    iqm: Estimate | None = None
    mean: Estimate | None = None
    optimality_gap: Estimate | None = None
    behind: Estimate | None = Field(None, description="IQM of the leader minus the entry's own")
    profile: list[Estimate] = Field(
        default_factory=list, description="share of the runs above each threshold"
    )
    rank: tuple[int, int] | None = Field(None, description="best and worst")
    group: int | None = Field(None, description="of ties, from 1; see `LeaderboardOverview.groups`")


class Improvement(_Strict):
    """Probability that a run of `first` beats one of `second` on a task drawn at random."""

    first: str
    second: str
    probability: Estimate


class WelchTest(_Strict):
    """Welch's test of two entries in one task, corrected for all tests of the leaderboard."""

    task: str
    first: str
    second: str
    difference: float = Field(description="of mean scores, first minus second")
    p: float
    p_holm: float


class ScaleInfo(_Strict):
    """The points 0 and 1 of a task's scale, in units of its primary metric."""

    task: str
    metric: str
    floor: float
    ceiling: float
    source: str


class LeaderboardOverview(_Strict):
    """A leaderboard as a whole."""

    leaderboard: str
    seeds: int
    provisional: bool = Field(description="fewer than five seeds")
    digest: str = Field(description="of the scores; it seeds the bootstrap")
    replicates: int = Field(description="of the bootstrap")
    scales: list[ScaleInfo]
    thresholds: list[float] = Field(description="of the profiles")
    entries: list[EntryOverview]
    groups: list[list[str]] = Field(
        description="best first; no member can be distinguished from the first of its group by the IQM"
    )
    improvements: list[Improvement] = Field(description="pairs of the best 15 entries")
    tests: list[WelchTest]


class TaskPower(_Strict):
    """Differences that a task's table can detect, in units of its primary metric."""

    task: str
    metric: str
    deviation: float = Field(description="between seeds, pooled over entries that train")
    entries: int
    seeds: int
    detectable: float = Field(
        description="smallest difference found with probability 0.8 at the leaderboard's seeds"
    )
    by_seeds: dict[int, float]
    needed: int | None = Field(None, description="seeds per entry for the difference asked for")

    def line(self) -> dict[str, Any]:
        """Returns the fields as one line of a table."""
        plans = {f"at_{seeds}_seeds": value for seeds, value in self.by_seeds.items()}
        needed = {} if self.needed is None else {"needed": self.needed}
        return self.model_dump(exclude={"by_seeds", "needed"}) | plans | needed
