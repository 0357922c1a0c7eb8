"""The only place where text becomes token ids, and ids become text.

Padding, EOS and truncation are decided here once. Ids drawn by a policy are decoded for rewards and
metrics and never encoded again, because `encode(decode(ids))` may differ from `ids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lmrl_bench.core.errors import DataError
from lmrl_bench.data.chat import answer_lead, encode_chat
from lmrl_bench.data.encoding import TextEncoder
from lmrl_bench.data.episodes import Prompts
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.vocabulary import Vocabulary

Truncation = Literal["error", "left", "right"]
Kind = Literal["causal", "seq2seq"]
_SPACES = " Ġ▁"
"""Spellings of a space in vocabularies."""


class TextCodec:
    """Encodes prompts and references, decodes completions.

    **Control tokens.** Data are text: control tokens spelled in them are encoded as characters
    (`TextEncoder`). A task's template, a chat template and the tokenizer itself can write control
    tokens. If template and tokenizer both add BOS, it appears once. An end token that the tokenizer
    appends to a causal prompt is dropped; otherwise the completion would begin after the end.

    **Border between prompt and completion.** A prompt is encoded with the tokens that the tokenizer
    adds (BOS for Llama, EOS at the end of the encoder's input for T5 and BART). Completion ids of a
    causal policy directly follow prompt ids. A reference starts with a space if the tokenizer joins
    a space with the following word (" word" is one token in byte-level BPE). It starts with its
    first letter if a space is a token of its own (characters, bytes), if the tokenizer adds the
    space (SentencePiece), or if a decoder starts separately (T5). `decode` strips outer white
    space; to display prompt and completion as one text, join them with one space. In a chat, the
    reference starts the way the chat template starts an answer.

    **End tokens** are ordinary choices of the policy: masks include them, texts do not. Padding may
    have the same id, so masks are passed along and never derived from ids. Other control tokens
    drawn by a policy are not part of texts either.

    Args:
        tokenizer: A Hugging Face tokenizer with an EOS token. Without a pad token, EOS is used for
            padding, as is usual for GPT-2.
        max_prompt_tokens: Longest prompt, including special tokens.
        truncate: Treatment of longer prompts: an error, or their text is cut on that side (special
            tokens stay) and counted.
        max_completion_tokens: Longest completion, including EOS.
        vocabulary: Vocabulary of the policy; by default derived from the tokenizer and the
            configuration next to its files.
        kind: "causal" or "seq2seq"; by default seq2seq if the tokenizer appends an end token.

    Attributes:
        vocabulary: Legal ids and end tokens.
        eos_id: Id that ends a reference.
        pad_id: Padding id.
        vocabulary_size: The tokenizer's largest id plus one; a model may have more outputs.
        truncated_prompts: Number of samples with a truncated prompt so far.
        truncated_references: Number of samples with a truncated reference so far.

    Raises:
        PolicyError: The tokenizer has no EOS token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_prompt_tokens: int,
        truncate: Truncation = "error",
        max_completion_tokens: int,
        vocabulary: Vocabulary | None = None,
        kind: Kind | None = None,
    ) -> None:
        self.vocabulary = vocabulary or Vocabulary.of(tokenizer)
        self.tokenizer = tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.truncate: Truncation = truncate
        self.max_completion_tokens = max_completion_tokens
        self.eos_id, self.pad_id = self.vocabulary.eos_id, self.vocabulary.pad_id
        self.vocabulary_size = self.vocabulary.width
        self.encoder = TextEncoder(tokenizer)
        ends = self.encoder.after[-1:] and self.encoder.after[-1] in self.vocabulary.eos_ids
        self.kind = kind or ("seq2seq" if ends else "causal")
        self._after = self.encoder.after
        if self.kind == "causal":
            self._after = [id_ for id_ in self._after if id_ not in self.vocabulary.eos_ids]
        self._separator = self._find_separator()
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._truncated_prompts: set[str] = set()
        self._truncated_references: set[str] = set()

    @property
    def truncated_prompts(self) -> int:
        """Number of samples with a truncated prompt."""
        return len(self._truncated_prompts)

    @property
    def truncated_references(self) -> int:
        """Number of samples with a truncated reference."""
        return len(self._truncated_references)

    def state_dict(self) -> dict[str, list[str]]:
        """Returns the samples truncated so far, for a run that is resumed in another process."""
        return {
            "prompts": sorted(self._truncated_prompts),
            "references": sorted(self._truncated_references),
        }

    def load_state_dict(self, state: Mapping[str, Sequence[str]]) -> None:
        """Adds the samples truncated before; the sets only grow."""
        self._truncated_prompts.update(state["prompts"])
        self._truncated_references.update(state["references"])

    def encode(self, sample: Sample) -> list[int]:
        """Returns the prompt's ids, including special tokens; encoded once per sample id.

        Raises:
            DataError: The prompt is empty, or longer than the limit with `truncate: error`.
        """
        if sample.id not in self._prompts:
            self._prompts[sample.id] = tuple(self._encode_prompt(sample))
        return list(self._prompts[sample.id])

    def prompts(
        self,
        samples: Sequence[Sample],
        group_ids: Sequence[int] | None = None,
        *,
        width: int | None = None,
    ) -> Prompts:
        """Encodes `B` samples, left-padded to the longest.

        Args:
            samples: The samples; repetitions are allowed.
            group_ids: `B` numbers, equal for rows that share a prompt; all different by default.
            width: Pad to this many tokens instead.
        """
        rows = [self.encode(sample) for sample in samples]
        n_columns = max((len(row) for row in rows), default=0) if width is None else width
        ids = torch.full((len(rows), n_columns), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), n_columns), dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, n_columns - len(row) :] = torch.tensor(row)
            mask[number, n_columns - len(row) :] = True
        groups = range(len(rows)) if group_ids is None else group_ids
        names = tuple(sample.id for sample in samples)
        return Prompts(ids, mask, names, torch.tensor(list(groups), dtype=torch.long))

    def decode(self, ids: Tensor, mask: Tensor) -> list[str]:
        """Decodes the tokens inside the mask to `B` texts.

        Args:
            ids: `(B, T)` int64.
            mask: `(B, T)` bool.

        Returns:
            Texts without end tokens, other control tokens and outer white space.
        """
        rows = [
            self.text_ids(row[keep].tolist())
            for row, keep in zip(ids.cpu(), mask.cpu(), strict=True)
        ]
        texts = self.tokenizer.batch_decode(
            rows, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return [text.strip() for text in texts]

    def count_control(self, ids: Tensor, mask: Tensor) -> int:
        """Returns the number of control tokens other than end tokens in completions `(B, T)`."""
        inside = sorted(self.vocabulary.control_ids - set(self.vocabulary.eos_ids))
        return int((torch.isin(ids, torch.tensor(inside, device=ids.device)) & mask).sum())

    def text_ids(self, ids: Sequence[int]) -> list[int]:
        """Returns the ids of a completion that are text, without end and control tokens."""
        kept = ids[:-1] if ids and ids[-1] in self.vocabulary.eos_ids else ids
        return [number for number in kept if number not in self.vocabulary.control_ids]

    def encode_reference(self, sample: Sample, index: int = 0) -> list[int]:
        """Returns a reference's ids for supervised fine-tuning, with EOS at the end.

        A reference longer than `max_completion_tokens` is truncated, counted, and has no EOS: the
        policy must not learn to stop in the middle of a sentence.
        """
        ids, cut = self.encode_completion(sample, sample.references[index])
        if cut:
            self._truncated_references.add(sample.id)
        return ids

    def encode_completion(self, sample: Sample, text: str) -> tuple[list[int], bool]:
        """Returns the ids of a text as a policy would write it after a prompt, and whether it was cut.

        EOS ends them, unless they are cut at `max_completion_tokens`.
        """
        ids = [*self.encoder.encode(self._lead(sample) + text.strip()), self.eos_id]
        # A token of ordinary text may also be an end token, and nothing follows one.
        end = next(place for place, number in enumerate(ids) if number in self.vocabulary.eos_ids)
        kept = ids[: min(end + 1, self.max_completion_tokens)]
        return kept, len(kept) < len(ids)

    def _encode_prompt(self, sample: Sample) -> list[int]:
        try:
            before, ids, after = self._parts(sample)
        except DataError as error:
            raise DataError(f"sample '{sample.id}': {error}") from error
        if not before + ids + after:
            raise DataError(
                f"sample '{sample.id}' has an empty prompt, from which the policy cannot start; "
                "add text or remove the row"
            )
        excess = len(before) + len(ids) + len(after) - self.max_prompt_tokens
        if excess <= 0:
            return before + ids + after
        if self.truncate == "error":
            raise DataError(
                f"the prompt of sample '{sample.id}' has {excess + self.max_prompt_tokens} tokens, more than the "
                f"limit of {self.max_prompt_tokens}; raise prompt.max_tokens in task.yaml, or cut it there "
                "with prompt.truncate: left | right"
            )
        self._truncated_prompts.add(sample.id)
        ids = ids[excess:] if self.truncate == "left" else ids[: max(len(ids) - excess, 0)]
        return before + ids + after

    def _parts(self, sample: Sample) -> tuple[list[int], list[int], list[int]]:
        """Returns the ids before the prompt's text, of its text, and after it."""
        if sample.messages:
            return [], encode_chat(self.encoder, sample.messages), []
        ids, before = self.encoder.encode(sample.prompt, sample.written), self.encoder.before
        # A template that writes BOS itself must not get a second one from the tokenizer.
        if before and ids[:1] == before[-1:] == [self.tokenizer.bos_token_id]:
            ids = ids[1:]
        return before, ids, self._after

    def _lead(self, sample: Sample) -> str:
        """Returns what separates prompt and reference: a space, a template's white space, or nothing."""
        if sample.messages:
            lead = answer_lead(self.tokenizer, sample.messages)
            return lead if self._separator or lead.strip(" ") else ""
        return "" if sample.prompt[-1:].isspace() else self._separator

    def _find_separator(self) -> str:
        if self.kind == "seq2seq":
            return ""
        plain = self.encoder.encode("a")
        sets_spaces = " " in self.tokenizer.batch_decode([[*plain, *plain]])[0].strip()
        return " " if not sets_spaces and _joins_spaces(self.tokenizer) else ""


def _joins_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Returns whether some tokens are a space together with the following text."""
    return any(
        token[0] in _SPACES and token.strip(_SPACES) for token in tokenizer.get_vocab() if token
    )
