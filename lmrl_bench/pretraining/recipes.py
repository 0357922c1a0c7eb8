"""Hyper-parameters of the pretraining runs, which the training log repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmrl_bench.pretraining.objectives import CorruptionSpec


@dataclass(frozen=True)
class OptimizerRecipe:
    """Muon and AdamW; linear warm-up, cosine decay to `final_ratio` of the peak learning rate."""

    n_steps: int
    peak_learning_rate: float
    warmup_steps: int = 50
    final_ratio: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.95
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    seed: int = 0


_CAUSAL_OPTIMIZER: Final = OptimizerRecipe(n_steps=4_000, peak_learning_rate=3e-3)
_SEQ2SEQ_OPTIMIZER: Final = OptimizerRecipe(n_steps=3_000, peak_learning_rate=3e-3)

# Half of a pair is hidden, in spans of phrase length: most of what is missing can only be inferred
# from the other language. Monolingual texts keep enough context for guessing.
_PAIRS: Final = CorruptionSpec(density=0.5, mean_span=5.0)
_DOCUMENTATION: Final = CorruptionSpec(density=0.25, mean_span=3.0)
_DESCRIPTIONS: Final = CorruptionSpec(density=0.3, mean_span=4.0)


@dataclass(frozen=True)
class CausalRecipe:
    """A Llama model on packed film reviews and (one token in seven) package descriptions."""

    vocabulary_size: int = 4_096
    n_layers: int = 4
    hidden_size: int = 192
    feed_forward_size: int = 512
    n_heads: int = 4
    sequence_length: int = 128
    batch_size: int = 64
    optimizer: OptimizerRecipe = _CAUSAL_OPTIMIZER


@dataclass(frozen=True)
class Seq2SeqRecipe:
    """A T5 model on span corruption of documentation, its translations, and descriptions."""

    vocabulary_size: int = 6_144
    n_layers: int = 3
    hidden_size: int = 192
    feed_forward_size: int = 512
    n_heads: int = 4
    maximum_length: int = 128
    dropout: float = 0.1
    tokens_per_batch: int = 8_192
    pair_repeats: int = 2
    pairs: CorruptionSpec = _PAIRS
    documentation: CorruptionSpec = _DOCUMENTATION
    descriptions: CorruptionSpec = _DESCRIPTIONS
    optimizer: OptimizerRecipe = _SEQ2SEQ_OPTIMIZER


@dataclass(frozen=True)
class SkillRecipe:
    """A small model on a mixture of skills, byte by byte, with a loss on the answers only."""

    family: str
    seq2seq: bool
    optimizer: OptimizerRecipe
    vocabulary_size: int
    n_layers: int
    feed_forward_size: int
    hidden_size: int = 128
    n_heads: int = 4
    sequence_length: int = 32
    batch_size: int = 64
    dropout: float = 0.0


CAUSAL: Final = CausalRecipe()
SEQ2SEQ: Final = Seq2SeqRecipe()

# Vocabularies are the 256 bytes and the special tokens: nothing is merged. The numbers of steps stop while the wanted
# skill is present and unreliable: there is something to elicit, and something to strengthen.
SKILL_POLICIES: Final = {
    "nano-letters": SkillRecipe("letters", False, OptimizerRecipe(700, 2e-3), 258, 4, 336),
    "nano-digits": SkillRecipe("digits", False, OptimizerRecipe(500, 2e-3), 258, 4, 336),
    "nano-letters-seq2seq": SkillRecipe("letters", True, OptimizerRecipe(800, 2e-3), 299, 3, 256),
}
