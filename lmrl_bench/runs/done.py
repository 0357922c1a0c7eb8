"""Whether a run is done already: the record in its folder, if it is that run's."""

from __future__ import annotations

from lmrl_bench.config.run import RunConfig
from lmrl_bench.errors import RecordError
from lmrl_bench.records.expected import ExpectedRun, differences
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import RECORD, read_record
from lmrl_bench.runs.folders import run_folder


class StaleRecordError(RecordError):
    """The folder of a run holds the record of another one."""


def done_record(config: RunConfig, expected: ExpectedRun, retry_failed: bool) -> RunRecord | None:
    """Returns the record of exactly this run if nothing is left to do.

    A run that completed or diverged is done: it would do the same again. One that was interrupted
    goes on.

    Args:
        config: The run.
        expected: What its record must say to count.
        retry_failed: Whether a run that failed is to be run again.

    Raises:
        StaleRecordError: The folder holds the record of another run: another seed, other settings,
            another state of the task, another start.
    """
    folder = run_folder(config)
    if not (folder / RECORD).exists():
        return None
    record = read_record(folder)
    different = [str(found) for found in differences(record, expected)]
    if record.seed != config.seed:
        different.insert(0, f"seed is {record.seed} in the record, {config.seed} today")
    if different:
        raise StaleRecordError(
            f"{folder} holds the record of another run ({record.id}: {'; '.join(different[:3])}); "
            "choose another --output, or --fresh to replace it"
        )
    again = record.status == "interrupted" or (record.status == "failed" and retry_failed)
    return None if again else record
