"""Porter's stemmer with a cache: words repeat, and stemming dominates the cost of ROUGE."""

from __future__ import annotations

import functools
from importlib.metadata import version

from nltk.stem.porter import PorterStemmer

STEMMER_SIGNATURE = f"porter-nltk-{version('nltk')}"
_PORTER = PorterStemmer()


class MemoizedStemmer:
    """nltk's `PorterStemmer` with a bounded cache; usable wherever nltk takes a stemmer."""

    @staticmethod
    @functools.lru_cache(maxsize=2**16)
    def stem(word: str) -> str:
        """Returns the stem of one word."""
        stem: str = _PORTER.stem(word)
        return stem
