"""Byte-level BPE tokenizers of the nano policies.

All 256 bytes are in the vocabulary, so no text is unknown and decoding restores texts exactly.
`<pad>` and `<eos>` differ, because a policy that cannot distinguish the end from padding cannot
learn to stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD_TOKEN: Final = "<pad>"
EOS_TOKEN: Final = "<eos>"
SEPARATOR_TOKEN: Final = "<sep>"
N_SENTINELS: Final = 40
"""Number of sentinels, more than the spans of any text of 128 tokens."""

# Letters, single digits, punctuation, white space: splitting digits keeps a small vocabulary free
# of numbers.
_WORD_PATTERN: Final = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def sentinel_token(index: int) -> str:
    """Returns the name of the sentinel of span `index`."""
    return f"<extra_id_{index}>"


def train_causal_tokenizer(
    texts: Iterable[str], vocabulary_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    """Trains the causal tokenizer; as in GPT-2, the token that ends a document also opens one.

    Args:
        texts: Training texts.
        vocabulary_size: Number of tokens, including special ones.
        max_length: Position limit of the model, in tokens.
    """
    backend = _train_byte_level_bpe(texts, vocabulary_size, [PAD_TOKEN, EOS_TOKEN])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        bos_token=EOS_TOKEN,
        padding_side="left",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def train_seq2seq_tokenizer(
    texts: Iterable[str], vocabulary_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    """Trains the seq2seq tokenizer, which appends `<eos>` to every text, like T5's.

    Args:
        texts: Training texts.
        vocabulary_size: Number of tokens, including special ones.
        max_length: Longest training text, in tokens.
    """
    sentinels = [sentinel_token(index) for index in range(N_SENTINELS)]
    specials = [PAD_TOKEN, EOS_TOKEN, SEPARATOR_TOKEN, *sentinels]
    backend = _train_byte_level_bpe(texts, vocabulary_size, specials)
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"$A {EOS_TOKEN}",
                pair=f"$A {EOS_TOKEN} $B {EOS_TOKEN}",
                special_tokens=[(EOS_TOKEN, backend.token_to_id(EOS_TOKEN))],
            ),
        ]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        sep_token=SEPARATOR_TOKEN,
        extra_special_tokens=sentinels,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def encode_plain(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Encodes texts without special tokens, truncation or warnings."""
    encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def _train_byte_level_bpe(
    texts: Iterable[str], vocabulary_size: int, specials: list[str]
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer
