"""Input checks shared by all metrics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from lmrl_bench.core.errors import MetricError

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


def check_batch(name: str, responses: Sequence[str], samples: Sequence[Sample]) -> None:
    """Rejects batches that cannot be scored.

    Raises:
        MetricError: The lengths differ, or there is nothing to score.
    """
    if len(responses) != len(samples):
        raise MetricError(
            f"metric '{name}': {len(responses)} responses for {len(samples)} samples; "
            "give one response for each"
        )
    if not responses:
        raise MetricError(f"metric '{name}': no completions to score")


def check_references(name: str, samples: Sequence[Sample]) -> None:
    """Rejects samples without a usable reference.

    Raises:
        MetricError: A sample has no reference, or an empty one.
    """
    references = [sample.references for sample in samples]
    # The fast check covers the usual case: rewards score every batch of every rollout.
    if all(references) and all(map(str.strip, chain.from_iterable(references))):
        return
    for sample in samples:
        if not sample.references or not all(text.strip() for text in sample.references):
            raise MetricError(
                f"metric '{name}': sample '{sample.id}' has no reference or an empty one; "
                "fix or remove its row in the task's data"
            )
