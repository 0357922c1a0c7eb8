"""The only place where text becomes token ids and ids become text.

Padding, EOS and truncation are decided here once. Ids that a policy drew are decoded for rewards
and metrics and never encoded again, because `encode(decode(ids))` need not give `ids` back.
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
"""How vocabularies write a space."""


class TextCodec:
    """Encodes prompts and references, decodes responses.

    **Control tokens.** Data are text: what they spell is encoded as characters (`TextEncoder`). A task's template, a
    chat template and the tokenizer itself can write control tokens. Where template and tokenizer both write BOS, it
    stands once. An end token that the tokenizer puts after a causal prompt is left out: the response would begin
    after the end.

    **The border between prompt and response.** A prompt is encoded with what the tokenizer itself puts around it
    (Llama's BOS, the EOS that T5 and BART put at the encoder's end). Response ids of a causal policy follow prompt ids
    directly. A reference begins with a space where the tokenizer joins a space with the word after it (" word" is one
    token in byte-level BPE); where a space is a token of its own (characters, bytes), or the tokenizer sets it itself
    (SentencePiece), or a decoder starts by itself (T5), it begins with its first letter. `decode` strips outer white
    space: texts are what metrics and rewards want, and whoever shows prompt and response as one text joins them with
    one space. In a chat, the reference begins as the chat template begins an answer.

    **End tokens** are tokens like any other that the policy chose: masks include them, texts do not. Padding
    may have the same id; masks are carried along and never rebuilt from ids. Other control tokens that a policy draws
    are left out of texts, too.

    Args:
        tokenizer: A Hugging Face tokenizer with an EOS token. Without a pad token EOS pads, as is
            usual for GPT-2.
        max_prompt_tokens: Longest prompt, special tokens included.
        truncate: What happens to a longer prompt: an error, or its text is cut on that side
            (special tokens stay) and counted.
        max_response_tokens: Longest response, EOS included.
        vocabulary: That of the policy; default: made from the tokenizer and the settings next to its files.
        kind: "causal" or "seq2seq"; default: seq2seq if the tokenizer ends texts with an end token.

    Attributes:
        vocabulary: Legal ids and end tokens.
        eos_id: Id that ends a reference.
        pad_id: Id at padded places.
        vocabulary_size: The tokenizer's largest id plus one; a model's output may be wider.
        truncated_prompts: Samples whose prompt was cut so far.
        truncated_references: Samples whose reference was cut so far.

    Raises:
        PolicyError: The tokenizer has no EOS token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_prompt_tokens: int,
        truncate: Truncation = "error",
        max_response_tokens: int,
        vocabulary: Vocabulary | None = None,
        kind: Kind | None = None,
    ) -> None:
        self.vocabulary = vocabulary or Vocabulary.of(tokenizer)
        self.tokenizer = tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.truncate: Truncation = truncate
        self.max_response_tokens = max_response_tokens
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
        """Number of samples whose prompt was cut."""
        return len(self._truncated_prompts)

    @property
    def truncated_references(self) -> int:
        """Number of samples whose reference was cut."""
        return len(self._truncated_references)

    def state_dict(self) -> dict[str, list[str]]:
        """Returns which samples were cut so far, for a run that is resumed in another process."""
        return {
            "prompts": sorted(self._truncated_prompts),
            "references": sorted(self._truncated_references),
        }

    def load_state_dict(self, state: Mapping[str, Sequence[str]]) -> None:
        """Adds what was cut before; the sets only grow."""
        self._truncated_prompts.update(state["prompts"])
        self._truncated_references.update(state["references"])

    def encode(self, sample: Sample) -> list[int]:
        """Returns the prompt's ids, special tokens included; encoded once per sample id.

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
        """Encodes `B` samples, padded on the left to the longest of them.

        Args:
            samples: The samples; the same one may occur several times.
            group_ids: `B` numbers, equal where rows answer the same prompt; default all different.
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
        """Returns the `B` texts at the true places of the mask.

        Args:
            ids: `(B, T)` int64.
            mask: `(B, T)` bool.

        Returns:
            Texts without end tokens and other control tokens, and without outer white space.
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
        """Returns how many control tokens other than end tokens responses `(B, T)` contain."""
        inside = sorted(self.vocabulary.control_ids - set(self.vocabulary.eos_ids))
        return int((torch.isin(ids, torch.tensor(inside, device=ids.device)) & mask).sum())

    def text_ids(self, ids: Sequence[int]) -> list[int]:
        """Returns those of a response's ids that are text: no end token and no other control tokens."""
        kept = ids[:-1] if ids and ids[-1] in self.vocabulary.eos_ids else ids
        return [number for number in kept if number not in self.vocabulary.control_ids]

    def encode_reference(self, sample: Sample, index: int = 0) -> list[int]:
        """Returns a reference's ids for supervised training, EOS at the end.

        A reference that does not fit is cut at `max_response_tokens`, counted, and has no EOS: the
        policy must not learn to stop in the middle of a sentence.
        """
        text = self._lead(sample) + sample.references[index].strip()
        ids = [*self.encoder.encode(text), self.eos_id]
        end = next(place for place, number in enumerate(ids) if number in self.vocabulary.eos_ids)
        if end + 1 < len(ids):  # a token of ordinary text that ends responses
            self._truncated_references.add(sample.id)
            ids = ids[: end + 1]
        if len(ids) > self.max_response_tokens:
            self._truncated_references.add(sample.id)
            ids = ids[: self.max_response_tokens]
        return ids

    def _encode_prompt(self, sample: Sample) -> list[int]:
        try:
            before, ids, after = self._parts(sample)
        except DataError as error:
            raise DataError(f"sample '{sample.id}': {error}") from error
        if not before + ids + after:
            raise DataError(
                f"sample '{sample.id}' has an empty prompt, from which the policy cannot start; "
                "give it text or drop the row"
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
        """Returns what stands before the prompt's text, its text, and what stands after it."""
        if sample.messages:
            return [], encode_chat(self.encoder, sample.messages), []
        ids, before = self.encoder.encode(sample.prompt, sample.written), self.encoder.before
        if before and ids[:1] == before[-1:] == [self.tokenizer.bos_token_id]:
            ids = ids[1:]
        return before, ids, self._after

    def _lead(self, sample: Sample) -> str:
        """Returns what stands between prompt and reference: a space, what a chat template puts there, or nothing."""
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
    """Whether some token is a space together with what follows it."""
    return any(
        token[0] in _SPACES and token.strip(_SPACES) for token in tokenizer.get_vocab() if token
    )
