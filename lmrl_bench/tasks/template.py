"""The prompt template: Jinja2 over the columns of a row, in a sandbox with bounded work.

A template may come from someone else's task folder: it must not hang or exhaust memory, and equal
rows must give equal prompts in every process. Therefore loops, texts and time are bounded, `random`
and `lipsum` are removed, and null is not text.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import jinja2
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from lmrl_bench.core.errors import DataError, TaskError
from lmrl_bench.tasks.readers import Row

MAX_STEPS: Final = 100_000
"""Limit on loop iterations and macro calls, per row."""

MAX_CHARACTERS: Final = 10_000_000
"""Longest text or list that a template may build, per row."""

MAX_SECONDS: Final = 10.0
"""Time limit per row; the other limits usually apply long before."""

_WIDTH = re.compile(r"\d{6,}")  # width in a format string, such as '%1000000d'
_TICK, _JOIN = "_lmrl_bench_tick", "_lmrl_bench_join"  # names that no column has


class _BoundError(Exception):
    """The template does more work than a prompt can need."""


class _Null(jinja2.StrictUndefined):
    """Stands for null in templates: false, equal to none, and not text."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override] # StrictUndefined has one that raises
        return False

    def __eq__(self, other: object) -> bool:  # type: ignore[override] # StrictUndefined has one that raises
        return other is None or isinstance(other, _Null)

    def __ne__(self, other: object) -> bool:  # type: ignore[override] # StrictUndefined has one that raises
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override] # StrictUndefined has one that raises
        return hash(None)


class _Work:
    """Work done so far for the current row; rows are rendered one at a time."""

    def __init__(self) -> None:
        self.steps, self.characters, self.until = 0, 0, 0.0

    def start(self) -> None:
        self.steps, self.characters = 0, 0
        self.until = time.monotonic() + MAX_SECONDS

    def tick(self) -> str:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _BoundError(f"more than {MAX_STEPS:,} passes through loops and macros")
        if time.monotonic() > self.until:
            raise _BoundError(f"takes longer than {MAX_SECONDS:.0f} s")
        return ""

    def write(self, text: str) -> str:
        self.characters += require_short(len(text))
        require_short(self.characters)
        return text


_WORK = _Work()


def require_short(length: int) -> int:
    """Returns the length if a prompt may have it.

    Raises:
        _BoundError: The length exceeds `MAX_CHARACTERS`.
    """
    if length > MAX_CHARACTERS:
        raise _BoundError(f"makes more than {MAX_CHARACTERS:,} characters or items")
    return length


def _printed(value: Any) -> Any:
    """Filters the output of `{{ }}`: rejects null, and objects whose text varies by process."""
    if isinstance(value, jinja2.Undefined):
        return value  # raises when printed, with the column's name
    if value is None:
        raise jinja2.UndefinedError("the value is null; write {{ value or '' }} to leave it empty")
    if callable(value) or isinstance(value, Iterator):
        raise jinja2.TemplateRuntimeError(
            f"the value is a {type(value).__name__}, not text; call it, or convert it to a list with "
            "|list or to text with |join"
        )
    if isinstance(value, str):
        return _WORK.write(value)
    return _WORK.write(str(value))


def _joined(*parts: Any) -> str:
    return _WORK.write("".join([str(_printed(part)) for part in parts]))


class _Bounding(NodeTransformer):
    """Inserts counters into loops and macros, and bounds the length of `~`."""

    def _counted(self, node: Any) -> Any:
        node = self.generic_visit(node)
        call = nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(call, lineno=node.lineno))
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted  # noqa: N815 - Jinja2's names

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja2's name
        self.generic_visit(node)
        return nodes.Call(nodes.Name(_JOIN, "load"), node.nodes, [], None, None, lineno=node.lineno)


class _Environment(SandboxedEnvironment):
    """Jinja2's sandbox, with limits on the size of single operations and calls."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self) -> None:
        super().__init__(
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
            finalize=_printed,
        )
        self.globals.pop("lipsum")
        self.globals |= {_TICK: _WORK.tick, _JOIN: _joined}
        self.filters = {
            name: _bounded_filter(name, function)
            for name, function in self.filters.items()
            if name != "random"
        }
        self.tests = self.tests | {"none": lambda value: value is None or isinstance(value, _Null)}
        self.policies["json.dumps_function"] = functools.partial(json.dumps, default=_json_null)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        return cast(nodes.Template, _Bounding().visit(template))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and abs(right) * max(abs(left), 2).bit_length() > 10_000:
            raise _BoundError("a power of more than 10,000 bits")
        if operator == "*":
            for many, count in ((left, right), (right, left)):
                if isinstance(many, str | list | tuple) and isinstance(count, int):
                    require_short(len(many) * max(count, 0))
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            require_short(len(left) + len(right))
        if operator == "%" and isinstance(left, str):
            _require_narrow(left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            _require_small(function.__name__, owner, *args, *kwargs.values())
        return super().call(context, function, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        format_text = wrapped

        def bounded(*args: Any, **kwargs: Any) -> str:
            _require_narrow(value.__self__, (*args, *kwargs.values()))
            return format_text(*args, **kwargs)

        return bounded


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    passed = getattr(function, "jinja_pass_arg", None)

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _require_small(name, *(args if passed is None else args[1:]), *kwargs.values())
        return function(*args, **kwargs)

    return bounded


def _require_small(name: str, value: Any, *args: Any) -> None:
    """Bounds the result of a method or filter by its arguments: widths, counts, inserted texts."""
    numbers = [arg for arg in args if isinstance(arg, int)]
    if any(abs(number) > MAX_STEPS for number in numbers):
        raise _BoundError(f"{name}: {max(map(abs, numbers)):,} is above {MAX_STEPS:,}")
    if isinstance(value, str) and name == "format":
        _require_narrow(value, args)
    size = len(value) + 1 if isinstance(value, str | list | tuple) else 1
    longest = max([len(arg) for arg in args if isinstance(arg, str)], default=0)
    lines = max([abs(number) for number in numbers], default=0)
    if name in ("replace", "join", "indent", "translate", "wordwrap", "expandtabs"):
        require_short(size * max(longest, lines, 1))


def _require_narrow(template: str, values: Any) -> None:
    """Bounds the widths of a format string, literal or passed as values."""
    large = any(isinstance(value, int) and abs(value) > MAX_STEPS for value in _flat(values))
    if _WIDTH.search(template) or (large and re.search(r"\*|\{[^}]*\{", template)):
        raise _BoundError("a format with a width of more than five digits")


def _flat(values: Any) -> tuple[Any, ...]:
    if isinstance(values, Mapping):
        return tuple(values.values())
    return tuple(values) if isinstance(values, tuple | list) else (values,)


def _json_null(value: Any) -> None:
    if not isinstance(value, _Null):
        raise TypeError(f"a {type(value).__name__} has no JSON")


_ENVIRONMENT = _Environment()
# Private-use characters that mark text from the row's columns.
_OPEN, _CLOSE = "\ue003", "\ue004"


def _marked(value: Any) -> Any:
    printed = _printed(value)
    return printed if isinstance(printed, jinja2.Undefined) else f"{_OPEN}{printed}{_CLOSE}"


_MARKING = _Environment()
_MARKING.finalize = _marked


class Template:
    """A compiled prompt template; columns it uses must exist in every row.

    Args:
        source: Jinja2 source.
        place: The `task.yaml` it comes from, for messages.

    Raises:
        TaskError: Invalid Jinja2.
    """

    def __init__(self, source: str, place: Path) -> None:
        self._source, self._place = source, place
        try:
            self._template = _ENVIRONMENT.from_string(source)
            self._plain = _plain_parts(_ENVIRONMENT.parse(source))
            self._marking = None if self._plain else _MARKING.from_string(source)
        except Exception as error:  # compiling a user's template may raise anything
            reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
            raise TaskError(f"{place}: prompt.template {source!r:.200}: {reason}") from error

    def __call__(self, row: Row, identifier: str) -> str:
        """Renders the prompt of a row.

        Raises:
            DataError: The template fails on the row, exceeds a limit, or gives an empty prompt.
        """
        try:
            prompt = self._rendered(row.values)
        except Exception as error:  # a template may raise anything
            columns = ", ".join(str(column) for column in row.values)
            raise DataError(
                f"{row.place}: prompt.template {self._source!r:.200} of {self._place}: "
                f"{_reason(error)} (columns: {columns:.500})"
            ) from error
        if not prompt.strip():
            raise DataError(
                f"{row.place}: row '{identifier}' has an empty prompt; complete or remove the row"
            )
        return prompt

    def written(self, row: Row, prompt: str) -> tuple[tuple[int, int], ...]:
        """Returns the spans of the prompt that the template itself wrote; empty if unclear."""
        if self._plain is not None:
            lengths = [
                (len(str(row.values[part])) if is_column else len(part), is_column)
                for part, is_column in self._plain
            ]
            return _spans(lengths) if sum(size for size, _ in lengths) == len(prompt) else ()
        assert self._marking is not None
        _WORK.start()
        try:
            marked = self._marking.render(_columns(row.values))
        except (jinja2.TemplateError, _BoundError):
            return ()
        return _unmarked(marked, prompt)

    def _rendered(self, values: Mapping[str, Any]) -> str:
        """Renders one row; plain templates are concatenated, which is much faster than Jinja2."""
        if self._plain is not None:
            try:
                return "".join(
                    [values[part] if is_column else part for part, is_column in self._plain]
                )
            except (KeyError, TypeError):
                pass  # not text, or missing: let Jinja2 render or reject it
        _WORK.start()
        return self._template.render(_columns(values))


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _seen(value, str(key)) for key, value in values.items()}


def _spans(lengths: Sequence[tuple[int, bool]]) -> tuple[tuple[int, int], ...]:
    """Returns the spans of the parts that are not data."""
    spans: list[tuple[int, int]] = []
    start = 0
    for size, is_data in lengths:
        if size and not is_data:
            spans.append((start, start + size))
        start += size
    return tuple(spans)


def _unmarked(marked: str, prompt: str) -> tuple[tuple[int, int], ...]:
    """Returns the spans outside the marks, if removing the marks gives the prompt."""
    depth, pieces = 0, []
    for piece in re.split(f"([{_OPEN}{_CLOSE}])", marked):
        if piece in (_OPEN, _CLOSE):
            depth += 1 if piece == _OPEN else -1
        else:
            pieces.append((piece, depth > 0))
    if "".join(piece for piece, _ in pieces) != prompt or depth:
        return ()
    return _spans([(len(piece), is_data) for piece, is_data in pieces])


def _reason(error: Exception) -> str:
    if isinstance(error, jinja2.TemplateError | _BoundError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it recurses endlessly"
    return f"{type(error).__name__}: {error}"


def _seen(value: Any, name: str) -> Any:
    """Returns a column as the template sees it, with null replaced by `_Null` at every level."""
    if value is None:
        hint = f"the column '{name}' is null; write {{{{ {name} or '' }}}} to leave it empty"
        return _Null(hint=hint)
    if isinstance(value, list):
        return [_seen(part, name) for part in value]
    if isinstance(value, dict):
        return {key: _seen(part, name) for key, part in value.items()}
    return value


def _plain_parts(template: nodes.Template) -> list[tuple[str, bool]] | None:
    """Splits a template of text and bare columns into (text or name, is_column), or None."""
    parts: list[tuple[str, bool]] = []
    for statement in template.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            if isinstance(node, nodes.TemplateData):
                parts.append((node.data, False))
            elif isinstance(node, nodes.Name):
                parts.append((node.name, True))
            else:
                return None
    return parts
