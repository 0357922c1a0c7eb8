"""BERTScore (Zhang et al. 2020): greedy matching of contextual embeddings, by bert-score.

The default encoder is the asset `minilm` (English only: for other languages use chrF or BLEU, or
name another encoder). Values depend on the encoder and are not rescaled, so they are comparable
only under the same signature. torch is imported when a metric is made, not with this module.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult
from lmrl_bench.metrics.checks import check_batch, check_references

if TYPE_CHECKING:
    from torch import Tensor

    from lmrl_bench.data.sample import Sample

_CACHED_REFERENCES: Final = 1024  # at 384 dimensions and 30 tokens about 50 kB each
_SPECIAL_TOKENS: Final = 2  # opening and closing token around every text


class _Embedded(NamedTuple):
    """One text.

    Attributes:
        tokens: `(1, N, D)` last hidden states.
        mask: `(1, N)`.
        weights: `(1, N)`, 0 at the special tokens.
        truncated: whether the text was too long.
    """

    tokens: Tensor
    mask: Tensor
    weights: Tensor
    truncated: bool


class BertScore(Metric):
    """BERTScore F1; best over references, the corpus value is the mean over samples.

    Cosines lie in [-1, 1]; with real encoders F1 lies between 0 and 1. An empty response scores 0.

    Args:
        model: The encoder: an asset, a folder, or a hub id with its `revision`.
        num_layers: Layer whose states are compared; the last one by default.
        batch_size: Texts per forward pass.
        revision: Commit of a hub id.

    Raises:
        AssetError: The asset is not installed.
        MetricError: The model is not an encoder, or has no such layer.
        PolicyError: Unknown model.
    """

    name = "bertscore"
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
        # A network built with fewer layers is what bert-score gets by cutting the upper ones off.
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
        """Encoder, layer, length limit and libraries."""
        return (
            f"bertscore|measure:f1|encoder:{self._identity}|layer:{self._num_layers}|idf:no|rescale:no"
            f"|max_tokens:{self._tokenizer.model_max_length}|references:best"
            f"|bert-score:{version('bert-score')}|transformers:{version('transformers')}"
        )

    def score(self, responses: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` responses; `details` counts the texts that were cut at the encoder's length.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty.
        """
        check_batch(self.name, responses, samples)
        check_references(self.name, samples)
        # bert-score 0.3.13 cannot encode an empty text with the tokenizers of Transformers 5.
        hypotheses = self._embed(text for text in responses if text.strip())
        references = self._embed_references(samples)
        rows = np.array(
            [
                max(_f1(references[text], hypotheses.get(response)) for text in sample.references)
                for response, sample in zip(responses, samples, strict=True)
            ],
            dtype=np.float64,
        )
        details = {
            "truncated_responses": float(
                sum(hypotheses[text].truncated for text in responses if text in hypotheses)
            ),
            "truncated_references": float(
                sum(references[text].truncated for sample in samples for text in sample.references)
            ),
        }
        return MetricResult(float(rows.mean()), rows, details)

    def _embed_references(self, samples: Sequence[Sample]) -> dict[str, _Embedded]:
        """Embeds the references that are not remembered; remembers the most recent ones."""
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
        """Embeds each different text once, in batches of similar length."""
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
    """F1 of one pair; alone, because in a batch padding would count as a match of cosine 0."""
    from bert_score.utils import greedy_cos_idf

    if hypothesis is None or min(reference.mask.sum(), hypothesis.mask.sum()) <= _SPECIAL_TOKENS:
        return 0.0
    # The library divides its arguments in place.
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
            f"metric 'bertscore': num_layers is {num_layers}, but '{model}' has layers "
            f"1 to {available}"
        )
    return int(num_layers or available)


def _limit(model: str, network: Any, tokenizer: Any) -> int:
    """Longest text in tokens: tokenizers may report 1e30, so the encoder's positions decide."""
    from lmrl_bench.models.limits import position_limits

    positions = position_limits(network).prompt
    if positions is None:
        raise MetricError(
            f"metric 'bertscore': the configuration of '{model}' has no max_position_embeddings; "
            "give an encoder such as BERT"
        )
    return int(min(positions, tokenizer.model_max_length))
