"""Calls code from outside this package: any error becomes one message with file and line."""

from __future__ import annotations

import contextlib
import dis
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrl_bench.core.errors import LmrlBenchError

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

_OURS = "lmrl_bench."
_HERE = str(Path(__file__).parents[1])


def is_foreign(value: object) -> bool:
    """Returns whether a class, function or object is defined outside this package."""
    module = getattr(value, "__module__", None) or getattr(type(value), "__module__", "")
    return not f"{module}.".startswith(_OURS)


def source_place(value: Any) -> str:
    """Returns `file:line` of the definition of a class or function, or its name if unknown."""
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
    """Returns `file:line` of the failure, in the owner's file or else outside this package."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    place = source_place(owner)
    own = place.rpartition(":")[0]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.lineno is not None]
    mine = [frame for frame in frames if frame.filename == own]
    others = [
        frame
        for frame in frames
        if "/lib/python" not in frame.filename and not frame.filename.startswith(("<frozen", _HERE))
    ]
    chosen = (mine or others)[-1:]
    return f"{chosen[0].filename}:{chosen[0].lineno}" if chosen else place


def first_line(error: BaseException) -> str:
    """Returns the error in one line, such as `KeyError: 'label'`, in encodable text."""
    try:
        text = str(error).strip().partition("\n")[0].encode("utf-8", "backslashreplace").decode()
    except Exception as inner:  # the error's own __str__ fails
        text = f"the message cannot be read, {type(inner).__name__}"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def stops(error: BaseException) -> bool:
    """Returns whether an exception stops the program (or a generator) rather than reports a fault.

    Ctrl-C may arrive anywhere; a KeyboardInterrupt that foreign code raises itself is a fault.
    """
    if not isinstance(error, KeyboardInterrupt | GeneratorExit):
        return False
    trace = error.__traceback__
    if trace is None:
        return True
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    # A signal interrupts any instruction; only a `raise` statement executes RAISE_VARARGS.
    raised = dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return not raised or code.co_filename.startswith(_HERE)


def quiet() -> contextlib.redirect_stdout[Any]:
    """Redirects stdout of foreign code to stderr: stdout is reserved for results, such as JSON."""
    return contextlib.redirect_stdout(sys.stderr)


@contextmanager
def border(what: str, owner: object, raised: type[LmrlBenchError]) -> Iterator[None]:
    """Turns any exception from foreign code into one message; errors of this package pass through.

    Args:
        what: What was being done, for the message ("while it was built").
        owner: The class, function or object whose code runs.
        raised: Exception type that the user sees.
    """
    try:
        if is_foreign(owner):
            with quiet():
                yield
        else:
            yield
    except BaseException as error:
        if not is_foreign(type(error)) or not is_foreign(owner) or stops(error):
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
    """Like `border`, for scoring a batch: the message names the first sample that fails on its own.

    Args:
        what: The metric or reward ("reward 'mine'").
        owner: The class, function or object whose code runs.
        raised: Exception type that the user sees.
        samples: The batch.
        score: Scores the samples at the given positions again.
    """
    try:
        with quiet():
            yield
    except LmrlBenchError:
        raise
    except BaseException as error:
        if not is_foreign(type(error)) or stops(error):
            raise
        doing = _scoring(_first_failing(score, len(samples)), samples)
        raise raised(
            f"{error_place(error, owner)}: {first_line(error)} {doing} ({what})"
        ) from error


def _first_failing(score: Callable[[Sequence[int]], object], count: int) -> int | None:
    """Returns the first of `count` positions that fails on its own, found by bisection.

    Returns None if only the whole batch fails.
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
    """Returns "while scoring sample 'test-3'", or names the batch if `row` is None."""
    if row is not None:
        return f"while scoring sample '{samples[row].id}'"
    if not samples:
        return "while scoring"
    return f"while scoring {len(samples)} samples from '{samples[0].id}' to '{samples[-1].id}'"


def _fails(score: Callable[[Sequence[int]], object], rows: Sequence[int]) -> bool:
    try:
        with quiet():
            score(rows)
    except BaseException as error:
        if stops(error):
            raise
        return True
    return False
