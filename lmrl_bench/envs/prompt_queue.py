"""Assigns prompts to the rows of a vector environment, keeping groups together."""

from __future__ import annotations

from collections.abc import Sequence

from lmrl_bench.data.sample import Sample
from lmrl_bench.envs.core import EpisodeCore


class PromptQueue:
    """Hands out samples to `N` rows in groups of `G` adjacent rows.

    In the token view, rows of a group end at different times, so a drawn sample is kept until all
    `G` rows have received it.

    Args:
        core: Source of the samples.
        n_rows: `N`.
        group_size: `G`.

    Raises:
        ValueError: `G` does not divide `N`.
    """

    def __init__(self, core: EpisodeCore, n_rows: int, group_size: int = 1) -> None:
        if group_size < 1 or n_rows % group_size:
            raise ValueError(
                f"group_size ({group_size}) must divide the number of environments ({n_rows})"
            )
        self._core = core
        self._group_size = group_size
        self._turns = [0] * n_rows
        self._waiting: dict[tuple[int, int], tuple[Sample, int, int]] = {}
        self._n_drawn = 0
        self._forced: dict[int, Sample] = {}

    def force(self, sample_ids: Sequence[str]) -> None:
        """Sets the samples of the next episodes, one per row.

        Raises:
            ValueError: Wrong number of samples, or an unknown sample.
        """
        if len(sample_ids) != len(self._turns):
            raise ValueError(f"{len(sample_ids)} sample ids for {len(self._turns)} environments")
        self._forced = {row: self._core.sample(name) for row, name in enumerate(sample_ids)}

    def next(self, row: int) -> tuple[Sample, int]:
        """Returns the row's next sample and the number of the draw."""
        if row in self._forced:
            return self._forced.pop(row), self._number()
        # The turn is part of the key: a fast row may be an episode ahead of its group.
        key = (row // self._group_size, self._turns[row])
        self._turns[row] += 1
        sample, number, left = self._waiting.pop(key) if key in self._waiting else self._draw()
        if left > 1:
            self._waiting[key] = (sample, number, left - 1)
        return sample, number

    def _draw(self) -> tuple[Sample, int, int]:
        return self._core.draw(), self._number(), self._group_size

    def _number(self) -> int:
        self._n_drawn += 1
        return self._n_drawn - 1
