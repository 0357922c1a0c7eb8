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

from lmrl_bench.errors import DataError
from lmrl_bench.text.episodes import Prompts
from lmrl_bench.text.sample import Sample
from lmrl_bench.text.vocabulary import Vocabulary

Truncation = Literal["error", "left", "right"]


class TextCodec:
    """Encodes prompts and references, decodes responses.

    **The border between prompt and response.** A prompt is encoded with the special tokens that the
    tokenizer itself adds (Llama's BOS, the EOS that T5 and BART put at the encoder's end). Where it
    adds no EOS, response ids follow prompt ids directly, so a reference is encoded with the space
    that separates it from the prompt (" word" is one token in byte-level BPE) and a sampled
    response begins with that space. `decode` strips outer white space: texts are what metrics and
    rewards want, and whoever shows prompt and response as one text joins them with one space.

    **EOS** is a token like any other that the policy chose: masks include it, texts do not. Padding
    may have the same id; masks are carried along and never rebuilt from ids.

    Args:
        tokenizer: A Hugging Face tokenizer with an EOS token. Without a pad token EOS pads, as is
            usual for GPT-2.
        max_prompt_tokens: Longest prompt, special tokens included.
        truncate: What happens to a longer prompt: an error, or its text is cut on that side
            (special tokens stay) and counted.
        max_response_tokens: Longest response, EOS included.
        vocabulary: That of the policy; default: made from the tokenizer and the settings beside its files.

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
    ) -> None:
        self.vocabulary = vocabulary or Vocabulary.of(tokenizer)
        self.tokenizer = tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.truncate: Truncation = truncate
        self.max_response_tokens = max_response_tokens
        self.eos_id, self.pad_id = self.vocabulary.eos_id, self.vocabulary.pad_id
        self.vocabulary_size = self.vocabulary.width
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
            Texts without special tokens (EOS, padding, …) and without outer white space.
        """
        rows = [row[keep].tolist() for row, keep in zip(ids.cpu(), mask.cpu(), strict=True)]
        texts = self.tokenizer.batch_decode(
            rows, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text.strip() for text in texts]

    def encode_reference(self, sample: Sample, index: int = 0) -> list[int]:
        """Returns a reference's ids for supervised training, EOS at the end.

        A reference that does not fit is cut at `max_response_tokens`, counted, and has no EOS: the
        policy must not learn to stop in the middle of a sentence.
        """
        text = sample.references[index].strip()
        if self._separator and not sample.prompt[-1:].isspace():
            text = self._separator + text
        ids = [*self._plain(text), self.eos_id]
        if len(ids) > self.max_response_tokens:
            self._truncated_references.add(sample.id)
            ids = ids[: self.max_response_tokens]
        return ids

    def _encode_prompt(self, sample: Sample) -> list[int]:
        encoded = self.tokenizer(sample.prompt, return_special_tokens_mask=True, verbose=False)
        ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
        if not ids:
            raise DataError(
                f"sample '{sample.id}' has an empty prompt, from which the policy cannot start; "
                "give it text or drop the row"
            )
        excess = len(ids) - self.max_prompt_tokens
        if excess <= 0:
            return ids
        if self.truncate == "error":
            raise DataError(
                f"the prompt of sample '{sample.id}' has {len(ids)} tokens, more than the limit of "
                f"{self.max_prompt_tokens}; raise prompt.max_tokens in task.yaml, or cut it there "
                "with prompt.truncate: left | right"
            )
        self._truncated_prompts.add(sample.id)
        return self._cut(ids, special, excess)

    def _cut(self, ids: list[int], special: list[int], excess: int) -> list[int]:
        """Drops `excess` ids of the text, on the side `truncate`; special tokens around it stay."""
        start = special.index(0) if 0 in special else 0
        stop = len(special) - special[::-1].index(0) if 0 in special else len(special)
        if self.truncate == "left":
            return ids[:start] + ids[start + excess : stop] + ids[stop:]
        return ids[:start] + ids[start : stop - excess] + ids[stop:]

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _find_separator(self) -> str:
        """Returns what stands between prompt and reference in the ids: " " or nothing.

        Nothing, if prompts end with EOS (encoders), or if the tokenizer sets the space itself
        (SentencePiece).
        """
        prompt = self.tokenizer("a", verbose=False)["input_ids"]
        if prompt[-1] == self.eos_id:
            return ""
        twice = self.tokenizer.batch_decode([[*self._plain("a"), *self._plain("a")]])[0]
        return "" if " " in twice.strip() else " "
