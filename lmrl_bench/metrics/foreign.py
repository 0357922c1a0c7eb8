"""The border to code that is not ours: whatever a plug-in raises becomes one message with file and line."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrl_bench.errors import LmrlBenchError

if TYPE_CHECKING:
    from lmrl_bench.text.sample import Sample

_OURS = "lmrl_bench."


def is_foreign(value: object) -> bool:
    """Whether a class, a function or an object of a class is defined outside this package."""
    module = getattr(value, "__module__", None) or getattr(type(value), "__module__", "")
    return not f"{module}.".startswith(_OURS)


def source_place(value: Any) -> str:
    """Returns the file and line where a class or function is defined; its name if that is unknown."""
    plain = inspect.unwrap(getattr(value, "func", value))
    code = getattr(plain, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    kind = value if inspect.isclass(value) else type(value)
    try:
        return f"{inspect.getsourcefile(kind)}:{inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return str(getattr(kind, "__qualname__", kind))


def error_place(error: BaseException, owner: object) -> str:
    """Returns the file and line in the owner's file, or else outside this package, that failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    place = source_place(owner)
    own, ours = place.rpartition(":")[0], str(Path(__file__).parents[1])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.lineno is not None]
    mine = [frame for frame in frames if frame.filename == own]
    others = [
        frame
        for frame in frames
        if "/lib/python" not in frame.filename and not frame.filename.startswith(("<frozen", ours))
    ]
    chosen = (mine or others)[-1:]
    return f"{chosen[0].filename}:{chosen[0].lineno}" if chosen else place


def first_line(error: BaseException) -> str:
    """Returns `KeyError: 'label'`."""
    text = str(error).strip().partition("\n")[0]
    name = type(error).__name__
    return f"{name}: {text}" if text else name


@contextmanager
def border(what: str, owner: object, raised: type[LmrlBenchError]) -> Iterator[None]:
    """Turns what foreign code raises into one message; errors of this package pass.

    Args:
        what: What was being done, for the message: "while it was made".
        owner: The class, function or object whose code runs.
        raised: The error that the user gets.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if not is_foreign(type(error)) or not is_foreign(owner):
            raise
        raise raised(f"{error_place(error, owner)}: {first_line(error)} {what}") from error


@contextmanager
def scoring_border(
    what: str,
    owner: object,
    raised: type[LmrlBenchError],
    samples: Sequence[Sample],
    score: Callable[[Sequence[int]], object],
) -> Iterator[None]:
    """As `border`, for code that scores a batch: the message names the first sample that fails by itself.

    Args:
        what: The metric or reward: "reward 'mine'".
        owner: The class, function or object whose code runs.
        raised: The error that the user gets.
        samples: The batch.
        score: Scores some of its rows again.
    """
    try:
        yield
    except LmrlBenchError:
        raise
    except (Exception, SystemExit) as error:
        if not is_foreign(type(error)):
            raise
        doing = _scoring(_first_failing(score, len(samples)), samples)
        raise raised(
            f"{error_place(error, owner)}: {first_line(error)} {doing} ({what})"
        ) from error


def _first_failing(score: Callable[[Sequence[int]], object], count: int) -> int | None:
    """Returns the first of `count` rows that cannot be scored by itself, found by halving.

    None if only the whole batch fails.
    """
    rows = range(count)
    while len(rows) > 1:
        halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        failing = next((half for half in halves if _fails(score, half)), None)
        if failing is None:
            return None
        rows = failing
    return rows[0] if rows else None


def _scoring(row: int | None, samples: Sequence[Sample]) -> str:
    """Returns "while scoring sample 'test-3'"; without a row, the batch."""
    if row is not None:
        return f"while scoring sample '{samples[row].id}'"
    if not samples:
        return "while scoring"
    return f"while scoring {len(samples)} samples from '{samples[0].id}' to '{samples[-1].id}'"


def _fails(score: Callable[[Sequence[int]], object], rows: Sequence[int]) -> bool:
    try:
        score(rows)
    except (Exception, SystemExit):
        return True
    return False
