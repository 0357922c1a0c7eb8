"""`Task`: an open task folder with its samples, reward, metrics and digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmrl_bench.config.loading import load_yaml, validate
from lmrl_bench.core.digests import digest, file_digest
from lmrl_bench.core.errors import DataError, LmrlBenchError, MetricError, TaskError, nearest
from lmrl_bench.core.registry import Registry
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import METRICS, make_metric
from lmrl_bench.metrics.base import Metric
from lmrl_bench.metrics.building import needs_of
from lmrl_bench.rewards import REWARDS, make_reward
from lmrl_bench.rewards.composite import CompositeReward
from lmrl_bench.tasks.files import data_file
from lmrl_bench.tasks.plugin import FILE as PLUGIN_FILE
from lmrl_bench.tasks.plugin import Plugin
from lmrl_bench.tasks.samples import read_samples
from lmrl_bench.tasks.self_test import SelfTest, self_test
from lmrl_bench.tasks.spec import SPLITS, Split, TaskSpec

# Descriptive fields that no score depends on: correcting one must not invalidate records.
_WORDS = {"summary", "license", "citation", "score_normalization"}
# Fields that supervised fine-tuning reads; reward, metrics and decoding do not affect it.
_LEARNED = {"name", "language", "data", "prompt", "completion", "sft"}


class Task:
    """A task, read from its folder. Data, reward and metrics are loaded on first use and cached.

    Args:
        folder: Folder with `task.yaml`.

    Attributes:
        folder: The absolute folder.
        spec: The validated `task.yaml`.

    Raises:
        ConfigError: `task.yaml` is missing or invalid; lists all problems with file and line.
        TaskError: The name in `task.yaml` differs from the folder's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        file = self.folder / "task.yaml"
        self.spec = validate(TaskSpec, load_yaml(file))
        if self.spec.name != self.folder.name:
            raise TaskError(
                f"{file}: name is '{self.spec.name}', but the folder is '{self.folder.name}'; "
                "they must be equal"
            )
        self._samples: dict[Split, tuple[Sample, ...]] = {}
        self._reward: CompositeReward | None = None
        self._metrics: dict[str, Metric] = {}

    @property
    def name(self) -> str:
        """The task's name, which equals the folder's."""
        return self.spec.name

    @property
    def digest(self) -> str:
        """sha256 (hex) of everything that affects scores: definition, data, plug-in, models."""
        definition = self.spec.model_dump(mode="json", by_alias=True, exclude=_WORDS)
        models = sorted(path for path in (self.folder / "models").rglob("*") if path.is_file())
        return digest([definition, self._file_digests([*self._code(), *models])])

    @property
    def learning_digest(self) -> str:
        """sha256 (hex) of everything that affects the SFT policy: data, prompts, plug-in."""
        definition = self.spec.model_dump(mode="json", by_alias=True, include=_LEARNED)
        return digest([definition, self._file_digests(self._code())])

    def _code(self) -> list[Path]:
        return [path for path in [self.folder / PLUGIN_FILE] if path.is_file()]

    def _file_digests(self, paths: list[Path]) -> dict[str, str]:
        return {path.relative_to(self.folder).as_posix(): file_digest(path) for path in paths}

    def samples(self, split: Split) -> tuple[Sample, ...]:
        """Returns all samples of a split in file order; reads them once.

        Raises:
            TaskError: The split does not exist.

        Raises:
            TaskError: There is no such split.
            DataError: A file or a row is unusable; see `read_samples`.
        """
        if split not in SPLITS:
            raise TaskError(
                f"task '{self.name}' has no split '{split}'{nearest(split, SPLITS)} (allowed: "
                f"{', '.join(SPLITS)})"
            )
        if split not in self._samples:
            samples = read_samples(self.folder, self.spec, split, self._needing_references)
            self._require_new_ids(split, samples)
            self._samples[split] = samples
        return self._samples[split]

    def _needing_references(self) -> list[str]:
        """Returns the terms of the reward and the metrics that compare with references."""
        plugin = self._plugin()
        metrics = plugin.metrics if plugin else {}
        found = [f"the reward '{name}'" for name in self.reward_needing_references()]
        for metric in self.spec.metrics.all():
            known = _needs(metric.name, metrics, METRICS)
            if "references" in known and "references" in self.metric(metric.key).needs:
                found.append(f"the metric '{metric.key}'")
        return found

    def reward_needing_references(self) -> list[str]:
        """Returns the terms of the reward that compare with references."""
        plugin = self._plugin()
        metrics, rewards = (plugin.metrics, plugin.rewards) if plugin else ({}, {})
        terms = [term.name for term in self.spec.reward.terms]
        if not any("references" in _needs(n, rewards, REWARDS, metrics, METRICS) for n in terms):
            return []
        found = self.reward().terms.items()
        return [name for name, term in found if "references" in term.reward.needs]

    def _require_new_ids(self, split: Split, samples: tuple[Sample, ...]) -> None:
        """Rejects ids of another split, because encoded prompts are cached by id."""
        for other, known in self._samples.items():
            shared = {sample.id for sample in known} & {sample.id for sample in samples}
            if shared:
                raise DataError(
                    f"{self.folder / 'task.yaml'}: {len(shared)} ids are in both '{other}' and "
                    f"'{split}', for example '{min(shared)}'; ids must be unique in the task"
                )

    def sft_samples(self) -> tuple[Sample, ...]:
        """Returns the training samples of the SFT policy (`sft.filter`).

        Raises:
            TaskError: A field of `sft.filter` is not in `data.meta`, no row matches, or a row
                has no reference.
        """
        samples = self.matching("train")
        without = [sample.id for sample in samples if not sample.references]
        if without:
            raise TaskError(
                f"{self.folder / 'task.yaml'}: {len(without)} of {len(samples)} training rows have no "
                f"reference, for example '{without[0]}', so an SFT policy cannot be trained; use "
                "the base model (--set policy.init=base), or choose rows with sft.filter"
            )
        return samples

    def matching(self, split: Split) -> tuple[Sample, ...]:
        """Returns the samples of a split that match `sft.filter`; all by default.

        Raises:
            TaskError: A field of `sft.filter` is not in `data.meta`, or no row matches.
        """
        where = self.spec.sft.filter
        missing = sorted(set(where) - set(self.spec.data.meta))
        if missing:
            raise TaskError(
                f"{self.folder / 'task.yaml'}: sft.filter refers to {', '.join(missing)}; "
                "list it in data.meta"
            )
        chosen = tuple(
            sample
            for sample in self.samples(split)
            if all(sample.meta[name] == value for name, value in where.items())
        )
        if not chosen:
            raise TaskError(
                f"{self.folder / 'task.yaml'}: no row of '{split}' matches sft.filter {where}"
            )
        return chosen

    def reward(self) -> CompositeReward:
        """Returns the task's reward; built once.

        Raises:
            ConfigError: Unknown reward or wrong argument.
        """
        if self._reward is None:
            plugin = self._plugin()
            own = (plugin.rewards, plugin.metrics) if plugin else ()
            with self._named("reward"):
                self._reward = make_reward(self.spec.reward, self.folder, *own)
        return self._reward

    def metrics(self) -> dict[str, Metric]:
        """Returns the metrics by key (`as`, or the name): primary, held-out, others; built once.

        Raises:
            ConfigError: Unknown metric.
            MetricError: Wrong argument.
            DownloadError: A metric's model is not installed.
        """
        return {component.key: self.metric(component.key) for component in self.spec.metrics.all()}

    def metric(self, key: str) -> Metric:
        """Returns one metric by key, built once; models of other metrics need not be installed.

        Raises:
            TaskError: The task has no metric with this key.
        """
        components = {component.key: component for component in self.spec.metrics.all()}
        if key not in components:
            raise TaskError(
                f"task '{self.name}' has no metric '{key}'{nearest(key, components)} "
                f"(it has: {', '.join(components)})"
            )
        if key not in self._metrics:
            plugin = self._plugin()
            component = components[key]
            with self._named("metrics"):
                metric = make_metric(
                    component.name, component.args, self.folder, plugin.metrics if plugin else None
                )
                if key == self.spec.metrics.primary.key and metric.higher_is_better is None:
                    raise MetricError(
                        f"the primary metric '{key}' has no better direction, so leaderboards cannot rank by "
                        "it; choose another one, and list it under others"
                    )
            self._metrics[key] = metric
        return self._metrics[key]

    def self_test(self) -> SelfTest:
        """Scores the references as if a policy had written them; a good task has no `problems`.

        Raises:
            LmrlBenchError: The task's data, reward or metrics are unusable.
        """
        return self_test(self)

    def data_info(self) -> dict[str, dict[str, str | int]]:
        """Returns each split's row count and sha256 (of its file; for `hf-datasets` of its samples)."""
        return {
            split: {"sha256": self._data_digest(split), "rows": len(self.samples(split))}
            for split in SPLITS
        }

    def _data_digest(self, split: Split) -> str:
        if self.spec.data.reader != "hf-datasets":
            return file_digest(data_file(self.folder, self.spec.data, split))
        return digest(
            [[sample.id, sample.prompt, list(sample.references)] for sample in self.samples(split)]
        )

    @contextmanager
    def _named(self, section: str) -> Iterator[None]:
        """Adds file and section of task.yaml to errors."""
        try:
            yield
        except LmrlBenchError as error:
            raise type(error)(f"{self.folder / 'task.yaml'}: {section}: {error}") from error

    def _plugin(self) -> Plugin | None:
        return Plugin(self.folder) if (self.folder / PLUGIN_FILE).is_file() else None

    def __getstate__(self) -> dict[str, Any]:
        # Models and functions are not pickled: another process builds its own.
        return self.__dict__ | {"_reward": None, "_metrics": {}}


def _needs(name: str, *places: Mapping[str, Any] | Registry[Any]) -> frozenset[str]:
    """Returns the fields of a sample that a registered name may read; instances may read fewer."""
    for place in places:
        if name in place:
            return needs_of(place.get(name))
    return frozenset()
