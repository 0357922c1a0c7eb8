"""Plain functions as metrics and rewards: how they are recognized, bound, called and identified.

A function takes a batch and returns one number per completion:

    def json_valid(completions, samples): ...

Parameters are filled by name. `completions` gets the texts, `samples` their
`Sample` objects, `prompts` and `references` those of the samples. Other parameters come from `args`
in task.yaml; required ones that are not in `args` get the field of `data.meta` with their name, as
a list with one value per completion. `**kwargs` gets all of `data.meta`. If none of these names
occur, the first parameter gets the completions and the second one the samples.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmrl_bench.core.digests import canonical_json, file_sha256
from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.metrics.arguments import check_arguments, hints_of
from lmrl_bench.metrics.base import FloatArray
from lmrl_bench.metrics.foreign import scoring_border, source_place
from lmrl_bench.metrics.values import per_completion

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
READS = ("prompt", "references", "meta")
"""Fields of a sample that a metric or reward may declare in `needs`."""

_FILLED = {
    "completions": "completions",
    "samples": "samples",
    "prompts": "prompts",
    "references": "references",
}
_NEEDS = {"prompts": "prompt", "references": "references", "meta": "meta"}
_DECLARED = "__lmrl_bench__"


@dataclass(frozen=True)
class Declared:
    """Declaration of a function, written by a decorator."""

    bounds: tuple[float, float] | None = None
    higher_is_better: bool | None = True
    needs: frozenset[str] = frozenset()


def declare(function: F, declared: Declared) -> F:
    """Attaches a declaration to a function."""
    setattr(function, _DECLARED, declared)
    return function


def declaration(function: Callable[..., Any]) -> Declared:
    """Returns a function's declaration, or the default."""
    found = getattr(function, _DECLARED, getattr(_bare(function), _DECLARED, Declared()))
    assert isinstance(found, Declared)
    return found


def checked_needs(needs: Iterable[str], raised: type[LmrlBenchError]) -> frozenset[str]:
    """Checks the declared fields of a sample.

    Raises:
        LmrlBenchError: An unknown field.
    """
    found = frozenset([needs] if isinstance(needs, str) else needs)
    if unknown := sorted(map(str, found - set(READS))):
        raise raised(f"needs names {', '.join(unknown)} (allowed: {', '.join(READS)})")
    return found


def function_needs(function: Callable[..., Any]) -> frozenset[str]:
    """Returns the fields of a sample that a function reads, as declared or named as parameters."""
    try:
        parameters = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        parameters = set()
    named = {_NEEDS[name] for name in parameters if name in _NEEDS}
    return declaration(function).needs | named


def is_function(value: object) -> bool:
    """Returns whether a value is a function, a bound method or a `functools.partial` of one."""
    return inspect.isroutine(value) or (
        isinstance(value, functools.partial) and is_function(value.func)
    )


def returns(function: object, kind: type) -> bool:
    """Returns whether a function is annotated to return `kind`, that is, is a factory."""
    if not inspect.isfunction(function):
        return False
    hint = hints_of(function).get("return")
    return inspect.isclass(hint) and issubclass(hint, kind)


class PlainFunction:
    """A function bound to its arguments, ready to score batches.

    Args:
        kind: "metric" or "reward", for messages.
        name: Name in task.yaml.
        function: The function.
        args: Arguments by name.
        raised: Exception type for all errors.

    Attributes:
        needs: Fields of a sample that it reads, from its parameters and its declaration.
        where: Kind, name, file and line, for messages.

    Raises:
        LmrlBenchError: Unknown or wrong arguments, or no parameter for the completions.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        function: Callable[..., Any],
        args: Mapping[str, Any],
        raised: type[LmrlBenchError],
    ) -> None:
        self.name = name
        self.where = f"{kind} '{name}' ({source_place(function)})"
        self._function, self._raised = function, raised
        parameters = _parameters(function, self.where, raised)
        self._filled = _fill(parameters, args, self.where, raised)
        self._args = check_arguments(
            kind, name, function, args, raised, skip={*self._filled, *_columns_of(self._filled)}
        )
        self._rest = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._first = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_ONLY]
        reads = {_NEEDS[source] for source in self._filled.values() if source in _NEEDS}
        self.needs = declaration(function).needs | reads
        self._given = canonical_json(_plain_data(args))

    @property
    def signature(self) -> str:
        """Name of the function, digest of its file, and arguments."""
        bare = _bare(self._function)
        name = getattr(bare, "__qualname__", type(bare).__name__)
        partial = _partial_arguments(self._function)
        return (
            f"function:{name}|source:{_source_digest(bare)}|args:{self._given}"
            + (f"|partial:{canonical_json(_plain_data(partial))}" if partial else "")
        ).replace("/", "\\u002f")

    def __call__(self, completions: Sequence[str], samples: Sequence[Sample]) -> FloatArray:
        """Returns `(B,)` numbers, which may be NaN or infinite.

        Raises:
            LmrlBenchError: The function raises, or does not return one number per completion.
        """
        return self.call(completions, samples, self._numbers)

    def call(
        self,
        completions: Sequence[str],
        samples: Sequence[Sample],
        read: Callable[[Any, Sequence[Sample]], T],
    ) -> T:
        """Returns what `read` makes of the function's value and the samples.

        Raises:
            LmrlBenchError: The function raises, or `read` refuses what it returned.
        """

        def score(rows: Sequence[int]) -> T:
            some = [samples[row] for row in rows]
            return read(self._call([completions[row] for row in rows], some), some)

        what = self.where.partition(" (")[0]
        with scoring_border(what, self._function, self._raised, samples, score):
            return score(range(len(samples)))

    def _numbers(self, returned: Any, samples: Sequence[Sample]) -> FloatArray:
        return per_completion(returned, samples, self.where, self._raised)

    def _call(self, completions: Sequence[str], samples: Sequence[Sample]) -> Any:
        sources: dict[str, Callable[[], list[Any]]] = {
            "completions": lambda: list(completions),
            "samples": lambda: list(samples),
            "prompts": lambda: [sample.prompt for sample in samples],
            "references": lambda: [list(sample.references) for sample in samples],
        }
        values = {
            name: self._column(name, samples) if source == "meta" else sources[source]()
            for name, source in self._filled.items()
        }
        values |= self._args
        if self._rest:
            shared = set(samples[0].meta).intersection(*(sample.meta for sample in samples[1:]))
            values |= {n: self._column(n, samples) for n in sorted(shared) if n not in values}
        first = [values.pop(name) for name in self._first if name in values]
        return self._function(*first, **values)

    def _column(self, name: str, samples: Sequence[Sample]) -> list[Any]:
        for sample in samples:
            if name not in sample.meta:
                raise self._raised(
                    f"{self.where}: parameter '{name}' is neither in its args nor a field of "
                    f"sample '{sample.id}'; give it under args, or list the column in data.meta"
                )
        return [sample.meta[name] for sample in samples]


def _parameters(
    function: Callable[..., Any], where: str, raised: type[LmrlBenchError]
) -> Mapping[str, inspect.Parameter]:
    if inspect.iscoroutinefunction(_bare(function)):
        raise raised(f"{where}: is an async function; give a plain function")
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise raised(f"{where}: has no readable parameters; wrap it in a function") from None


def _fill(
    parameters: Mapping[str, inspect.Parameter],
    args: Mapping[str, Any],
    where: str,
    raised: type[LmrlBenchError],
) -> dict[str, str]:
    """Returns the source of each parameter: a part of the batch, or "meta" for a field."""
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    filled = {name: _FILLED[name] for name in named if name in _FILLED and name not in args}
    required = [n for n, p in named.items() if p.default is p.empty and n not in args]
    if "completions" not in filled.values():
        positional = [
            name
            for name in required
            if name not in filled and named[name].kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        if not positional:
            raise raised(
                f"{where}: has no parameter for the completions; "
                "write it as (completions, samples) -> list[float]"
            )
        filled[positional[0]] = "completions"
        if len(positional) > 1 and "samples" not in filled.values():
            filled[positional[1]] = "samples"
    return filled | {name: "meta" for name in required if name not in filled}


def _columns_of(filled: Mapping[str, str]) -> list[str]:
    return [name for name, source in filled.items() if source == "meta"]


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    bare: Callable[..., Any] = inspect.unwrap(function)
    return bare


def _partial_arguments(function: Callable[..., Any]) -> list[Any]:
    found: list[Any] = []
    while isinstance(function, functools.partial):
        found.append([list(function.args), function.keywords])
        function = function.func
    return found


def _source_digest(function: Callable[..., Any]) -> str:
    """Returns a digest of the file that defines a function, or else of its source or bytecode."""
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{getattr(function, '__module__', None)}"
    if Path(code.co_filename).is_file():
        return file_sha256(Path(code.co_filename))[:12]
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = _code_text(code)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _code_text(code: Any) -> str:
    constants = [_code_text(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts]
    return repr((code.co_code, code.co_names, constants))


def _plain_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain_data(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_data(entry) for entry in value]
    plain = value is None or isinstance(value, str | int | float | bool)
    return value if plain else repr(value)
