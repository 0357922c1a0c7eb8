"""`leaderboard.yaml` as data, and the grid of runs that it stands for.

A board fixes tasks, rows, seeds and the configuration that all rows share, so that rows compare.
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

BOARD_FILE = "leaderboard.yaml"
_HERE = Path("leaderboards")
_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
_FIXED = ("task", "label", "seed", "runtime")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BoardTask(_Strict):
    """A task of the board."""

    task: str = Field(pattern=_NAME, description="a registered task")
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="run configuration for this task, under the rows' own"
    )


class BoardEntry(_Strict):
    """A row of every task's table."""

    label: str = Field(pattern=_NAME, description="name of the row")
    algorithm: str = Field(
        description="a registered algorithm; 'none' evaluates an untrained start"
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="run configuration of this row, e.g. policy.start"
    )


class ReferenceRows(_Strict):
    """The rows that the others are compared with; null if the board has no such row."""

    zero_shot: str | None = "zero-shot"
    supervised: str | None = "supervised"

    def labels(self) -> list[str]:
        """The labels that are given."""
        return [label for label in (self.zero_shot, self.supervised) if label]


class TuningSpec(_Strict):
    """How the tasks' settings for the board's algorithms were chosen (`lmrl-bench leaderboard tune`)."""

    trials: int = Field(
        6, ge=1, description="settings tried per task and algorithm, the present ones first"
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [100], description="of the trials; none may be the board's"
    )
    budget_share: float = Field(
        1.0, gt=0.0, le=1.0, description="tokens of a trial's run, as a share of the board's budget"
    )
    validation_samples: int = Field(
        256, gt=0, description="first rows of the validation split, on which trials are judged"
    )


class BoardSpec(_Strict):
    """A board: tasks × rows × seeds under one shared configuration."""

    name: str = Field(pattern=_NAME)
    title: str
    description: str = ""
    findings: list[str] = Field(
        default_factory=list,
        description="what the results say, in plain words with their uncertainty; written once they are there",
    )
    tasks: Annotated[list[BoardTask], Field(min_length=1)]
    entries: Annotated[list[BoardEntry], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="run configuration of all cells: budget, evaluation, policy, sampling",
    )
    reference: ReferenceRows = Field(default_factory=ReferenceRows)
    tuning: TuningSpec | None = Field(
        None, description="printed on the board; must be what the tasks' settings were made by"
    )
    _source: Located | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """Where the board's files are written: its own folder; of a bundled board ./leaderboards/<name>."""
        return self._folder or _HERE / self.name

    @property
    def definition(self) -> Any:
        """The content of the board's file, as it was read."""
        return self._source.data if self._source else self.model_dump(mode="json")

    @model_validator(mode="before")
    @classmethod
    def _reference_rows_that_are_there(cls, content: Any) -> Any:
        """A reference row that is not given is the usual one, if the board has it."""
        if not isinstance(content, Mapping) or not isinstance(content.get("entries"), list):
            return content
        labels = [entry.get("label") for entry in content["entries"] if isinstance(entry, Mapping)]
        given = content.get("reference", {})
        if not isinstance(given, Mapping):
            return content
        usual = {name: field.default for name, field in ReferenceRows.model_fields.items()}
        known = {name: label if label in labels else None for name, label in usual.items()}
        return {**content, "reference": known | dict(given)}

    @model_validator(mode="after")
    def _consistent(self) -> BoardSpec:
        labels = [entry.label for entry in self.entries]
        for what, values in (
            ("tasks", [task.task for task in self.tasks]),
            ("labels", labels),
            ("seeds", [str(seed) for seed in self.seeds]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} given twice: {', '.join(twice)}")
        for label in self.reference.labels():
            if label not in labels:
                raise ValueError(
                    f"reference: no entry has the label '{label}'{nearest(label, labels)}; "
                    "write null if the board has no such row"
                )
        if self.tuning is not None:
            require_other_seeds(self.tuning, self.seeds)
        parts = [self.config, *(t.overrides for t in self.tasks), *(e.set for e in self.entries)]
        fixed = sorted({key for part in parts for key in _FIXED if key in part})
        if fixed:
            raise ValueError(
                f"{', '.join(fixed)} cannot be configured here: tasks, labels and seeds are the "
                "board's, and `runtime` belongs to the command line"
            )
        return self


def require_other_seeds(tuning: TuningSpec, seeds: list[int]) -> None:
    """Refuses a tuning that sees a seed of the board.

    Raises:
        ValueError: They share a seed.
    """
    if shared := sorted({*tuning.seeds} & {*seeds}):
        raise ValueError(
            f"tuning.seeds: {', '.join(map(str, shared))} is a seed of the board; settings that are chosen on "
            "a seed flatter it: tune with others (100 and above)"
        )


@dataclass(frozen=True)
class Cell:
    """One run of a board.

    Attributes:
        task: Task name.
        label: Row.
        seed: Root seed of the run.
        located: The run configuration as the board gives it, with the places in `leaderboard.yaml`;
            defaults and the task's tuned settings go below it.
    """

    task: str
    label: str
    seed: int
    located: Located

    @property
    def config(self) -> dict[str, Any]:
        """The run configuration as plain data."""
        data: dict[str, Any] = self.located.data
        return data

    def folder(self, results_root: Path, board: str) -> Path:
        """Returns results/<board>/<task>/<label>/<seed>."""
        return Path(results_root, board, self.task, self.label, str(self.seed))


def cells(spec: BoardSpec) -> list[Cell]:
    """Returns every run of the board: tasks × entries × seeds, in the order of the file."""
    source = spec._source or Located.plain(spec.model_dump(mode="json"), f"board '{spec.name}'")
    shared = _part(source, "config")
    grid = []
    for t, task in enumerate(spec.tasks):
        below = merge(shared, _part(source, "tasks", t, "overrides"))
        for e, entry in enumerate(spec.entries):
            row = merge(below, _part(source, "entries", e, "set"))
            given = {
                "task": task.task,
                "label": entry.label,
                "seed": None,
                "algorithm": {"name": entry.algorithm},
            }
            here = Located.plain(given, str(source.place(("entries", e)) or ""))
            whole = merge(row, here)
            for seed in spec.seeds:
                located = Located({**whole.data, "seed": seed}, whole.places, whole.prefix)
                grid.append(Cell(task.task, entry.label, seed, located))
    return grid


def load_board(name_or_path: str | Path) -> BoardSpec:
    """Reads a board of ./leaderboards or a bundled one by name, or any `leaderboard.yaml` or folder that holds one.

    Raises:
        ConfigError: Unknown name (lists the boards and the nearest one), or problems in the file.
    """
    path = _board_file(name_or_path)
    located = load_yaml(path)
    spec = validate(BoardSpec, located)
    spec._source = located
    packaged = path.resolve().is_relative_to(bundled("leaderboards").resolve())
    spec._folder = None if packaged and not Path(name_or_path).exists() else path.parent
    return spec


def board_names() -> list[str]:
    """Returns the names of the boards in ./leaderboards and of the bundled ones, sorted."""
    roots = (_HERE, bundled("leaderboards"))
    return sorted({path.parent.name for root in roots for path in root.glob(f"*/{BOARD_FILE}")})


def _board_file(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    places = [path, *(root / path for root in (_HERE, bundled("leaderboards")))]
    for candidate in (path, *(place / BOARD_FILE for place in places)):
        if candidate.is_file():
            here = Path.cwd()  # messages show short paths
            inside = candidate.is_relative_to(here)
            return candidate.relative_to(here) if inside else candidate
    names = board_names()
    raise ConfigError(
        f"unknown board '{name_or_path}'{nearest(str(name_or_path), names)} (known: "
        f"{', '.join(names) or 'none'}; or give the folder of a {BOARD_FILE})"
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
