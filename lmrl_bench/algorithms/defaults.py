"""Configurations with their defaults, and traits, of the built-in algorithms as plain data.

The classes live next to the algorithms, which need torch; a leaderboard must say what its cells resolve to
without it. `defaults.json` is made by `python -m lmrl_bench.algorithms.defaults`, and a test compares it with the
classes. An algorithm that is not in it is asked for its class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.records.record import AlgorithmTraits

FILE = Path(__file__).resolve().with_name("defaults.json")


def with_defaults(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an algorithm's settings, every default written out; loads no torch for a built-in.

    Args:
        name: A registered algorithm.
        given: Its fields as configured, valid or not: they are not checked here.

    Raises:
        ConfigError: There is no such algorithm.
    """
    known = _stored().get(name)
    defaults = class_defaults(name) if known is None else known["config"]
    return _merged(defaults, given)


def traits_of(name: str) -> AlgorithmTraits:
    """Returns an algorithm's traits; loads no torch for a built-in.

    Raises:
        ConfigError: There is no such algorithm.
    """
    known = _stored().get(name)
    return AlgorithmTraits(**(class_traits(name) if known is None else known["traits"]))


def class_traits(name: str) -> dict[str, Any]:
    """Returns the traits that the algorithm's class has; `control` only where it is one."""
    algorithm = ALGORITHMS.get(name)
    found = {
        trait: getattr(algorithm, trait)
        for trait in AlgorithmTraits.model_fields
        if hasattr(algorithm, trait)
    }
    return AlgorithmTraits.model_validate(found).model_dump()


def class_defaults(name: str) -> dict[str, Any]:
    """Returns the defaults that the algorithm's settings class has."""
    defaults: dict[str, Any] = ALGORITHMS.get(name).config_class().model_dump(mode="json")
    return defaults


def builtin_settings() -> list[str]:
    """Returns the dotted names of all settings that some built-in algorithm has."""
    return sorted({name for stored in _stored().values() for name in _names(stored["config"], "")})


def _names(settings: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@cache
def _stored() -> dict[str, dict[str, Any]]:
    stored: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return stored


def _merged(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _laid_over(default.get(name), given[name]) if name in given else default[name]
        for name in dict.fromkeys([*default, *given])
    }


def _laid_over(default: Any, given: Any) -> Any:
    if isinstance(default, Mapping) and isinstance(given, Mapping):
        return _merged(default, given)
    whole = isinstance(given, int) and not isinstance(given, bool)
    return float(given) if isinstance(default, float) and whole else given


def _write() -> None:
    # Plug-ins are left out: they may be installed here and not elsewhere.
    builtin = {
        name: {"config": class_defaults(name), "traits": class_traits(name)}
        for name in ALGORITHMS
        if ALGORITHMS.get(name).__module__.startswith(f"{__package__}.")
    }
    FILE.write_text(json.dumps(builtin, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
