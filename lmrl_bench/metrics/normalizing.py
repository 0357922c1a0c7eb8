"""How texts are made comparable before answers are compared."""

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
    """Returns the steps in the order in which they are applied."""
    chosen: Sequence[Step] = SQUAD if normalize == "squad" else normalize
    order: tuple[Step, ...] = ("unicode", *SQUAD)
    return tuple(step for step in order if step in chosen)


def normalized(text: str, steps: Sequence[Step]) -> str:
    """Returns a text after these steps.

    unicode: canonically equal texts become equal (NFC). case: lower case. punctuation: ASCII
    punctuation is removed. articles: the words a, an and the (in lower case) become spaces.
    whitespace: runs of white space become one space, none at the ends. "squad" is all but the first,
    as the evaluation of SQuAD does it.
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
