"""Runs that are one run twice: a copy under another number, changed a little or not at all.

Two trainings log other numbers and sample other completions. How much honest runs share was measured on all committed
records (`tests/unit/verification/test_copies.py` measures again): at most 5.5 % of the numbers of training, and of the
parts of completions 0.8 % between seeds and 5.1 % between entries of one seed. From `SHARE` on, two runs are one.

Evaluations after the start are compared too: no two committed runs share one (`_points`), so one of them is enough.

Only what tells runs apart is compared: numbers to four digits that occur once in the run under their name, and parts
of `PART` tokens that occur once in its completions. So neither constants nor a policy that always
writes the same completion count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lmrl_bench.core.digests import digest
from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import read_curves, read_samples

SHARE: Final = 0.2
LEAST: Final = 3
"""Least number of equal numbers or parts; one or two may be chance in a very short run."""
PART: Final = 6
"""Tokens of a part of a completion."""
_DIGITS: Final = 4
_LEAST_RATIO: Final = 1e-3
"""Nats."""
_SAMPLED: Final = ("test", "test-unfiltered")


class _Part(NamedTuple):
    """A few tokens of one completion, from `place` on."""

    decoding: str
    sample: str
    place: int
    ids: tuple[int, ...]


class _Marks(NamedTuple):
    """The marks that distinguish a run from others.

    Attributes:
        whole: Digests of all curves and of all completions.
        numbers: Iteration, name and value of numbers of training; not of the first iteration, which starts from the
            same weights.
        parts: Decoding, sample, place and ids of parts of sampled completions.
        points: Evaluations after the start: pairs of their numbers, one of them the log-ratio to the start.
    """

    whole: dict[str, str]
    numbers: set[Hashable]
    parts: set[Hashable]
    points: set[Hashable]


def copies(records: Mapping[Path, RunRecord], greedy: bool) -> list[str]:
    """Returns which runs of one task are one run twice, each with the first one.

    Args:
        records: The records of one task, by folder.
        greedy: Whether evaluations decode greedily: then equal completions may be honest.
    """
    marks = {
        folder: found for folder, record in records.items() if (found := _marks(folder, record))
    }
    problems = list(_exact(marks))
    seen = {folder for folder, _ in problems}
    marks = {folder: found for folder, found in marks.items() if folder not in seen}
    for kind in ("numbers", "parts", "points"):
        if kind == "parts" and greedy:
            continue
        of_run = {folder: getattr(found, kind) for folder, found in marks.items()}
        for first, second, shared in _pairs(of_run):
            if second in seen or _may_share(records[first], records[second], kind):
                continue
            least = min(len(of_run[first]), len(of_run[second]))
            if kind == "points":
                seen.add(second)
                problems.append(
                    (
                        second,
                        f"shares evaluations on the validation split with {first}, and separate runs share none: "
                        "they are copied; run the cell again",
                    )
                )
                continue
            if shared >= LEAST and shared >= SHARE * least:
                seen.add(second)
                what = "numbers of training" if kind == "numbers" else "parts of its completions"
                problems.append(
                    (
                        second,
                        f"shares {shared} of {least} {what} with {first}, and separate runs share "
                        f"less than {SHARE:.0%}: they are one run; run the cell again",
                    )
                )
    return [f"{folder}: {reason}" for folder, reason in problems]


def _may_share(first: RunRecord, second: RunRecord, kind: str) -> bool:
    """Entries of one seed share random numbers: equal settings train alike, and small steps leave completions alike."""
    if first.seed != second.seed:
        return False
    if kind != "numbers":
        return True  # with curves of their own
    settings = [
        [record.config.get(name) for name in ("algorithm", "policy", "sampling")]
        for record in (first, second)
    ]
    return settings[0] == settings[1]  # budgets or evaluations differ


def _exact(marks: Mapping[Path, _Marks]) -> Iterator[tuple[Path, str]]:
    seen: dict[tuple[str, str], Path] = {}
    for folder, found in marks.items():
        for what, value in found.whole.items():
            first = seen.setdefault((what, value), folder)
            if first != folder:
                yield (
                    folder,
                    f"its {what} are those of {first}: a copy, or a setting that changes nothing; a leaderboard takes "
                    "each run once: remove it",
                )


def _pairs(of_run: Mapping[Path, set[Hashable]]) -> Iterator[tuple[Path, Path, int]]:
    """Yields the pairs of runs that share marks, and how many; in the order of the runs."""
    owners: dict[Hashable, list[Path]] = defaultdict(list)
    shared: Counter[tuple[Path, Path]] = Counter()
    for folder, found in of_run.items():
        for mark in found:
            shared.update((other, folder) for other in owners[mark])
            owners[mark].append(folder)
    for (first, second), count in shared.items():
        yield first, second, count


def _marks(folder: Path, record: RunRecord) -> _Marks | None:
    """None for a run that did not train, so that equal numbers may be honest, or that cannot be read."""
    try:
        lines = read_curves(folder) if record.curves else []
        training = [line for line in lines if line.get("kind") == "train"]
        if not training:
            return None
        whole, parts = {"curves": digest(lines)}, set[Hashable]()
        if record.samples:
            columns = ("decoding", "sample_id", "completion_ids")
            completions = read_samples(folder).select(columns).to_pylist()
            if (
                len({str(completion["completion_ids"]) for completion in completions}) > 1
            ):  # else it has collapsed
                whole["completions"] = digest(completions)
            parts = set(_once(list(_parts(completions))))
    except LmrlBenchError:
        return None  # another check names it
    numbers = [
        (line.get("iteration"), name, f"{value:.{_DIGITS - 1}e}")
        for line in training
        for name, value in line.items()
        if isinstance(value, float) and value and name.startswith(("rollout/", "update/"))
    ]
    once = Counter((name, text) for _, name, text in numbers)
    told: set[Hashable] = {mark for mark in numbers if mark[0] != 1 and once[mark[1], mark[2]] == 1}
    return _Marks(whole, told, parts, set(_points(lines)))


def _points(lines: Iterable[Mapping[str, object]]) -> Iterator[Hashable]:
    """Yields pairs that two evaluations share only by copying: a log-ratio to six digits, and another number.

    A log-ratio near 0 may be rounding, and is left out.
    """
    for line in lines:
        ratio = line.get("kl_to_reference")
        if line.get("kind") != "validation" or line.get("iteration") == 0:
            continue
        if not isinstance(ratio, float) or abs(ratio) < _LEAST_RATIO:
            continue
        names = ("reward", "mean_length", *(n for n in line if n.startswith("metric/")))
        numbers = [(n, f"{v:.5e}") for n in names if isinstance(v := line.get(n), (int, float))]
        yield from ((line.get("iteration"), f"{ratio:.5e}", *number) for number in numbers)
        yield (line.get("iteration"), f"{ratio:.3e}", *(f"{line.get(n):.3e}" for n, _ in numbers))


def _parts(completions: Iterable[Mapping[str, object]]) -> Iterator[_Part]:
    for completion in completions:
        ids = completion["completion_ids"]
        if completion["decoding"] not in _SAMPLED or not isinstance(ids, list):
            continue
        decoding, sample = str(completion["decoding"]), str(completion["sample_id"])
        for place in range(0, len(ids) - PART + 1, PART):
            yield _Part(decoding, sample, place, tuple(ids[place : place + PART]))


def _once(parts: Sequence[_Part]) -> Iterator[_Part]:
    """Parts whose ids occur once under their decoding."""
    times = Counter((part.decoding, part.ids) for part in parts)
    yield from (part for part in parts if times[part.decoding, part.ids] == 1)
