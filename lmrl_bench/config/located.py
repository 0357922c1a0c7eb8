"""Configuration data that remembers where each key was written.

Errors about a key can therefore name the file and line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmrl_bench.core.errors import ConfigError

Key = str | int
KeyPath = tuple[Key, ...]


@dataclass(frozen=True)
class Place:
    """Place of a key: a file with line and column (from 1), or a `--set` option."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Located:
    """Plain data (mappings, lists, scalars) with the place of each key.

    Attributes:
        data: Mappings with text keys, lists and scalars.
        places: Key path to place; `()` is the whole document.
        prefix: Key path of `data` within its original document.
    """

    data: Any
    places: Mapping[KeyPath, Place] = field(default_factory=dict)
    prefix: KeyPath = ()

    @classmethod
    def plain(cls, data: Any, source: str = "") -> Located:
        """Wraps plain data; all keys have the place `source`."""
        return cls(data, {(): Place(source)} if source else {})

    def place(self, path: KeyPath) -> Place | None:
        """Returns the place of a key path, or of the nearest enclosing path that has one."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return None

    def sub(self, *keys: Key) -> Located:
        """Returns the part under `keys` with its places and its full key path for messages.

        Raises:
            KeyError: A key of a mapping does not exist.
            IndexError: An index of a list does not exist.
        """
        data = self.data
        for key in keys:
            data = data[key]
        depth = len(keys)
        places = {path[depth:]: at for path, at in self.places.items() if path[:depth] == keys}
        enclosing = self.place(keys)
        if enclosing is not None:
            places.setdefault((), enclosing)
        return Located(data, places, (*self.prefix, *keys))

    def without(self, *keys: str) -> Located:
        """Returns the mapping without some keys (for example the `name` of an algorithm)."""
        data = {key: value for key, value in self.data.items() if key not in keys}
        places = {path: at for path, at in self.places.items() if not path or path[0] not in keys}
        return Located(data, places, self.prefix)


def key_text(path: KeyPath) -> str:
    """Formats a key path, as in `budget.tokens` or `terms[0].weight`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
            continue
        shown = key if key.isprintable() else repr(key)[1:-1]
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        text += f".{shown}" if text else shown
    return text


def merge(base: Located | Mapping[str, Any], update: Located | Mapping[str, Any]) -> Located:
    """Overlays `update` on `base`: mappings are merged, other values replaced.

    Each key keeps the place of its final value.

    Raises:
        ConfigError: The base has a list or a single value where the update has settings: it would be lost.
    """
    lower = base if isinstance(base, Located) else Located.plain(base)
    upper = update if isinstance(update, Located) else Located.plain(update)
    replaced = set(_replaced(lower.data, upper.data))
    for path in replaced:
        _require_room(lower, upper, path)
    places = {path: at for path, at in lower.places.items() if not _under(path, replaced)}
    for path, at in upper.places.items():
        if _under(path, replaced):
            places[path] = at
        else:
            places.setdefault(path, at)
    for path in replaced:  # data without places must not inherit a line of the lower file
        if path not in places and (enclosing := upper.place(path)) is not None:
            places[path] = enclosing
    return Located(_merged(lower.data, upper.data), places, lower.prefix)


def _require_room(lower: Located, upper: Located, path: KeyPath) -> None:
    """Refuses to lay settings over a list or a single value, which nobody would validate afterwards."""
    below, above = _value_at(lower.data, path), _value_at(upper.data, path)
    if below is None or isinstance(below, Mapping) or not isinstance(above, Mapping):
        return
    place = lower.place(path)
    where = f"{place}: " if place is not None else ""
    kind = "a list" if isinstance(below, list) else repr(below)
    raise ConfigError(
        f"{where}{key_text((*lower.prefix, *path))} must hold settings (key: value), not {kind}"
    )


def _value_at(data: Any, path: KeyPath) -> Any:
    for key in path:
        if not isinstance(data, Mapping) or key not in data:
            return None
        data = data[key]
    return data


def _merged(base: Any, update: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(update, Mapping)):
        return update
    merged = dict(base)
    for key, value in update.items():
        merged[key] = _merged(base[key], value) if key in base else value
    return merged


def _replaced(base: Any, update: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yields the key paths at which `update` replaces a value of `base`."""
    if isinstance(base, Mapping) and isinstance(update, Mapping):
        for key, value in update.items():
            if key in base:
                yield from _replaced(base[key], value, (*path, key))
            else:
                yield (*path, key)
    else:
        yield path


def _under(path: KeyPath, roots: set[KeyPath]) -> bool:
    return any(path[:end] in roots for end in range(len(path) + 1))
