"""Metrics for answers that are right or wrong: exact match, label, number, and shared words.

With several references, the best match counts. A reference that is empty after normalization is
rejected, because an empty answer would equal it.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from lmrl_bench.core.digests import canonical_json
from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult, check_batch, check_references
from lmrl_bench.metrics.normalizing import Normalize, Step, normalized, steps_of

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

_EXACT: Final[list[Step]] = ["unicode", "whitespace"]
_LABEL: Final[list[Step]] = ["unicode", "case", "punctuation", "whitespace"]


class _Answers(Metric):
    """Scores each completion from 0 to 1 against its references; the corpus value is the mean."""

    bounds = (0.0, 1.0)

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty or unusable.
        """
        check_batch(self.name, completions, samples)
        check_references(self.name, samples)
        rows = np.array(
            [self._best(text, sample) for text, sample in zip(completions, samples, strict=True)],
            dtype=np.float64,
        )
        return MetricResult(float(rows.mean()), rows, self._details(completions))

    @abstractmethod
    def _best(self, completion: str, sample: Sample) -> float:
        """Returns the best value over the sample's references."""

    def _details(self, completions: Sequence[str]) -> dict[str, float]:
        """Returns additional corpus values."""
        return {"empty": float(sum(not text.strip() for text in completions))}

    def _references(self, sample: Sample, steps: Sequence[Step]) -> list[str]:
        found = [normalized(text, steps) for text in sample.references]
        if not all(found):
            text = sample.references[found.index("")]
            raise MetricError(
                f"metric '{self.name}': reference {text!r} of sample '{sample.id}' is empty after "
                f"normalization ({', '.join(steps)}); choose other steps for `normalize`"
            )
        return found


class ExactMatch(_Answers):
    """1 if the completion equals a reference, else 0; mean over samples.

    Args:
        normalize: Normalization steps before comparing: a list of unicode (canonical equivalence),
            case, punctuation, articles (a, an, the) and whitespace (runs and ends). "squad" applies
            the last four, like the SQuAD evaluation script. An empty list compares the texts
            unchanged.
    """

    name = "exact-match"

    def __init__(self, normalize: Normalize = _EXACT) -> None:
        self._steps = steps_of(normalize)

    @property
    def signature(self) -> str:
        """Normalization steps and the rule for several references."""
        return f"{self.name}|normalize:{'+'.join(self._steps) or 'no'}|references:best"

    def _best(self, completion: str, sample: Sample) -> float:
        return float(normalized(completion, self._steps) in self._references(sample, self._steps))


class Accuracy(_Answers):
    """Share of completions with the right label, which is one of the references.

    Labels are compared without case, punctuation and extra white space.

    Args:
        labels: All valid labels. A reference that is not in the list is an error. Completions
            without a valid label count as wrong and are counted in the detail `invalid`.
        find: Where the label is read: "whole" compares the whole completion; "first" and "last"
            take the first or last label that occurs as a separate word (requires `labels`).
    """

    name = "accuracy"

    def __init__(
        self,
        labels: list[str] | None = None,
        find: Literal["whole", "first", "last"] = "whole",
    ) -> None:
        steps = steps_of(_LABEL)
        known = [normalized(label, steps) for label in labels or []]
        if labels is not None and (len(set(known)) < 2 or not all(known)):
            raise MetricError(
                f"metric '{self.name}': labels are {labels}; give at least two that differ in more "
                "than case and punctuation"
            )
        if len(set(known)) < len(known):
            raise MetricError(f"metric '{self.name}': labels {labels} contain a duplicate")
        if find != "whole" and labels is None:
            raise MetricError(f"metric '{self.name}': find '{find}' requires `labels`")
        self._steps, self._labels, self._find = steps, known, find
        # Longest first: otherwise "positive" would be found inside "very positive".
        longest_first = sorted(known, key=len, reverse=True)
        self._pattern = re.compile(
            rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)" if known else r"(?!)"
        )

    @property
    def signature(self) -> str:
        """Normalization steps, labels, and where the label is read."""
        labels = canonical_json(self._labels).replace("/", "\\u002f") if self._labels else "any"
        return f"{self.name}|normalize:{'+'.join(self._steps)}|labels:{labels}|find:{self._find}"

    def _best(self, completion: str, sample: Sample) -> float:
        references = self._references(sample, self._steps)
        for reference, text in zip(references, sample.references, strict=True):
            if self._labels and reference not in self._labels:
                raise MetricError(
                    f"metric '{self.name}': reference {text!r} of sample '{sample.id}' is not one "
                    f"of the labels {', '.join(self._labels)}"
                )
        return float(self._label(completion) in references)

    def _label(self, completion: str) -> str:
        text = normalized(completion, self._steps)
        if self._find == "whole":
            return text
        found = self._pattern.findall(text)
        return (found[0] if self._find == "first" else found[-1]) if found else ""

    def _details(self, completions: Sequence[str]) -> dict[str, float]:
        invalid = sum(self._label(text) not in self._labels for text in completions)
        return super()._details(completions) | ({"invalid": float(invalid)} if self._labels else {})


class TokenF1(_Answers):
    """Harmonic mean of precision and recall over the words that completion and reference share.

    Words are separated by white space after normalization; repeated words count as often as they
    occur. The default normalization gives the F1 of SQuAD.

    Args:
        normalize: Normalization steps, as for `exact-match`.
    """

    name = "f1"

    def __init__(self, normalize: Normalize = "squad") -> None:
        self._steps = steps_of(normalize)

    @property
    def signature(self) -> str:
        """Normalization steps and the rule for several references."""
        return f"{self.name}|words:white space|normalize:{'+'.join(self._steps) or 'no'}|references:best"

    def _best(self, completion: str, sample: Sample) -> float:
        ours = Counter(normalized(completion, self._steps).split())
        references = self._references(sample, self._steps)
        return max(_f1(ours, Counter(text.split())) for text in references)


class NumericMatch(_Answers):
    """1 if the number in the completion equals a reference, else 0; mean over samples.

    Numbers are decimal, with optional sign, exponent, thousands separators (1,234,567 or
    1 234 567), leading currency sign and trailing percent sign; the separators and both signs are
    ignored. 1½ and 4² are not read as numbers. The comparison is exact for any size; expressions
    are not evaluated. Completions without a number count as wrong and are counted in the detail
    `invalid`; a reference that is not a single number is an error.

    Args:
        tolerance: Largest absolute difference that still counts as equal.
        relative: Largest difference as a share of the reference; the larger tolerance applies.
        find: Which number of the completion is read: "last", "first", or "whole" if the completion
            must be a number and nothing else.
    """

    name = "numeric-match"

    def __init__(
        self,
        tolerance: float = 0.0,
        relative: float = 0.0,
        find: Literal["last", "first", "whole"] = "last",
    ) -> None:
        for argument, value in (("tolerance", tolerance), ("relative", relative)):
            if not 0 <= value < float("inf"):
                raise MetricError(
                    f"metric '{self.name}': {argument} is {value}; it must be finite and at least 0"
                )
        self._tolerance, self._relative, self._find = tolerance, relative, find

    @property
    def signature(self) -> str:
        """Tolerances, and which number is read."""
        return (
            f"{self.name}|tolerance:{self._tolerance!r}|relative:{self._relative!r}"
            f"|find:{self._find}|references:best"
        )

    def _best(self, completion: str, sample: Sample) -> float:
        wanted = [self._reference(text, sample) for text in sample.references]
        given = self._number(completion)
        return float(given is not None and any(self._equal(given, number) for number in wanted))

    def _reference(self, text: str, sample: Sample) -> Decimal:
        number = _whole_number(text)
        if number is None:
            raise MetricError(
                f"metric '{self.name}': reference {text[:60]!r} of sample '{sample.id}' is not a "
                "single number"
            )
        return number

    def _number(self, text: str) -> Decimal | None:
        if self._find == "whole":
            return _whole_number(text)
        found = list(_NUMBER.finditer(text))
        return _decimal(found[0 if self._find == "first" else -1]) if found else None

    def _equal(self, given: Decimal, wanted: Decimal) -> bool:
        if given == wanted:
            return True
        allowed = max(
            Decimal(self._tolerance), _EXACTLY.multiply(Decimal(self._relative), wanted.copy_abs())
        )
        return _EXACTLY.abs(_EXACTLY.subtract(given, wanted)) <= allowed

    def _details(self, completions: Sequence[str]) -> dict[str, float]:
        invalid = sum(self._number(text) is None for text in completions)
        return super()._details(completions) | {"invalid": float(invalid)}


_SEPARATORS: Final = ", \u00a0\u2009\u202f"
_PARTIAL: Final = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2080-\u2089\u2150-\u215f\u2189"
"""Superscripts, subscripts and fractions: digits next to one of these have another value."""
_NUMBER: Final = re.compile(
    r"(?P<sign>(?<!\w)[-+\u2212])?\s?[$€£¥]?"
    rf"(?P<digits>(?>(?:(?<!\d)\d{{1,3}}(?P<by>[{_SEPARATORS}])\d{{3}}(?:(?P=by)\d{{3}})*(?!\d)|\d+)"
    rf"(?:\.\d+)?|(?<!\d)\.\d+)(?![{_PARTIAL}]))"
    r"(?P<exponent>[eE][-+]?\d{1,9}(?!\d))?%?"
)
_EXACTLY: Final = Context(prec=60, Emax=999_999_999_999, Emin=-999_999_999_999, traps=[])


def _whole_number(text: str) -> Decimal | None:
    found = _NUMBER.fullmatch(text.strip())
    return _decimal(found) if found else None


def _decimal(found: re.Match[str]) -> Decimal:
    sign = "-" if found["sign"] in ("-", "\u2212") else ""
    digits = re.sub(f"[{_SEPARATORS}]", "", found["digits"])
    return Decimal(f"{sign}{digits}{found['exponent'] or ''}")


def _f1(ours: Counter[str], theirs: Counter[str]) -> float:
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0
