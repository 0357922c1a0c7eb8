"""A run as it is planned: configuration, what its record must say, and which records do not count."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import RecordError
from lmrl_bench.planning.finished import done_record, untidy
from lmrl_bench.planning.folders import run_folder, run_name
from lmrl_bench.records.expected import ExpectedRun
from lmrl_bench.records.record import Status


@dataclass(frozen=True)
class Rerun:
    """Which records do not count as done.

    Attributes:
        fresh: none counts.
        failed: those of runs that failed.
        stale: those that were made with other settings, a changed task or another start.
    """

    fresh: bool = False
    failed: bool = False
    stale: bool = False


NO_RERUN = Rerun()


@dataclass(frozen=True)
class CellJob:
    """One cell of a grid, resolved.

    Attributes:
        config: the run.
        expected: what its record must say to count.
        rerun: which records do not count all the same.
    """

    config: RunConfig
    expected: ExpectedRun
    rerun: Rerun = NO_RERUN

    @property
    def name(self) -> str:
        """task/row/seed."""
        return run_name(self.config)

    def done(self) -> Status | None:
        """Returns how the cell ended, if nothing is left to do.

        What is wrong with a foreign record, the worker says.
        """
        if self.rerun.fresh:
            return None
        with suppress(RecordError):
            record = done_record(self.config, self.expected, self.rerun.failed)
            if record and record.status != "failed" and untidy(run_folder(self.config)):
                return None  # the worker removes what a kill has left
            return record.status if record else None
        return None
