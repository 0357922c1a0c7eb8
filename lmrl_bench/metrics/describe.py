"""Describes metrics and rewards, with arguments and an example: `metric show`, `reward show`."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import yaml

from lmrl_bench.metrics.arguments import hints_of
from lmrl_bench.metrics.building import needs_of
from lmrl_bench.metrics.plain import declaration, is_function

_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "accuracy": {"labels": ["positive", "negative"], "find": "first"},
    "classifier": {"model": "models/judge", "label": "positive"},
    "concept-coverage": {"field": "concepts"},
    "distinct": {"n": 3},
    "evaluate": {"script": "word_overlap.py", "key": "overlap", "per_sample": True},
    "exact-match": {"normalize": "squad"},
    "json-valid": {"keys": {"name": "string", "age": "integer"}},
    "length-penalty": {"target": 20, "per_token": 0.05},
    "numeric-match": {"tolerance": 0.01},
    "regex": {"pattern": "(?s)<think>.+</think>.+", "match": "full"},
    "repetition-penalty": {"allowed": 0.2},
}
"""Example arguments; the other metrics and rewards are shown without arguments."""

_AS_REWARD: Final[dict[str, dict[str, Any]]] = {
    "evaluate": {"bounds": [0, 1]},
    "length": {"scale": [0, 20]},
    "perplexity": {"scale": [0, 10]},
}
"""Additional arguments for the reward example: metrics without finite bounds need a range."""


@dataclass(frozen=True)
class Argument:
    """One argument of `args` in task.yaml.

    Attributes:
        name: Name of the argument.
        type: Its annotation, as text.
        required: It has no default.
        default: The default as text, or None.
        description: From the docstring.
    """

    name: str
    type: str
    required: bool
    default: str | None
    description: str


@dataclass(frozen=True)
class Description:
    """Description of a registered metric or reward.

    Attributes:
        name: Name in task.yaml.
        summary: First sentence of the docstring.
        doc: The docstring without its `Args:` section.
        arguments: The arguments.
        needs: Fields of a sample that it reads.
        bounds: Smallest and largest value; None for rewards, or if they depend on the arguments.
        higher_is_better: Direction; None if neither is better, and for rewards.
        example: A snippet for task.yaml.
    """

    name: str
    summary: str
    doc: str
    arguments: list[Argument]
    needs: list[str]
    bounds: tuple[float, float] | None
    higher_is_better: bool | None
    example: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the description as plain data for JSON; infinite bounds become null."""
        found = asdict(self)
        if self.bounds is not None:
            found["bounds"] = [
                value if abs(value) < float("inf") else None for value in self.bounds
            ]
        return found


def describe(name: str, value: Any, section: str) -> Description:
    """Describes a registered class or function.

    Args:
        name: Registered name.
        value: The registered object.
        section: "metrics" or "reward", the section of task.yaml for the example.
    """
    words, arguments = _split(inspect.getdoc(value) or "")
    for parent in value.__mro__[1:] if inspect.isclass(value) else ():
        arguments = _split(inspect.getdoc(parent) or "")[1] | arguments
    function = is_function(value)
    declared = declaration(value) if function else None
    bounds = declared.bounds if declared else getattr(value, "bounds", None)
    higher = declared.higher_is_better if declared else getattr(value, "higher_is_better", None)
    return Description(
        name=name,
        summary=" ".join(words.split("\n\n")[0].split()),
        doc=words,
        arguments=_arguments(value, arguments),
        needs=sorted(needs_of(value)),
        bounds=bounds,
        higher_is_better=higher,
        example=example(name, section),
    )


def example(name: str, section: str) -> str:
    """Returns a task.yaml snippet that uses a metric or reward."""
    entry: dict[str, Any] = {"name": name}
    further = _AS_REWARD.get(name, {}) if section == "reward" else {}
    if args := _EXAMPLES.get(name, {}) | further:
        entry["args"] = args
    line = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10_000).strip()
    if section == "metrics":
        return f"metrics:\n  others:\n    - {line}\n"
    return f"reward:\n  terms:\n    - {line}\n"


def _split(doc: str) -> tuple[str, dict[str, str]]:
    """Splits a Google-style docstring into its description and its arguments by name."""
    words, *sections = re.split(r"\n\n(?=(?:Args|Raises|Returns|Attributes):\n)", f"{doc}\n")
    found: dict[str, str] = {}
    for section in sections:
        title, _, body = section.partition(":\n")
        if title == "Args":
            for part in re.split(r"\n(?=\S)", textwrap.dedent(body).strip()):
                name, _, text = part.partition(":")
                found[name.strip()] = " ".join(text.split())
    return words.strip(), found


def _arguments(value: Callable[..., Any], described: Mapping[str, str]) -> list[Argument]:
    hints = hints_of(value)
    found = []
    for name, parameter in inspect.signature(value).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        required = parameter.default is parameter.empty
        default = None if required else _value(parameter.default)
        found.append(
            Argument(name, _type(hints.get(name)), required, default, described.get(name, ""))
        )
    return found


def _value(default: Any) -> str:
    return (
        yaml.safe_dump(default, default_flow_style=True, width=10_000)
        .removesuffix("\n...\n")
        .strip()
    )


def _type(hint: Any) -> str:
    """Returns an annotation in YAML terms."""
    if hint is None or hint is Any:
        return "any"
    if hint is type(None):
        return "null"
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"mapping from {_type(arguments[0])} to {_type(arguments[1])}"
    if origin is tuple:
        return f"[{', '.join(map(_type, arguments))}]"
    if arguments:
        return " or ".join(dict.fromkeys(map(_type, arguments)))
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(
        hint,
        "text" if getattr(hint, "__name__", "") == "Path" else str(getattr(hint, "__name__", hint)),
    )
