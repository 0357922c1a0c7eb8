"""The rows of samples.parquet against the tokenizer, the task's limits and the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.samples import info_of
from lmrl_bench.verification.bounds.run import Language, Run, equal, within
from lmrl_bench.verification.bounds.signatures import known, textual

SINGLE_PRECISION = 1e-5


def check(run: Run) -> Iterator[str]:
    """Yields what cannot be; of the rows, the first that cannot."""
    info = run.record.samples
    if info is not None and info.rows != len(run.rows):
        yield f"samples.rows is {info.rows}, but the file has {len(run.rows)}"
    yield from _columns(run)
    limits = _limits(run)
    for row in run.rows:
        reasons = list(_row(run, row, limits))
        if reasons:
            yield f"samples.parquet: {row['decoding']}, the sample {row['sample_id']}: {reasons[0]}"
            return


def _columns(run: Run) -> Iterator[str]:
    if not run.rows:
        return
    found = {name for name in run.rows[0] if name.startswith(("metric/", "reward/"))}
    keys = {component.key for component in run.task.spec.metrics.all()}
    parts = {
        part
        for name, r in run.record.results.items()
        if name != "validation"
        for part in r.reward_components
    }
    unknown = sorted(
        found - {f"metric/{key}" for key in keys} - {f"reward/{part}" for part in parts}
    )
    if unknown:
        yield f"samples.parquet: {', '.join(unknown)}: no metric of the task and no part of its reward"
    for name, results in run.record.results.items():
        if name == "validation":
            continue
        for key, value in results.metrics.items():
            if value.per_sample is not (f"metric/{key}" in found):
                yield f"results.{name}: per_sample of {key} is {value.per_sample}, unlike in samples.parquet"
        wanted = _parts(run.task.spec.reward.terms)
        if wanted is not None and set(results.reward_components) != wanted:
            found_parts = sorted(results.reward_components)
            yield f"results.{name}: the reward has the parts {found_parts}, the task {sorted(wanted)}"


def _parts(terms: Sequence[Any]) -> set[str] | None:
    """The names of the reward's parts, where every term is a different built-in one."""
    names = [term.name for term in terms]
    return set(names) if all(map(textual, names)) and len(set(names)) == len(names) else None


def _limits(run: Run) -> dict[str, tuple[float, float]]:
    """Returns the bounds of single answers by column; of metrics that are known here."""
    found = {c.key: known(run.task, c) for c in run.task.spec.metrics.all()}
    return {f"metric/{key}": here.single for key, here in found.items() if here is not None}


def _row(
    run: Run, row: Mapping[str, Any], limits: Mapping[str, tuple[float, float]]
) -> Iterator[str]:
    ids, completion = row["completion_ids"], run.completion
    least = max(1, completion.min_tokens)
    if row["seed_index"] != 0:
        yield f"seed_index is {row['seed_index']}; every prompt is answered once"
    if not least <= len(ids) <= completion.max_tokens:
        yield f"{len(ids)} ids in completion_ids, where the task allows {least} to {completion.max_tokens}"
    elif not row["terminated"] and len(ids) < completion.max_tokens:
        yield f"not terminated after {len(ids)} of {completion.max_tokens} tokens"
    if run.vocabulary is not None:
        yield from _language(run.vocabulary, row)
    yield from _scores(run, row, limits)
    yield from _info(run, row)


def _language(language: Language, row: Mapping[str, Any]) -> Iterator[str]:
    ids = row["completion_ids"]
    foreign = [number for number in ids if number not in language.ids]
    if foreign:
        yield f"completion_ids holds {foreign[0]}, which the tokenizer does not know"
        return
    ends = [place for place, number in enumerate(ids) if number in language.ends]
    if ends != ([len(ids) - 1] if row["terminated"] else []):
        yield "an end token stands where the completion goes on, or terminated says otherwise"
    if language.decodes and row["completion"] != language.text(ids):
        yield f"completion {row['completion'][:60]!r} is not the text of completion_ids, {language.text(ids)[:60]!r}"


def _info(run: Run, row: Mapping[str, Any]) -> Iterator[str]:
    """Facts are of the task's metrics and of parts of its reward."""
    try:
        names = list(info_of(row))
    except RecordError as error:
        yield str(error)
        return
    keys = {component.key for component in run.task.spec.metrics.all()}
    known = tuple([f"metric/{key}/" for key in keys] + ["reward/"])
    if unknown := [name for name in names if not name.startswith(known)]:
        yield f"info has {unknown[0]!r}: no metric of the task and no part of its reward"


def _scores(
    run: Run, row: Mapping[str, Any], limits: Mapping[str, tuple[float, float]]
) -> Iterator[str]:
    for column, bounds in limits.items():
        value = row.get(column)
        if value is not None and not within(value, bounds):
            yield f"{column} is {value:.9g}, outside its bounds"
    reward = run.task.spec.reward
    parts = [row[name] for name in row if name.startswith("reward/") and row[name] is not None]
    if parts and _parts(reward.terms) is not None:
        total = sum(parts)
        if reward.clip is not None:
            total = min(max(total, reward.clip[0]), reward.clip[1])
        if not equal(row["reward"], total, SINGLE_PRECISION):
            yield f"reward is {row['reward']:.9g}, but its parts sum to {total:.9g}"
