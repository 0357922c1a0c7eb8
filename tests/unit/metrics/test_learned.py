"""Learned classifiers: equal to Transformers' pipeline, blind to batch mates, cuts counted."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    pipeline,
)

from lmrl_bench.core.errors import MetricError, PolicyError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import learned
from lmrl_bench.metrics.learned import LearnedClassifier, join, load_classifier
from lmrl_bench.models import checkpoint

WORDS = ["a", "great", "bad", "film", "the", "was", "it", "plot", "dull", "fine", "."]
TEXTS = ["great film .", "the plot was dull", "", "bad", "it was a fine film " * 4, "great " * 9]


def build_tokenizer(special):
    vocabulary = {
        word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if special:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    else:
        names |= {"eos_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names)


def build_model(kind):
    torch.manual_seed(0)
    labels = {
        "id2label": {0: "negative", 1: "positive"},
        "label2id": {"negative": 0, "positive": 1},
    }
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    shape |= {
        "vocab_size": 4 + len(WORDS),
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        **labels,
    }
    if kind == "bert":
        model = BertForSequenceClassification(BertConfig(initializer_range=0.5, **shape))
    else:
        model = LlamaForSequenceClassification(LlamaConfig(initializer_range=0.5, **shape))
    return model


@pytest.fixture(params=["bert", "llama"])
def folder(request, tmp_path):
    path = tmp_path / request.param
    build_model(request.param).half().save_pretrained(path)
    build_tokenizer(special=request.param == "bert").save_pretrained(path)
    return path


def samples(count, prompt=""):
    return [Sample(str(index), prompt, ("x",)) for index in range(count)]


def classifier(folder, **changes):
    return LearnedClassifier(folder, **({"label": "positive", "max_tokens": 32} | changes))


def test_equal_to_the_pipeline_of_transformers(folder):
    texts = [text for text in TEXTS if text]
    metric = classifier(folder, text="completion")
    oracle = pipeline("text-classification", model=str(folder), top_k=None, dtype=torch.float32)
    expected = [
        next(entry["score"] for entry in oracle(text)[0] if entry["label"] == "positive")
        if isinstance(oracle(text)[0], list)
        else next(entry["score"] for entry in oracle(text) if entry["label"] == "positive")
        for text in texts
    ]
    result = metric.score(texts, samples(len(texts)))
    np.testing.assert_allclose(result.per_sample, expected, atol=1e-6)
    assert np.ptp(expected) > 0.01, "the oracle must tell these texts apart"
    assert result.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert result.details == {"truncated": 0.0}


def test_independent_of_batch_mates_order_and_batch_size(folder):
    alone = [classifier(folder).score([text], samples(1)).value for text in TEXTS]
    for batch_size in (1, 2, 64):
        metric = classifier(folder, batch_size=batch_size)
        together = metric.score(TEXTS, samples(len(TEXTS))).per_sample
        backwards = metric.score(TEXTS[::-1], samples(len(TEXTS))).per_sample
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(backwards[::-1], alone, atol=1e-5)


def test_half_precision_file_is_run_in_single_precision_and_evaluation_mode(folder):
    model = classifier(folder)._classifier.model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_long_texts_are_cut_on_the_left_and_counted(folder):
    metric = classifier(folder, text="completion", max_tokens=8)
    long = "bad " * 20 + "great " * 8
    result = metric.score([long, "bad"], samples(2))
    assert result.details == {"truncated": 1.0}
    assert result.per_sample[0] == pytest.approx(
        metric.score(["great " * 8], samples(1)).value, abs=1e-6
    )


def test_prompt_is_read_unless_told_otherwise(folder):
    with_prompt = classifier(folder).score(["great film"], samples(1, prompt="the plot was"))
    joined = classifier(folder, text="completion").score(["the plot was great film"], samples(1))
    alone = classifier(folder, text="completion").score(
        ["great film"], samples(1, prompt="the plot was")
    )
    assert with_prompt.value == pytest.approx(joined.value, abs=1e-6)
    assert with_prompt.value != pytest.approx(alone.value, abs=1e-4)


def test_special_tokens_spelled_in_a_completion_are_text(folder):
    rows, _ = classifier(folder)._encode(["great [PAD] film", "great film"])
    assert 0 not in rows[0]
    assert len(rows[0]) > len(rows[1])


@pytest.mark.parametrize(
    ("prompt", "completion", "text"),
    [
        ("A film", "that", "A film that"),
        ("A film", " that", "A film that"),
        ("A film ", "that", "A film that"),
        ("A film", ". So", "A film. So"),
        ("A film", "", "A film"),
        ("", "that", "that"),
    ],
)
def test_join_glues_no_words(prompt, completion, text):
    assert join(prompt, completion) == text


def test_model_is_loaded_once_per_process(folder, monkeypatch):
    first = classifier(folder)
    monkeypatch.setattr(checkpoint, "load_checkpoint", None)
    assert classifier(folder, label="negative")._classifier is first._classifier


def test_negative_and_positive_add_up_to_one(folder):
    positive = classifier(folder).score(TEXTS, samples(len(TEXTS))).per_sample
    negative = classifier(folder, label="negative").score(TEXTS, samples(len(TEXTS))).per_sample
    np.testing.assert_allclose(positive + negative, 1.0, atol=1e-12)


def test_errors_name_the_remedy(folder, tmp_path):
    with pytest.raises(MetricError, match=r"no label 'postive'.*'positive'.*negative, positive"):
        classifier(folder, label="postive")
    with pytest.raises(MetricError, match=r"max_tokens is 500, but model .* has 32 positions"):
        classifier(folder, max_tokens=500)
    with pytest.raises(PolicyError, match=r"no model '.*nowhere'"):
        classifier(tmp_path / "nowhere")
    with pytest.raises(MetricError, match="2 completions for 1 samples"):
        classifier(folder).score(["a", "b"], samples(1))


def test_signature_follows_the_weights(folder, tmp_path):
    other = tmp_path / "copy" / folder.name
    shutil.copytree(folder, other)
    assert classifier(other).signature == classifier(folder).signature
    weights = load_file(other / "model.safetensors")
    weights["score.weight" if "score.weight" in weights else "classifier.weight"] += 1
    third = tmp_path / "changed" / folder.name
    shutil.copytree(folder, third)
    save_file(weights, third / "model.safetensors", metadata={"format": "pt"})
    assert classifier(third).signature != classifier(folder).signature
    assert "label:positive" in classifier(folder).signature


@pytest.fixture
def on_download(tmp_path, monkeypatch):
    """A BERT whose embeddings and first layer come from an 'download', the rest from its folder."""
    model = build_model("bert")
    download, own = tmp_path / "download", tmp_path / "own"
    model.bert.save_pretrained(download)
    build_tokenizer(special=True).save_pretrained(download)
    for parameter in model.bert.encoder.layer[1].parameters():
        parameter.data += 0.1
    model.save_pretrained(tmp_path / "whole")
    build_tokenizer(special=True).save_pretrained(tmp_path / "whole")
    own.mkdir()
    model.config.save_pretrained(own)
    trained = {
        key: value
        for key, value in model.state_dict().items()
        if key.startswith(("bert.encoder.layer.1.", "classifier."))
    }
    save_file(trained, own / "trained.safetensors")
    version = learned.catalog()["minilm"].version
    (own / "base.json").write_text(
        json.dumps({"download": "minilm", "version": version, "weights": "trained.safetensors"})
    )
    monkeypatch.setattr(learned, "download_path", lambda name: {"minilm": download}[name])
    return own


def test_folder_on_an_download_is_the_whole_model(on_download, tmp_path):
    whole = classifier(tmp_path / "whole").score(TEXTS, samples(len(TEXTS))).per_sample
    overlaid = classifier(on_download).score(TEXTS, samples(len(TEXTS))).per_sample
    np.testing.assert_allclose(overlaid, whole, atol=1e-7)


def test_folder_on_an_download_refuses_foreign_weights_and_versions(on_download):
    weights = load_file(on_download / "trained.safetensors")
    save_file(weights | {"bert.no.such": torch.zeros(1)}, on_download / "trained.safetensors")
    with pytest.raises(
        MetricError, match=r"weights do not match config\.json, first: bert\.no\.such"
    ):
        classifier(on_download)
    base = json.loads((on_download / "base.json").read_text())
    (on_download / "base.json").write_text(json.dumps(base | {"version": "9"}))
    with pytest.raises(MetricError, match=r"trained on download minilm 9, but the catalog has"):
        classifier(on_download)


def test_the_same_texts_are_read_once_and_equal_ones_too(folder):
    reward, metric = classifier(folder), classifier(folder, label="negative")
    reads = []
    handle = load_classifier(str(folder), None).model.register_forward_pre_hook(
        lambda _module, _args, kwargs: reads.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        first = reward.score(["bad", "great film .", "bad"], samples(3)).per_sample
        again = metric.score(["bad", "great film .", "bad"], samples(3)).per_sample
        other = reward.score(["great film .", "bad"], samples(2)).per_sample
    finally:
        handle.remove()
    assert reads == [2, 2]
    assert first[0] == first[2]
    np.testing.assert_allclose(first + again, 1.0)
    np.testing.assert_allclose(other, first[[1, 0]], atol=1e-7)
    first[:] = 7.0  # the caller's own
    np.testing.assert_allclose(reward.score(["great film .", "bad"], samples(2)).per_sample, other)


def test_the_prompt_is_read_only_where_the_model_sees_it(folder):
    assert classifier(folder).needs == {"prompt"}
    assert classifier(folder, text="completion").needs == frozenset()
