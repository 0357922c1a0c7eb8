"""Text normalization before answers are compared."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from typing import Literal

Step = Literal["unicode", "case", "punctuation", "articles", "whitespace"]
Normalize = Literal["squad"] | list[Step]

SQUAD: tuple[Step, ...] = ("case", "punctuation", "articles", "whitespace")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def steps_of(normalize: Normalize) -> tuple[Step, ...]:
    """Returns the steps in the order of application."""
    chosen: Sequence[Step] = SQUAD if normalize == "squad" else normalize
    order: tuple[Step, ...] = ("unicode", *SQUAD)
    return tuple(step for step in order if step in chosen)


def normalized(text: str, steps: Sequence[Step]) -> str:
    """Applies normalization steps to a text.

    Steps: "unicode" applies NFC, so that canonically equivalent texts become equal; "case" converts
    to lower case; "punctuation" removes ASCII punctuation; "articles" replaces the words a, an and
    the (lower case) by spaces; "whitespace" collapses runs of white space and strips the ends.
    "squad" stands for all but "unicode", as in the SQuAD evaluation script.
    """
    if "unicode" in steps:
        text = unicodedata.normalize("NFC", text)
    if "case" in steps:
        text = text.lower()
    if "punctuation" in steps:
        text = text.translate(_PUNCTUATION)
    if "articles" in steps:
        text = _ARTICLES.sub(" ", text)
    if "whitespace" in steps:
        text = " ".join(text.split())
    return text
