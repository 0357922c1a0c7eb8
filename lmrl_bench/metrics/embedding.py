"""BERTScore (Zhang et al. 2020): greedy matching of contextual embeddings, computed by bert-score.

The default encoder is the download `minilm`, which is English only; for other languages use chrF,
BLEU or another encoder. Values depend on the encoder and are not rescaled: compare them only under
the same signature. torch is imported when a metric is built, not with this module.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult, check_batch, check_references

if TYPE_CHECKING:
    from torch import Tensor

    from lmrl_bench.data.sample import Sample

_CACHED_REFERENCES: Final = 1024  # about 50 kB each, with 384 dimensions and 30 tokens
_SPECIAL_TOKENS: Final = 2  # opening and closing token around every text


class _Embedded(NamedTuple):
    """One embedded text of `N` tokens, with dimension `D`.

    Attributes:
        tokens: Last hidden states, `(1, N, D)`.
        mask: `(1, N)`.
        weights: `(1, N)`, 0 for special tokens.
        truncated: The text exceeded the encoder's limit.
    """

    tokens: Tensor
    mask: Tensor
    weights: Tensor
    truncated: bool


class BertScore(Metric):
    """BERTScore F1 with the best reference; the corpus value is the mean over samples.

    Cosines lie in [-1, 1]; F1 of real encoders lies in [0, 1]. An empty completion scores 0.

    Args:
        model: Encoder: a download, a folder, or a hub id with its `revision`.
        num_layers: Layer whose hidden states are compared; the last one by default.
        batch_size: Texts per forward pass.
        revision: Commit of a hub id.

    Raises:
        DownloadError: The download is not installed.
        MetricError: The model is not an encoder, or has fewer layers.
        PolicyError: Unknown model.
    """

    name = "bertscore-minilm"
    bounds = (-1.0, 1.0)

    def __init__(
        self,
        model: str = "minilm",
        num_layers: int | None = None,
        batch_size: int = 64,
        revision: str | None = None,
    ) -> None:
        from lmrl_bench.models.checkpoint import ENCODER, load_checkpoint, read_config
        from lmrl_bench.models.texts import read_as_text
        from lmrl_bench.speedups.kernels import use_fast_kernels

        config = read_config(model, ENCODER, revision)
        self._num_layers = _layers(model, config, num_layers)
        self._batch_size = batch_size
        # bert-score cuts off the upper layers; loading fewer layers is equivalent and saves memory.
        loaded = load_checkpoint(model, ENCODER, revision, layers=self._num_layers)
        self._network: Any = loaded.model.requires_grad_(False)
        use_fast_kernels(self._network)
        self._tokenizer: Any = loaded.tokenizer
        read_as_text(self._tokenizer, f"metric 'bertscore': model '{model}'", MetricError)
        self._tokenizer.model_max_length = _limit(model, self._network, self._tokenizer)
        self._identity = loaded.identity
        self._references: OrderedDict[str, _Embedded] = OrderedDict()
        self._weights: dict[int, float] = defaultdict(lambda: 1.0)
        self._weights |= {self._tokenizer.sep_token_id: 0.0, self._tokenizer.cls_token_id: 0.0}

    @property
    def signature(self) -> str:
        """Encoder, layer, length limit and library versions."""
        return (
            f"bertscore|measure:f1|encoder:{self._identity}|layer:{self._num_layers}|idf:no|rescale:no"
            f"|max_tokens:{self._tokenizer.model_max_length}|references:best"
            f"|bert-score:{version('bert-score')}|transformers:{version('transformers')}"
        )

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions; `details` counts texts truncated at the encoder's limit.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty.
        """
        check_batch(self.name, completions, samples)
        check_references(self.name, samples)
        # bert-score 0.3.13 cannot encode an empty text with the tokenizers of Transformers 5.
        hypotheses = self._embed(text for text in completions if text.strip())
        references = self._embed_references(samples)
        rows = np.array(
            [
                max(_f1(references[text], hypotheses.get(completion)) for text in sample.references)
                for completion, sample in zip(completions, samples, strict=True)
            ],
            dtype=np.float64,
        )
        details = {
            "truncated_completions": float(
                sum(hypotheses[text].truncated for text in completions if text in hypotheses)
            ),
            "truncated_references": float(
                sum(references[text].truncated for sample in samples for text in sample.references)
            ),
        }
        return MetricResult(float(rows.mean()), rows, details)

    def _embed_references(self, samples: Sequence[Sample]) -> dict[str, _Embedded]:
        """Embeds references that are not cached; caches the most recent ones."""
        texts = dict.fromkeys(text for sample in samples for text in sample.references)
        known = {text: self._references[text] for text in texts if text in self._references}
        embedded = known | self._embed(text for text in texts if text not in known)
        for text in texts:
            self._references[text] = embedded[text]
            self._references.move_to_end(text)
        while len(self._references) > _CACHED_REFERENCES:
            self._references.popitem(last=False)
        return embedded

    def _embed(self, texts: Iterable[str]) -> dict[str, _Embedded]:
        """Embeds each distinct text once, in batches of similar length."""
        from bert_score.utils import get_bert_embedding

        lengths = {text: len(self._tokenizer.encode(text, verbose=False)) for text in texts}
        order = sorted(lengths, key=lambda text: lengths[text])
        embedded: dict[str, _Embedded] = {}
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            tokens, masks, weights = get_bert_embedding(
                batch, self._network, self._tokenizer, self._weights, device="cpu"
            )
            for row, text in enumerate(batch):
                stop = int(masks[row].sum())
                embedded[text] = _Embedded(
                    tokens[row : row + 1, :stop].clone(),
                    masks[row : row + 1, :stop],
                    weights[row : row + 1, :stop],
                    lengths[text] > self._tokenizer.model_max_length,
                )
        return embedded


def _f1(reference: _Embedded, hypothesis: _Embedded | None) -> float:
    """Returns F1 of one pair; in a batch, bert-score would count padding as a match of cosine 0."""
    from bert_score.utils import greedy_cos_idf

    if hypothesis is None or min(reference.mask.sum(), hypothesis.mask.sum()) <= _SPECIAL_TOKENS:
        return 0.0
    # greedy_cos_idf normalizes its arguments in place, and the embeddings are cached.
    _, _, f1 = greedy_cos_idf(
        reference.tokens.clone(), reference.mask, reference.weights.clone(),
        hypothesis.tokens.clone(), hypothesis.mask, hypothesis.weights.clone(),
    )  # fmt: skip
    return min(max(float(f1), -1.0), 1.0)


def _layers(model: str, config: Any, num_layers: int | None) -> int:
    available = getattr(config, "num_hidden_layers", None)
    if config.is_encoder_decoder or available is None:
        raise MetricError(
            f"metric 'bertscore': model '{model}' is a {config.model_type}; "
            "give an encoder such as BERT"
        )
    if num_layers is not None and not 1 <= num_layers <= available:
        raise MetricError(
            f"metric 'bertscore': num_layers is {num_layers}, but '{model}' has {available} layers "
            f"(allowed: 1 to {available})"
        )
    return int(num_layers or available)


def _limit(model: str, network: Any, tokenizer: Any) -> int:
    """Returns the longest text in tokens; tokenizers may report 1e30, so position limits decide."""
    from lmrl_bench.models.limits import position_limits

    positions = position_limits(network).prompt
    if positions is None:
        raise MetricError(
            f"metric 'bertscore': the configuration of '{model}' has no max_position_embeddings; "
            "give an encoder such as BERT"
        )
    return int(min(positions, tokenizer.model_max_length))
