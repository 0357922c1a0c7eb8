"""A small run from texts to folder: it learns, resumes, and writes what it says."""

import csv
import gzip
import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.pretraining import corpus, export
from lmrl_bench.pretraining import train as train_module
from lmrl_bench.pretraining.export import write_policy
from lmrl_bench.pretraining.recipes import CausalRecipe, OptimizerRecipe, Seq2SeqRecipe
from lmrl_bench.pretraining.runs import prepare_causal, prepare_seq2seq
from lmrl_bench.pretraining.train import Progress, learning_rate, train

OPTIMIZER = OptimizerRecipe(n_steps=30, peak_learning_rate=5e-3, warmup_steps=3)
CAUSAL = CausalRecipe(320, 1, 16, 32, 2, 16, 4, OPTIMIZER)
SEQ2SEQ = replace(
    Seq2SeqRecipe(optimizer=OPTIMIZER),
    vocabulary_size=360,
    n_layers=1,
    hidden_size=16,
    feed_forward_size=32,
    n_heads=2,
    maximum_length=32,
    tokens_per_batch=128,
)
REVIEW = (
    "the film was good because the actor was good and the story of the film was good and so was "
    "the music "
)


@pytest.fixture(scope="module", autouse=True)
def _short_blocks():
    """Let the train block of the reviews end early, so that the data sets can be tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "REVIEW_TRAIN_ROWS", 60)
        yield


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Write three tiny data sets and return their paths."""
    folder = tmp_path_factory.mktemp("texts")
    reviews = folder / "combined_movie_reviews.csv"
    with reviews.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "source"])
        writer.writerows([[f"{REVIEW}{i}", 0, "imdb"] for i in range(100)])
    docs, debian = folder / "docs.jsonl.gz", folder / "debian.jsonl.gz"
    for path, row in (
        (docs, {"src": "Open the file now.", "tgt": "Öffnen Sie die Datei jetzt."}),
        (debian, {"document": "A library that reads files of many kinds."}),
    ):
        with gzip.open(path, "wt", encoding="utf-8") as stream:
            for split in ["train"] * 40 + ["val"] * 20:
                stream.write(json.dumps({**row, "split": split}) + "\n")
    return {"reviews": reviews, "docs": docs, "debian": debian}


def prepare(kind, texts):
    if kind == "causal":
        return prepare_causal(CAUSAL, texts["reviews"], texts["debian"])
    return prepare_seq2seq(SEQ2SEQ, texts["docs"], texts["debian"])


def test_learning_rate_rises_and_falls():
    rates = [learning_rate(step, OPTIMIZER) for step in range(31)]
    assert max(rates) == rates[2] == rates[3] == pytest.approx(5e-3)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[30] == pytest.approx(5e-3 * OPTIMIZER.final_ratio)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_run_learns_and_the_written_folder_is_the_model(kind, texts, tmp_path):
    run = prepare(kind, texts)
    progress = train(run.model, run.source, run.optimizer, tmp_path / "checkpoint.pt")
    assert progress.step == 30
    assert progress.curve[-1]["loss"] < 5.6
    write_policy(run, f"tiny-{kind}", {}, progress, tmp_path / "out")
    loader = AutoModelForCausalLM if kind == "causal" else AutoModelForSeq2SeqLM
    reloaded = loader.from_pretrained(tmp_path / "out")
    assert reloaded.dtype == torch.float32
    for name, weight in run.model.state_dict().items():
        assert torch.equal(reloaded.state_dict()[name], weight.half().float()), name
    log = json.loads((tmp_path / "out" / "training.json").read_text())
    assert log["tokens_seen"] == progress.tokens > 0
    assert set(log["validation"]) >= {"descriptions"}
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "<pad>"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "out"]


def test_stopped_run_goes_on_to_the_same_weights(texts, tmp_path, monkeypatch):
    whole, stopped, resumed = (prepare("causal", texts) for _ in range(3))
    # The schedule belongs to the whole run, so the stop is made by the source.
    train(whole.model, whole.source, OPTIMIZER, tmp_path / "whole.pt")

    class Stops:
        def batch(self, step):
            if step == 20:
                raise KeyboardInterrupt
            return stopped.source.batch(step)

    checkpoint = tmp_path / "part.pt"
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(stopped.model, Stops(), OPTIMIZER, checkpoint)
    progress = train(resumed.model, resumed.source, OPTIMIZER, checkpoint)
    assert progress.step == 30
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, msg=name)


def test_rounding_that_hurts_is_refused_and_leaves_nothing(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAXIMUM_LOSS_CHANGE", -1.0)
    run = prepare("causal", texts)
    with pytest.raises(PolicyError, match="float16 changes the validation loss"):
        write_policy(run, "tiny", {}, Progress(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
