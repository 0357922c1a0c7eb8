"""A classifier's configuration says which output is which label, or it is refused."""

from __future__ import annotations

import pytest
import torch
from fixtures.checkpoints import edit
from fixtures.tokenizers import word_piece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from lmrl_bench.core.errors import MetricError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric
from lmrl_bench.models.texts import read_as_text

SAMPLES = [Sample("0", "the red", ("house",), {})]


@pytest.fixture
def classifier(tmp_path):
    tokenizer = word_piece("[CLS] $A [SEP]")
    torch.manual_seed(0)
    BertForSequenceClassification(
        BertConfig(
            vocab_size=96, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=160, pad_token_id=0,
            id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
        )
    ).save_pretrained(tmp_path)  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def score(folder, label="good"):
    metric = make_metric("classifier", {"model": str(folder), "label": label})
    return metric.score(["house"], SAMPLES).value


@pytest.mark.parametrize(
    "changes",
    [
        {"label2id": {"good": 0, "bad": 1}},
        {"label2id": {"bad": 0, "good": 5}},
        {"label2id": {"good": 1}},
        {"label2id": {"bad": 1, "good": 1}},
        {"id2label": {"0": "good", "1": "good"}, "label2id": {"good": 1}},
    ],
)
def test_labels_that_disagree_are_refused(classifier, changes):
    edit(classifier / "config.json", **changes)
    with pytest.raises(MetricError, match=r"id2label .* and label2id .* disagree"):
        score(classifier)


@pytest.mark.parametrize(("kind", "reason"), [("regression", "not a prob"), ("other", "'other'")])
def test_outputs_that_are_not_probabilities_are_refused(classifier, kind, reason):
    edit(classifier / "config.json", problem_type=kind)
    with pytest.raises(MetricError, match=reason):
        score(classifier)


@pytest.mark.parametrize("removed", [None, "label2id"])
def test_labels_that_agree_are_read(classifier, removed):
    if removed:
        edit(classifier / "config.json", **{removed: None})
    assert score(classifier) + score(classifier, "bad") == pytest.approx(1)


@pytest.mark.parametrize(
    ("normalizer", "texts"),
    [
        (normalizers.Lowercase(), ["<S>", "</S>", "<PAD>", "a </S> b"]),
        (normalizers.NFKC(), ["＜s＞", "＜/s＞"]),
        (normalizers.StripAccents(), ["<s\u0301>"]),
    ],
)
def test_a_normalizer_cannot_make_text_a_control_token(normalizer, texts):
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3, "the": 4}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.normalizer = normalizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<pad>",
    )  # fmt: skip
    read_as_text(tokenizer, "it", MetricError)
    for text in texts:
        assert set(tokenizer(text)["input_ids"]) == {0}
    assert tokenizer("the the")["input_ids"] == [4, 4]
