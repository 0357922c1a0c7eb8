"""Learned classifiers as metrics: the probability that a text classifier gives to one label.

A model is a Hugging Face folder, a hub id with its revision, or a folder with only the trained part
of a model whose base is downloaded separately (named in `base.json`). Each model is loaded once per
process. torch is imported when a metric is built, not with this module.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmrl_bench.core.errors import MetricError, nearest
from lmrl_bench.downloads import catalog, download_path
from lmrl_bench.metrics.base import FloatArray, Metric, MetricResult, check_batch
from lmrl_bench.models.files import DOWNLOAD_BASE, read_json, weight_files
from lmrl_bench.models.fingerprints import model_identity
from lmrl_bench.models.names import resolve_model

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


@dataclass
class Classifier:
    """A loaded model with its tokenizer and the fingerprint of its weights."""

    model: Any
    tokenizer: Any
    identity: str
    _asked: tuple[Any, ...] = ()
    _answer: FloatArray = field(default_factory=lambda: np.empty((0, 0)), repr=False)

    def probabilities(self, rows: Sequence[list[int]], batch_size: int) -> FloatArray:
        """Returns label probabilities for rows of token ids, `(B, labels)`.

        Remembers the last call, because a task's reward and metric are often the same classifier on
        the same texts.
        """
        asked = (batch_size, tuple(map(tuple, rows)))
        if asked != self._asked:
            self._asked, self._answer = asked, self._compute(rows, batch_size)
        return self._answer

    def _compute(self, rows: Sequence[list[int]], batch_size: int) -> FloatArray:
        """Scores each distinct row once, in batches of similar length."""
        import torch

        distinct = sorted({tuple(row) for row in rows}, key=lambda row: (len(row), row))
        found: dict[tuple[int, ...], FloatArray] = {}
        activation = _activation(self.model.config)
        for start in range(0, len(distinct), batch_size):
            chosen = distinct[start : start + batch_size]
            batch = self.tokenizer.pad(
                {"input_ids": [list(row) for row in chosen]}, return_tensors="pt"
            )
            with torch.inference_mode():
                logits = self.model(**batch).logits.double()
                found |= zip(chosen, activation(logits).numpy(), strict=True)
        return np.stack([found[tuple(row)] for row in rows])


class LearnedClassifier(Metric):
    """Probability of one label under a text classifier; mean over completions.

    Args:
        model: Folder or hub id.
        label: Label whose probability is the score; one of the model's `id2label`.
        text: Input of the model: the prompt followed by the completion, or only the completion.
        max_tokens: Longer texts are truncated on the left, which keeps the end of the completion;
            `details["truncated"]` counts them.
        batch_size: Texts per forward pass.
        revision: Commit of a hub id; required for one.

    Raises:
        MetricError: Unknown label, a limit above the model's positions, or a hub id without
            revision.
        PolicyError: The model does not exist.
        DownloadError: The base model is not installed.
    """

    name = "classifier"
    needs: frozenset[str] = frozenset({"prompt"})
    bounds = (0.0, 1.0)

    def __init__(
        self,
        model: str | Path,
        label: str,
        text: Literal["prompt-completion", "completion"] = "prompt-completion",
        max_tokens: int = 128,
        batch_size: int = 64,
        revision: str | None = None,
    ) -> None:
        from lmrl_bench.models.limits import position_limits

        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self.needs = frozenset({"prompt"} if text == "prompt-completion" else ())
        self._label = label
        self._text = text
        self._classifier = load_classifier(str(model), revision)
        self._column = _label_column(self._classifier.model.config, label, str(model))
        positions = position_limits(self._classifier.model).prompt
        if positions is not None and max_tokens > positions:
            raise MetricError(
                f"metric '{self.name}': max_tokens is {max_tokens}, "
                f"but model '{model}' has {positions} positions"
            )

    @property
    def signature(self) -> str:
        """Model fingerprint, label, text, limit and library version."""
        return (
            f"classifier|model:{self._classifier.identity}|label:{self._label}|text:{self._text}"
            f"|max_tokens:{self.max_tokens}|transformers:{version('transformers')}"
        )

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions; each score is independent of the rest of the batch.

        Raises:
            MetricError: Lengths differ, or `B` is 0.
        """
        check_batch(self.name, completions, samples)
        texts = [
            join(sample.prompt, completion) if self._text == "prompt-completion" else completion
            for completion, sample in zip(completions, samples, strict=True)
        ]
        rows, n_truncated = self._encode(texts)
        scores = self._classifier.probabilities(rows, self.batch_size)[:, self._column].copy()
        return MetricResult(float(scores.mean()), scores, {"truncated": float(n_truncated)})

    def _encode(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Returns each text's token ids within the limit, and the number of truncated texts."""
        tokenizer = self._classifier.tokenizer
        full = tokenizer(list(texts), verbose=False)["input_ids"]
        long = [index for index, row in enumerate(full) if len(row) > self.max_tokens]
        for index in long:
            full[index] = tokenizer(texts[index], truncation=True, max_length=self.max_tokens)[
                "input_ids"
            ]
        # Without special tokens an empty completion has no ids, but the model needs at least one.
        specials = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        alone = next(token for token in specials if token is not None)
        return [row or [alone] for row in full], len(long)


def join(prompt: str, completion: str) -> str:
    """Joins prompt and completion as displayed: a space between words, none before punctuation."""
    touching = prompt and completion and not prompt[-1].isspace() and completion[0].isalnum()
    return f"{prompt} {completion}" if touching else prompt + completion


@functools.cache
def load_classifier(model: str, revision: str | None) -> Classifier:
    """Loads a model in single precision and evaluation mode, once per process.

    Raises:
        MetricError: A hub id without revision, or weights that do not match their configuration.
        PolicyError: The model does not exist.
        DownloadError: The base model is not installed.
    """
    from lmrl_bench.models.checkpoint import CLASSIFIER, load_checkpoint

    place = resolve_model(model, revision)
    if not Path(place).is_dir() and revision is None:
        raise MetricError(f"classifier '{model}' comes from a hub: pin it with `revision`")
    if (Path(place) / DOWNLOAD_BASE).is_file():
        network, tokenizer = _load_on_download(Path(place))
        return _ready(network, tokenizer, model_identity(place, revision))
    loaded = load_checkpoint(model, CLASSIFIER, revision)
    return _ready(loaded.model, loaded.tokenizer, loaded.identity)


def _ready(network: Any, tokenizer: Any, identity: str) -> Classifier:
    from lmrl_bench.models.texts import read_as_text
    from lmrl_bench.speedups.kernels import use_fast_kernels

    # Truncate the prompt's beginning, never the completion; pooling expects padding on the right.
    tokenizer.truncation_side = "left"
    tokenizer.padding_side = "right"
    # "[PAD]" or "</s>" in a completion is text; read as a token it would change the pooling.
    read_as_text(tokenizer, f"classifier '{identity}'", MetricError)
    if tokenizer.pad_token_id is None or network.config.pad_token_id is None:
        raise MetricError(f"classifier '{identity}': tokenizer and config must name a pad token")
    use_fast_kernels(network)
    return Classifier(network.eval().requires_grad_(False), tokenizer, identity)


def _load_on_download(folder: Path) -> tuple[Any, Any]:
    """Loads base weights and overlays the trained ones of `folder`; no weight stays random."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    from lmrl_bench.models.border import reported
    from lmrl_bench.models.checkpoint import CLASSIFIER, load_tokenizer, read_config
    from lmrl_bench.models.stored import check_finite

    base = read_json(folder / DOWNLOAD_BASE)
    for key in ("download", "version", "weights"):
        if not isinstance(base.get(key), str):
            raise MetricError(f"{folder / DOWNLOAD_BASE}: '{key}' is not text; restore the file")
    source = download_path(base["download"])
    if catalog()[base["download"]].version != base["version"]:
        raise MetricError(
            f"{folder / DOWNLOAD_BASE}: trained on download {base['download']} {base['version']}, but the "
            f"catalog has {catalog()[base['download']].version}; train the classifier again"
        )
    what = f"the classifier '{folder}'"
    (weights,) = weight_files(folder)
    config = read_config(str(folder), CLASSIFIER)
    with reported(what, MetricError, folder):
        network = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32
        )
        trained = load_file(weights)
        below = load_file(source / "model.safetensors")
    wanted = network.state_dict()
    prefix = network.base_model_prefix
    state = {f"{prefix}.{key}": value for key, value in below.items()}
    state = {key: value for key, value in state.items() if key in wanted} | trained
    if state.keys() != wanted.keys():
        wrong = sorted(state.keys() ^ wanted.keys())
        raise MetricError(
            f"{folder}: weights do not match config.json, first: {wrong[0]} ({len(wrong)} in all)"
        )
    check_finite(state, what, MetricError)
    with reported(what, MetricError):
        network.load_state_dict({key: value.float() for key, value in state.items()})
    return network, load_tokenizer(str(source))


def _label_column(config: Any, label: str, model: str) -> int:
    stated = _labels(config, model)
    if label not in stated:
        raise MetricError(
            f"classifier '{model}' has no label '{label}'{nearest(label, stated)}; "
            f"its labels: {', '.join(stated)}"
        )
    kind = config.problem_type
    if len(stated) == 1 or kind == "regression":
        raise MetricError(
            f"classifier '{model}' is a regression model ({len(stated)} outputs); "
            "its output is not a probability"
        )
    if kind not in (None, "single_label_classification", "multi_label_classification"):
        raise MetricError(
            f"classifier '{model}': config.json sets problem_type to {kind!r}; allowed are "
            "single_label_classification and multi_label_classification"
        )
    return stated[label]


def _labels(config: Any, model: str) -> dict[str, int]:
    """Returns the output index of each label; `id2label` and `label2id` must agree."""
    columns = {int(column): str(name) for column, name in config.id2label.items()}
    labels = {name: column for column, name in columns.items()}
    stated = {name: int(column) for name, column in (config.label2id or labels).items()}
    if stated != labels or len(labels) < len(columns):
        raise MetricError(
            f"classifier '{model}': id2label {columns} and label2id {stated} in config.json "
            "disagree; correct them"
        )
    return stated


def _activation(config: Any) -> Any:
    import torch

    if config.problem_type == "multi_label_classification":
        return torch.sigmoid
    return functools.partial(torch.softmax, dim=-1)
