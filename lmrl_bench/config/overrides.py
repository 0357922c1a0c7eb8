"""Overrides from the command line, such as `--set budget.tokens=1000`.

They can set any field: nested fields with dots, list items by index.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lmrl_bench.config.located import Key, KeyPath, Located, Place, key_text, merge
from lmrl_bench.config.yaml_core import MAX_DEPTH, parse_yaml
from lmrl_bench.core.errors import ConfigError

__all__ = ["apply_overrides", "merge"]


def apply_overrides(data: Located | Mapping[str, Any], overrides: Sequence[str]) -> Located:
    """Applies each `key.path=value` to `data`, in order.

    Values are YAML (`0.1`, `true`, `[1, 2]`, `{a: 1}`, text); an empty value is null. List items
    are addressed by index (`reward.terms.0.weight=2`). Unknown keys are reported later, by
    `validate`, with the name of the override.

    Raises:
        ConfigError: Missing `=`, an empty key, invalid YAML, an index out of range, a key inside a
            scalar, a repeated key, a key of too many parts, or a key that would undo an earlier override.
    """
    located = data if isinstance(data, Located) else Located.plain(data)
    given: list[list[str]] = []
    for text in overrides:
        key, separator, value = text.partition("=")
        keys = [part.strip() for part in key.split(".")]
        source = f"--set {_short(key.strip())}"
        if not separator or not all(keys):
            raise ConfigError(
                f"--set {_short(text)}: write key=value, for example budget.tokens=1000"
            )
        if len(keys) > MAX_DEPTH:
            raise ConfigError(
                f"{source}: the key has {len(keys):,} parts, more than the {MAX_DEPTH} levels of a configuration"
            )
        for earlier in given:
            if earlier[: len(keys)] == keys:
                raise ConfigError(
                    f"{source}: would undo the earlier --set {_short('.'.join(earlier))}; give each key "
                    "once, and a whole before its parts"
                )
        given.append(keys)
        parsed = parse_yaml(value, source).data
        if re.search(r"(^|\s)#", value) and "#" not in str(parsed):
            raise ConfigError(
                f"{source}: YAML treats text after # as a comment; quote the value: '{_short(value)}'"
            )
        located = _set(located, keys, parsed, source)
    return located


def _set(located: Located, keys: list[str], value: Any, source: str) -> Located:
    path: KeyPath = ()
    new: list[KeyPath] = []
    root: Any = _copied(located.data)
    data: Any = root
    for position, name in enumerate(keys):
        key = _key(data, name, path, source)
        path = (*path, key)
        if position == len(keys) - 1:
            data[key] = value
        else:
            inner = data.get(key) if isinstance(data, dict) else data[key]
            if inner is None:  # this override creates the enclosing mapping
                new.append(path)
            data[key] = _copied({} if inner is None else inner)
            data = data[key]
    places = {old: at for old, at in located.places.items() if old[: len(path)] != path}
    places |= dict.fromkeys([*new, path], Place(source))
    return Located(root, places, located.prefix)


def _copied(data: Any) -> Any:
    """Copies one level, so that the caller's data is not modified."""
    if isinstance(data, Mapping):
        return dict(data)
    return list(data) if isinstance(data, (list, tuple)) else data


def _key(data: Any, name: str, path: KeyPath, source: str) -> Key:
    if isinstance(data, dict):
        return name
    if not isinstance(data, list):
        raise ConfigError(f"{source}: '{key_text(path)}' is {data!r:.60}, not a mapping or a list")
    if not (name.isascii() and name.isdecimal()) or len(name) > 9 or int(name) >= len(data):
        allowed = f"0 to {len(data) - 1}" if data else "none, the list is empty"
        raise ConfigError(
            f"{source}: '{key_text(path)}' is a list; '{_short(name)}' is not an index (allowed: {allowed})"
        )
    return int(name)


def _short(text: str) -> str:
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 80 else f"{text[:77]}..."
