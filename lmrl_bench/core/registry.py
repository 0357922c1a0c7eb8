"""Maps names to objects that are imported on demand; plug-ins register through entry points."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from lmrl_bench.core.errors import ConfigError, nearest

T = TypeVar("T")


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


class Registry(Generic[T]):
    """Maps names to lazily imported objects, `"module:attribute"`.

    Args:
        kind: Kind of object, for messages ("algorithm").
        builtin: Name to `"module:attribute"`.
        group: Entry-point group of plug-ins (`lmrl_bench.algorithms`); a plug-in cannot replace a
            built-in name.
    """

    def __init__(self, kind: str, builtin: dict[str, str], group: str | None = None) -> None:
        self.kind = kind
        self._targets = dict(builtin)
        self._objects: dict[str, T] = {}
        self._group = group
        self._plugins: dict[str, EntryPoint] | None = None

    def names(self) -> list[str]:
        """Returns all names, sorted; plug-ins are listed without being imported."""
        return sorted({*self._targets, *self._objects, *self._entry_points()})

    def __contains__(self, name: str) -> bool:
        return name in self._targets or name in self._objects or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def add(self, name: str, value: T) -> None:
        """Registers an object under an unused name (for notebooks and tests).

        Raises:
            ConfigError: The name is in use.
        """
        if name in self:
            raise ConfigError(f"the {self.kind} name '{name}' is already used; choose another one")
        self._objects[name] = value

    def get(self, name: str) -> T:
        """Imports and returns the object called `name`.

        Raises:
            ConfigError: Unknown name (the message lists all names and the nearest one), or a
                plug-in that cannot be imported.
        """
        if name in self._objects:
            return self._objects[name]
        if name in self._targets:
            module, _, attribute = self._targets[name].partition(":")
            self._objects[name] = cast(T, getattr(importlib.import_module(module), attribute))
        elif name in self._entry_points():
            self._objects[name] = self._load_plugin(self._entry_points()[name])
        else:
            known = ", ".join(self.names())
            raise ConfigError(
                f"unknown {self.kind} '{name}'{nearest(name, self.names())} (known: {known}; "
                f"{_article(self.kind)} {self.kind} of a plug-in is known once its package is installed)"
            )
        return self._objects[name]

    def builtin(self) -> list[str]:
        """Returns the built-in names, sorted."""
        return sorted(self._targets)

    def class_name(self, name: str) -> str:
        """Returns what a built-in name's object is called in its module, without importing it."""
        return self._targets[name].partition(":")[2]

    def module(self, name: str) -> str | None:
        """Returns the module of a built-in name without importing it; None for other names."""
        target = self._targets.get(name)
        return target.partition(":")[0] if target else None

    def _load_plugin(self, entry: EntryPoint) -> T:
        try:
            return cast(T, entry.load())
        except Exception as error:
            distribution = entry.dist.name if entry.dist else "an unknown distribution"
            raise ConfigError(
                f"the {self.kind} '{entry.name}' of {distribution} ({entry.value}) cannot be imported: {error!r}"
            ) from error

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._plugins is None:
            found = entry_points(group=self._group) if self._group else ()
            self._plugins = {
                entry.name: entry for entry in found if entry.name not in self._targets
            }
        return self._plugins
