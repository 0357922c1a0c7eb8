"""Checks of `lmrl-bench task lint` on texts and the tokenizer of the task's default policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.envs.setup import open_core
from lmrl_bench.tasks.lint import Finding
from lmrl_bench.tasks.spec import SPLITS, Split
from lmrl_bench.tasks.task import Task

ROWS = 500
"""Rows of each split that are encoded and decoded again."""


def text_checks(task: Task) -> Iterator[Finding]:
    """Data that spell control tokens, what template and tokenizer write twice, and texts that do not come back."""
    codec = open_core(task, None, "train").codec
    yield from _borders(task, codec)
    for split in SPLITS:
        samples = task.samples(split)
        yield from _spelled(codec, split, samples)
        yield from _unknown(codec, split, samples[:ROWS])
        yield from _changed(codec, split, samples[:ROWS])


def _borders(task: Task, codec: TextCodec) -> Iterator[Finding]:
    """BOS that template and tokenizer both write, and an end token behind causal prompts."""
    encoder, first = codec.encoder, task.samples("train")[0]
    if not first.messages and encoder.before:
        body = encoder.encode(first.prompt, first.written)
        if body[:1] == encoder.before[-1:]:
            token = codec.tokenizer.convert_ids_to_tokens(body[0])
            yield Finding(
                "warning",
                "prompt",
                f"the template writes {token}, and the tokenizer puts one before each prompt; only one is kept",
                f"remove {token} from prompt.template",
            )
    if codec.kind == "causal" and set(encoder.after) & set(codec.vocabulary.eos_ids):
        token = codec.tokenizer.convert_ids_to_tokens(encoder.after[-1])
        yield Finding(
            "warning",
            "prompt",
            f"the tokenizer of the default policy puts {token} after each prompt, where a causal policy "
            "would begin after the end; it is left out",
            "nothing to do; a policy that was trained with it may answer worse",
        )


def _spelled(codec: TextCodec, split: Split, samples: Sequence[Sample]) -> Iterator[Finding]:
    def found(sample: Sample) -> list[str]:
        contents = [content for _, content in sample.messages]
        prompt = codec.encoder.spelled(sample.prompt, sample.written) if not contents else []
        texts = [*contents, *sample.references]
        return prompt + [token for text in texts for token in codec.encoder.spelled(text)]

    rows = [sample for sample in samples if found(sample)]
    if rows:
        tokens = ", ".join(dict.fromkeys(found(rows[0])))
        yield Finding(
            "warning",
            split,
            f"{len(rows)} of {len(samples)} rows spell control tokens of the policy's tokenizer, the first is "
            f"'{rows[0].id}' ({tokens}); they are encoded as characters",
            "write control tokens in prompt.template, or clean the data",
        )


def _unknown(codec: TextCodec, split: Split, samples: Sequence[Sample]) -> Iterator[Finding]:
    unknown = codec.tokenizer.unk_token_id
    if unknown is None:
        return
    counts = [(_ids(codec, sample).count(unknown), len(_ids(codec, sample))) for sample in samples]
    rows = [sample for sample, (count, _) in zip(samples, counts, strict=True) if count]
    if rows:
        share = sum(count for count, _ in counts) / sum(size for _, size in counts)
        yield Finding(
            "warning",
            split,
            f"{share:.2%} of the tokens are {codec.tokenizer.unk_token}, in {len(rows)} of {len(samples)} rows, "
            f"the first is '{rows[0].id}': the policy's tokenizer has no token for these characters",
            "choose a policy whose tokenizer knows them, or clean the data",
        )


def _ids(codec: TextCodec, sample: Sample) -> list[int]:
    texts = [sample.prompt, *sample.references]
    return [number for text in texts for number in codec.encoder.encode(text)]


def _changed(codec: TextCodec, split: Split, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Prompts and references that the tokenizer gives back as other texts."""
    kinds: dict[str, Callable[[Sample], Sequence[str]]] = {
        "prompts": lambda sample: () if sample.messages or sample.written else (sample.prompt,),
        "references": lambda sample: sample.references,
    }
    for kind, texts_of in kinds.items():
        texts = [(sample.id, text.strip()) for sample in samples for text in texts_of(sample)]
        changed = [
            (name, text, back) for name, text in texts if (back := _back(codec, text)) != text
        ]
        if changed:
            name, text, back = changed[0]
            yield Finding(
                "warning",
                split,
                f"{len(changed)} of {len(texts)} {kind} come back from the policy's tokenizer as other texts, the "
                f"first is of '{name}': {text!r:.60} becomes {back!r:.60}",
                "choose a policy whose tokenizer keeps them, or know that completions cannot equal such references",
            )


def _back(codec: TextCodec, text: str) -> str:
    ids = torch.tensor([codec.encoder.encode(text)], dtype=torch.long)
    return codec.decode(ids, torch.ones_like(ids, dtype=torch.bool))[0]
