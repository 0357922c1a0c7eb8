"""`leaderboard.yaml` as data, and the grid of runs that it stands for.

A leaderboard fixes tasks, entries, seeds and the configuration that all entries share, so that entries compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from lmrl_bench.config.loading import Located, load_yaml, validate
from lmrl_bench.config.overrides import merge
from lmrl_bench.core.errors import ConfigError, nearest
from lmrl_bench.core.paths import bundled

LEADERBOARD_FILE = "leaderboard.yaml"
_HERE = Path("leaderboards")
_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
_FIXED = ("task", "entry", "seed", "runtime")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LeaderboardTask(_Strict):
    """A task of the leaderboard."""

    task: str = Field(pattern=_NAME, description="a registered task")
    config: dict[str, Any] = Field(
        default_factory=dict, description="run configuration for this task, under the entries' own"
    )


class LeaderboardEntry(_Strict):
    """An entry of every task's table."""

    entry: str = Field(pattern=_NAME, description="name of the entry")
    algorithm: str = Field(
        description="a registered algorithm; 'no-training' evaluates an untrained policy"
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="run configuration of this entry, e.g. policy.init"
    )


class Baselines(_Strict):
    """The entries that the others are compared with; null if the leaderboard has no such entry."""

    zero_shot: str | None = "zero-shot"
    sft: str | None = "sft"

    def names(self) -> list[str]:
        """Returns the names of the given baselines."""
        return [entry_name for entry_name in (self.zero_shot, self.sft) if entry_name]


class TuningSpec(_Strict):
    """How the tasks' settings for the leaderboard's algorithms were chosen (`lmrl-bench leaderboard tune`)."""

    trials: int = Field(
        6, ge=1, description="settings tried per task and algorithm, the present ones first"
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [100], description="of the trials; none may be the leaderboard's"
    )
    budget_share: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="tokens of a trial's run, as a share of the leaderboard's budget",
    )
    validation_samples: int = Field(
        256, gt=0, description="first rows of the validation split, on which trials are judged"
    )


class LeaderboardSpec(_Strict):
    """A leaderboard: tasks × entries × seeds under one shared configuration."""

    name: str = Field(pattern=_NAME)
    title: str
    description: str = ""
    findings: list[str] = Field(
        default_factory=list,
        description="what the results say, in plain words with their uncertainty; written once they are there",
    )
    tasks: Annotated[list[LeaderboardTask], Field(min_length=1)]
    entries: Annotated[list[LeaderboardEntry], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="run configuration of all cells: budget, evaluation, policy, sampling",
    )
    baselines: Baselines = Field(default_factory=Baselines)
    tuning: TuningSpec | None = Field(
        None,
        description="printed on the leaderboard; must be what the tasks' settings were made by",
    )
    _source: Located | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """The folder for the leaderboard's files: its own; for a bundled leaderboard ./leaderboards/<name>."""
        return self._folder or _HERE / self.name

    @property
    def definition(self) -> Any:
        """The content of the leaderboard's file, as it was read."""
        return self._source.data if self._source else self.model_dump(mode="json")

    @model_validator(mode="before")
    @classmethod
    def _known_baselines(cls, content: Any) -> Any:
        """A baseline that is not given is the usual one, if the leaderboard has it."""
        if not isinstance(content, Mapping) or not isinstance(content.get("entries"), list):
            return content
        entry_names = [
            entry.get("entry") for entry in content["entries"] if isinstance(entry, Mapping)
        ]
        given = content.get("baselines", {})
        if not isinstance(given, Mapping):
            return content
        usual = {name: field.default for name, field in Baselines.model_fields.items()}
        known = {
            name: entry_name if entry_name in entry_names else None
            for name, entry_name in usual.items()
        }
        return {**content, "baselines": known | dict(given)}

    @model_validator(mode="after")
    def _consistent(self) -> LeaderboardSpec:
        entry_names = [entry.entry for entry in self.entries]
        for what, values in (
            ("tasks", [task.task for task in self.tasks]),
            ("entries", entry_names),
            ("seeds", [str(seed) for seed in self.seeds]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} given twice: {', '.join(twice)}")
        for entry_name in self.baselines.names():
            if entry_name not in entry_names:
                raise ValueError(
                    f"baselines: no entry is named '{entry_name}'{nearest(entry_name, entry_names)}; "
                    "write null if the leaderboard has no such entry"
                )
        if self.tuning is not None:
            require_other_seeds(self.tuning, self.seeds)
        parts = [self.config, *(t.config for t in self.tasks), *(e.config for e in self.entries)]
        fixed = sorted({key for part in parts for key in _FIXED if key in part})
        if fixed:
            raise ValueError(
                f"{', '.join(fixed)} cannot be configured here: tasks, entries and seeds are the "
                "leaderboard's, and `runtime` belongs to the command line"
            )
        return self


def require_other_seeds(tuning: TuningSpec, seeds: list[int]) -> None:
    """Refuses a tuning that sees a seed of the leaderboard.

    Raises:
        ValueError: They share a seed.
    """
    if shared := sorted({*tuning.seeds} & {*seeds}):
        raise ValueError(
            f"tuning.seeds: {', '.join(map(str, shared))} is a seed of the leaderboard; settings that are chosen on "
            "a seed flatter it: tune with others (100 and above)"
        )


@dataclass(frozen=True)
class Cell:
    """One run of a leaderboard.

    Attributes:
        task: Task name.
        entry: Name of the entry.
        seed: Root seed of the run.
        located: The run configuration as the leaderboard gives it, with the places in `leaderboard.yaml`;
            defaults and the task's tuned settings go below it.
    """

    task: str
    entry: str
    seed: int
    located: Located

    @property
    def config(self) -> dict[str, Any]:
        """The run configuration as plain data."""
        data: dict[str, Any] = self.located.data
        return data

    def folder(self, results_root: Path, leaderboard: str) -> Path:
        """Returns results/<leaderboard>/<task>/<entry>/<seed>."""
        return Path(results_root, leaderboard, self.task, self.entry, str(self.seed))


def cells(spec: LeaderboardSpec) -> list[Cell]:
    """Returns every run of the leaderboard: tasks × entries × seeds, in the order of the file."""
    source = spec._source or Located.plain(
        spec.model_dump(mode="json"), f"leaderboard '{spec.name}'"
    )
    shared = _part(source, "config")
    grid = []
    for t, task in enumerate(spec.tasks):
        below = merge(shared, _part(source, "tasks", t, "config"))
        for e, entry in enumerate(spec.entries):
            own = merge(below, _part(source, "entries", e, "config"))
            given = {
                "task": task.task,
                "entry": entry.entry,
                "seed": None,
                "algorithm": {"name": entry.algorithm},
            }
            here = Located.plain(given, str(source.place(("entries", e)) or ""))
            whole = merge(own, here)
            for seed in spec.seeds:
                located = Located({**whole.data, "seed": seed}, whole.places, whole.prefix)
                grid.append(Cell(task.task, entry.entry, seed, located))
    return grid


def read_leaderboard(name_or_path: str | Path) -> LeaderboardSpec:
    """Reads a leaderboard by name (in ./leaderboards, or bundled), from its folder, or from its `leaderboard.yaml`.

    Raises:
        ConfigError: Unknown name (lists the leaderboards and the nearest one), or problems in the file.
    """
    path = _leaderboard_file(name_or_path)
    located = load_yaml(path)
    spec = validate(LeaderboardSpec, located)
    spec._source = located
    packaged = path.resolve().is_relative_to(bundled("leaderboards").resolve())
    spec._folder = None if packaged and not Path(name_or_path).exists() else path.parent
    return spec


def leaderboard_names() -> list[str]:
    """Returns the names of the leaderboards in ./leaderboards and of the bundled ones, sorted."""
    roots = (_HERE, bundled("leaderboards"))
    return sorted(
        {path.parent.name for root in roots for path in root.glob(f"*/{LEADERBOARD_FILE}")}
    )


def _leaderboard_file(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    places = [path, *(root / path for root in (_HERE, bundled("leaderboards")))]
    for candidate in (path, *(place / LEADERBOARD_FILE for place in places)):
        if candidate.is_file():
            here = Path.cwd()  # messages show short paths
            inside = candidate.is_relative_to(here)
            return candidate.relative_to(here) if inside else candidate
    names = leaderboard_names()
    raise ConfigError(
        f"unknown leaderboard '{name_or_path}'{nearest(str(name_or_path), names)} (known: "
        f"{', '.join(names) or 'none'}; or give the folder of a {LEADERBOARD_FILE})"
    )


def _part(source: Located, *keys: str | int) -> Located:
    """The configuration under `keys`; empty if the file does not give it."""
    data: Any = source.data
    for key in keys:
        if isinstance(data, Mapping) and key not in data:
            return Located({})
        data = data[key]
    part = source.sub(*keys)
    return Located(part.data, part.places)  # it becomes the root of a run configuration
