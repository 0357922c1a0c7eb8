"""Parses YAML with the 1.2 core schema: `no` and `on` are text, `1e-6` is a number.

PyYAML parses; only its YAML 1.1 rules for scalars are replaced. Keys are text and unique. The
result contains only mappings, lists, text, numbers, booleans and null.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from lmrl_bench.config.located import Key, KeyPath, Located, Place
from lmrl_bench.core.errors import ConfigError

MAX_NODES = 100_000
MAX_DEPTH = 50  # nesting of mappings and lists; code that reads the data is recursive
MAX_DIGITS = 1000  # of an integer; converting more is quadratic in time
_TAG = "tag:yaml.org,2002:"
_SURROGATE = re.compile("[\ud800-\udfff]")
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own shape


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own shape

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - write repeated values in full
        return True


for _name, _pattern, _first in _SCALARS:
    _starts = ["" if character == "\0" else character for character in _first]
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _starts)


def parse_yaml(text: str, source: str) -> Located:
    """Parses one YAML document; `source` names it in messages.

    Raises:
        ConfigError: Invalid YAML, a repeated key, an unsupported tag or key, or a document that
            expands beyond `MAX_NODES` values through aliases.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        builder = _Builder(source)
        data = None if node is None else builder.build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        found = f"the character U+{ord(text[error.position]):04X}"
        raise ConfigError(f"{source}:{number}: not valid YAML: {found} is not allowed") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply") from error
    return Located(data, {(): Place(source, 1, 1), **builder.places})


def dump_yaml(data: Any) -> str:
    """Returns YAML text that `parse_yaml` reads back unchanged; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Builder:
    """Converts composed nodes to data and records the place of each key."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[KeyPath, Place] = {}
        self._open: set[int] = set()
        self._nodes = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(node, f"more than {MAX_NODES} values (nested aliases?)")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if len(path) > MAX_DEPTH:
            raise self._error(node, f"nested deeper than {MAX_DEPTH} levels")
        if id(node) in self._open:
            raise self._error(node, "the alias refers to a value that contains it")
        self._open.add(id(node))
        collect = self._mapping if isinstance(node, yaml.MappingNode) else self._list
        value = collect(node, path)
        self._open.discard(id(node))
        return value

    def _list(self, node: yaml.Node, path: KeyPath) -> list[Any]:
        self._check_tag(node, "seq")
        return [self._child(item, item, path, index) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        self._check_tag(node, "map")
        mapping: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be plain text")
            key = self._text(key_node)
            if key in mapping:
                raise self._error(
                    key_node, f"the key '{key:.60}' was already given in line {lines[key]}"
                )
            lines[key] = key_node.start_mark.line + 1
            mapping[key] = self._child(value_node, key_node, path, key)
        return mapping

    def _child(self, node: yaml.Node, shown: yaml.Node, path: KeyPath, key: Key) -> Any:
        mark = shown.start_mark
        self.places[(*path, key)] = Place(self.source, mark.line + 1, mark.column + 1)
        return self.build(node, (*path, key))

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = self._text(node)
        kind = node.tag.removeprefix(_TAG)
        try:
            match kind:
                case "str":
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return _whole_number(text)
                case "float":
                    return _number(text)
        except (ValueError, KeyError) as error:
            raise self._error(node, f"'{text:.60}' is not a valid {kind}") from error
        raise self._error(node, f"the tag '{node.tag}' is not allowed")

    def _text(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        # A surrogate pair, as JSON writes "\\ud83d\\ude00", is one character.
        if _SURROGATE.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _SURROGATE.search(text):
            raise self._error(node, "half of a surrogate pair is not a character")
        if "\0" in text:
            raise self._error(node, "contains a NUL character")
        return text

    def _check_tag(self, node: yaml.Node, allowed: str) -> None:
        if node.tag != _TAG + allowed:
            raise self._error(node, f"the tag '{node.tag}' is not allowed")

    def _error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{self.source}:{node.start_mark.line + 1}: {problem}")


def _number(text: str) -> float:
    plain = text.lower().replace("_", "")
    number = float(re.sub(r"\.(inf|nan)$", r"\1", plain))
    if math.isinf(number) and not plain.endswith("inf"):
        raise ValueError("beyond the range of a float")
    return number


def _whole_number(text: str) -> int:
    digits = text.replace("_", "")
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"more than {MAX_DIGITS} digits")
    if digits.startswith(("0o", "0x")):
        return int(digits, 0)
    return int(digits)
