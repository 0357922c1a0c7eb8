"""Uses any `evaluate` module as a metric, offline; imports `evaluate` only when needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lmrl_bench.core.digests import canonical_json, file_sha256
from lmrl_bench.core.errors import MetricError, nearest
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics.base import FloatArray, Metric, MetricResult, check_batch, check_references
from lmrl_bench.metrics.foreign import border
from lmrl_bench.metrics.values import as_number, per_completion

_COLUMNS = {"predictions", "references"}


class EvaluateMetric(Metric):
    """One value of an `evaluate` module that compares texts with references.

    Modules do not declare bounds or direction, so both are arguments. The value exists only for a
    corpus, unless the module returns one number per completion or `per_sample` is set, which runs
    the module once per completion.

    Args:
        key: Key of the module's result to read; a list of `B` numbers is averaged.
        script: A local script `metric.py`, or a folder that contains a script of the same name.
        module: An `evaluate.Metric` object instead of a script (Python only).
        options: Additional arguments of the module's `compute`.
        per_sample: Run the module once per completion; required for a reward if the module does not
            return a list.
        bounds: Smallest and largest possible value.
        higher_is_better: Direction of the metric.
        name: Key in records; `evaluate-<module>-<key>` by default.
    """

    def __init__(
        self,
        key: str,
        script: str | None = None,
        module: Any = None,
        options: Mapping[str, Any] | None = None,
        per_sample: bool = False,
        bounds: tuple[float, float] = (-math.inf, math.inf),
        higher_is_better: bool = True,
        name: str | None = None,
    ) -> None:
        if (script is None) == (module is None):
            raise MetricError("metric 'evaluate': give either `script` or `module`")
        self._module = module if script is None else _load(script)
        self.name = name or f"evaluate-{self._module.name}-{key}"
        self.bounds = bounds
        self.higher_is_better = higher_is_better
        self._key = key
        self._options = dict(options or {})
        self._each = per_sample
        self._rows_seen = False
        self._source = "" if script is None else f"|script:{_script_digest(Path(script))}"
        self._several = _takes_several_references(self.name, self._module)

    @property
    def signature(self) -> str:
        """Module, key, options, digest of the script, and library version."""
        return (
            f"evaluate|module:{self._module.name}|key:{self._key}|options:{canonical_json(self._options)}"
            f"|per-sample:{'yes' if self._each else 'no'}{self._source}"
            f"|evaluate:{version('evaluate')}"
        )

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions with the module.

        Raises:
            MetricError: Lengths differ, `B` is 0, a reference is empty, a sample has more
                references than the module takes, or the result has no number under the key.
        """
        check_batch(self.name, completions, samples)
        check_references(self.name, samples)
        references = [self._references(sample) for sample in samples]
        value = self._compute(list(completions), references, samples)
        per_sample = value if isinstance(value, np.ndarray) else None
        if per_sample is not None:
            self._require_rows(completions[0], references[0], samples[0])
        elif self._each:
            triples = zip(completions, references, samples, strict=True)
            rows = [np.mean(self._compute([text], [one], [row])) for text, one, row in triples]
            per_sample = np.array(rows, dtype=np.float64)
        return MetricResult(float(np.mean(value)), per_sample)

    def _require_rows(self, completion: str, reference: str | list[str], sample: Sample) -> None:
        """Checks once that a list has one number per completion: BLEU's four precisions do not."""
        # A batch of exactly four would pass; a batch of one shows what the list's length means.
        if not self._rows_seen:
            self._compute([completion], [reference], [sample])
            self._rows_seen = True

    def _references(self, sample: Sample) -> str | list[str]:
        if self._several:
            return list(sample.references)
        if len(sample.references) > 1:
            raise MetricError(
                f"metric '{self.name}': sample '{sample.id}' has {len(sample.references)} "
                "references, but the module takes one"
            )
        return sample.references[0]

    def _compute(
        self,
        completions: list[str],
        references: list[str | list[str]],
        samples: Sequence[Sample],
    ) -> float | FloatArray:
        """Returns the value under the key: a number, or `(B,)` numbers."""
        with border(f"in the module of metric '{self.name}'", self._module, MetricError):
            result = self._module.compute(
                predictions=completions, references=references, **self._options
            )
        if not isinstance(result, Mapping):
            raise MetricError(f"metric '{self.name}': the module returned {result!r}")
        if self._key not in result:
            raise MetricError(
                f"metric '{self.name}': the module's result has no key '{self._key}'"
                f"{nearest(self._key, result)} (it has: {', '.join(result)})"
            )
        value = result[self._key]
        number = as_number(value)
        if number is not None and np.ndim(value) == 0:
            return number
        if np.shape(value)[:1] != (len(completions),) or isinstance(value, str | Mapping):
            raise MetricError(
                f"metric '{self.name}': '{self._key}' of the module's result is neither a number "
                f"nor a list of {len(completions)} numbers, one per completion"
            )
        return per_completion(value, samples, f"metric '{self.name}'", MetricError)


def _load(script: str) -> Any:
    if not _script_file(Path(script)).is_file():
        raise MetricError(
            f"metric 'evaluate': no script at '{script}'; give a local file, or a folder that "
            "contains a script of the same name, relative to the task folder"
        )
    import evaluate

    try:
        return evaluate.load(script, module_type="metric", keep_in_memory=True)
    except Exception as error:
        raise MetricError(
            f"metric 'evaluate': cannot load the script '{script}': {error!r}"
        ) from error


def _script_file(path: Path) -> Path:
    return path / f"{path.name}.py" if path.is_dir() else path


def _script_digest(path: Path) -> str:
    return file_sha256(_script_file(path))[:12]


def _takes_several_references(name: str, module: Any) -> bool:
    """Returns whether references may be lists; rejects modules that do not compare texts."""
    features = module.features if isinstance(module.features, list) else [module.features]
    texts = [
        columns
        for columns in features
        if set(columns) == _COLUMNS and _is_text(columns["predictions"])
    ]
    if not texts:
        raise MetricError(
            f"metric '{name}': the module takes {features[0]}; only modules with the columns "
            "predictions and references, both texts, can be used"
        )
    return any(not _is_text(columns["references"]) for columns in texts)


def _is_text(feature: Any) -> bool:
    from datasets import Value

    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")
