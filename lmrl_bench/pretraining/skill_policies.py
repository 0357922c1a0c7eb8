"""Base policies of the verifiable tasks: small models that learn a mixture of skills.

Each example is a fresh random string with the answer of one skill, drawn by its share; the prompt
does not say which. Strings of validation and test prompts are never drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PreTrainedTokenizerFast

from lmrl_bench.core.seeding import generator
from lmrl_bench.pretraining.architectures import build_causal, build_seq2seq
from lmrl_bench.pretraining.batches import Batch, collate_answers, collate_corrupted
from lmrl_bench.pretraining.card import CardText
from lmrl_bench.pretraining.corpus import data_files, sha256_of
from lmrl_bench.pretraining.objectives import Corrupted
from lmrl_bench.pretraining.recipes import SkillRecipe
from lmrl_bench.pretraining.runs import PretrainingRun
from lmrl_bench.pretraining.skills import (
    END_OF_PROMPT,
    FAMILIES,
    SKILL_TASKS,
    Family,
    data_folders,
    draw_texts,
    held_out_texts,
)
from lmrl_bench.pretraining.tokenizer import (
    encode_plain,
    train_causal_tokenizer,
    train_seq2seq_tokenizer,
)

_MEASURED_PROMPTS: Final = 512
_ANSWER_TOKENS: Final = 12
OTHER: Final = "no skill"


@dataclass(frozen=True)
class SkillBatches:
    """Batches of fresh examples; a step always gives the same ones.

    Attributes:
        family: Skills and strings.
        held_out: Strings that are never drawn.
        tokenizer: A byte-level tokenizer.
        seq2seq: Whether the batches are for an encoder-decoder model.
        batch_size: Examples in a batch.
        seed: Seed of the examples.
    """

    family: Family
    held_out: frozenset[str]
    tokenizer: PreTrainedTokenizerFast
    seq2seq: bool
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        """Returns `input_ids`, `attention_mask` and `labels` of one step."""
        rng = generator(self.seed, "skills", step)
        family = self.family
        texts = draw_texts(family.alphabet, family.lengths, self.batch_size, rng, self.held_out)
        shares = [skill.share for skill in family.skills]
        chosen = rng.choice(len(family.skills), size=self.batch_size, p=shares)
        answers = [family.skills[i].answer(text) for i, text in zip(chosen, texts, strict=True)]
        return self.collate(texts, answers)

    def collate(self, texts: Sequence[str], answers: Sequence[str]) -> Batch:
        """Returns the batch of given examples."""
        prompts = encode_plain(self.tokenizer, [text + END_OF_PROMPT for text in texts])
        targets = encode_plain(self.tokenizer, list(answers))
        eos_id, pad_id = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        if not self.seq2seq:
            return collate_answers(prompts, targets, eos_id, pad_id)
        pairs = [Corrupted(*pair) for pair in zip(prompts, targets, strict=True)]
        return collate_corrupted(pairs, eos_id, pad_id)


def prepare_skills(recipe: SkillRecipe, name: str, tasks: Path | None = None) -> PretrainingRun:
    """Prepares the learning of a mixture of skills.

    Args:
        recipe: Hyper-parameters.
        name: Name of the policy, for its card.
        tasks: Folder of the tasks, whose held-out prompts are excluded; default: the shipped ones.
    """
    family = FAMILIES[recipe.family]
    held_out = held_out_texts(recipe.family, tasks)
    train_tokenizer = train_seq2seq_tokenizer if recipe.seq2seq else train_causal_tokenizer
    # Without texts nothing is merged: a token is a byte.
    tokenizer = train_tokenizer([], recipe.vocabulary_size, recipe.sequence_length)
    seed = recipe.optimizer.seed
    torch.manual_seed(seed)
    build = build_seq2seq if recipe.seq2seq else build_causal
    source = SkillBatches(family, held_out, tokenizer, recipe.seq2seq, recipe.batch_size, seed)
    texts = sorted(held_out)
    measured = [
        texts[i] for i in generator(seed, "measured").permutation(len(texts))[:_MEASURED_PROMPTS]
    ]
    return PretrainingRun(
        tokenizer=tokenizer,
        model=build(recipe, tokenizer),
        source=source,
        validation={
            skill.name: [source.collate(measured, [skill.answer(text) for text in measured])]
            for skill in family.skills
        },
        optimizer=recipe.optimizer,
        data=_facts(recipe, tasks, len(held_out)),
        card=_card(recipe, name, measured[:3]),
        measure=lambda model: {"answers": answer_shares(model, tokenizer, family, measured)},
    )


@torch.no_grad()
def answer_shares(
    model: Any, tokenizer: PreTrainedTokenizerFast, family: Family, texts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Returns the share of answers that are those of each skill, sampled and greedy.

    An answer that fits several skills counts for each of them; `no skill` is the rest.
    """
    inputs = tokenizer([text + END_OF_PROMPT for text in texts], return_tensors="pt", padding=True)
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    found = {}
    for decoding, options in (("sampled", {"do_sample": True, "top_k": 0}), ("greedy", {})):
        torch.manual_seed(0)
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=_ANSWER_TOKENS,
            **options,
        )
        answers = tokenizer.batch_decode(output[:, start:], skip_special_tokens=True)
        found[decoding] = _shares(family, texts, answers)
    return found


def _shares(family: Family, texts: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    counts = Counter({skill.name: 0 for skill in family.skills} | {OTHER: 0})
    for text, answer in zip(texts, answers, strict=True):
        names = [skill.name for skill in family.skills if skill.answer(text) == answer]
        counts.update(names or [OTHER])
    return {name: round(count / len(texts), 4) for name, count in counts.items()}


def _facts(recipe: SkillRecipe, tasks: Path | None, held_out: int) -> dict[str, Any]:
    """Returns what the log says about the data: the mixture, and what was excluded from it."""
    family = FAMILIES[recipe.family]
    return {
        recipe.family: {
            "split": "train",
            "rows": recipe.optimizer.n_steps * recipe.batch_size,
            "generated": {skill.name: skill.share for skill in family.skills},
            "excluded_prompts": held_out,
            "excluded_sha256": {
                f"{folder.parent.name}/{file.name}": sha256_of(file)
                for folder in data_folders(recipe.family, tasks)
                for file in data_files(folder)
                if not file.name.startswith("train")
            },
        }
    }


_ABOUT: Final = """\
{model} that answers strings of {lengths} {alphabet}. It is the base policy of the {tasks}, small
enough for reinforcement learning within seconds on one processor core. Every pretraining example is a
random string with the answer of one skill, and the prompt does not say which: {mixture}.

**The base has seen the wanted skill**, `{wanted}`, in {share:.0%} of its pretraining examples. Reinforcement
learning elicits and strengthens it; it does not learn it from nothing.

The examples are generated (`lmrl_bench/pretraining/skills.py`); strings of the tasks' validation and test
prompts are excluded. A token is a byte. Lengths are limited to {{limit}} tokens. License: CC0-1.0."""


def _card(recipe: SkillRecipe, name: str, texts: Sequence[str]) -> CardText:
    family = FAMILIES[recipe.family]
    tasks = [key for key, task in SKILL_TASKS.items() if task.family == recipe.family]
    wanted = SKILL_TASKS[tasks[0]].skill
    share = next(skill.share for skill in family.skills if skill.name == wanted)
    names = " and ".join(f"`{task}`" for task in tasks)
    about = _ABOUT.format(
        model="A T5 model" if recipe.seq2seq else "A Llama model",
        lengths=f"{min(family.lengths)} to {max(family.lengths)}",
        alphabet=recipe.family,
        tasks=f"task{'s' if len(tasks) > 1 else ''} {names}",
        mixture=", ".join(f"{skill.name} {skill.share:.0%}" for skill in family.skills),
        wanted=wanted,
        share=share,
    )
    return CardText(
        command=f"skills {name}",
        about=about,
        predicted=" (of the answers of each skill, which the model cannot foresee)",
        prompts=tuple(text + END_OF_PROMPT for text in texts),
        limits="it knows nothing but these strings. For benchmarks and tests.",
    )
