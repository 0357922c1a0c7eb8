"""The stored defaults are those of the classes, so what a leaderboard expects is what a run resolves to."""

from __future__ import annotations

import json

import pytest

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms.base import TextAlgorithm
from lmrl_bench.algorithms.defaults import (
    FILE,
    class_defaults,
    class_traits,
    traits_of,
    with_defaults,
)
from lmrl_bench.algorithms.nlpo import FilteredPPO
from lmrl_bench.algorithms.no_training import NoTraining
from lmrl_bench.algorithms.top_p import TopP
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.leaderboards.spec import cells, leaderboard_names, read_leaderboard
from lmrl_bench.planning.resolve import resolve, resolve_unchecked
from lmrl_bench.tasks.catalog import load_task

REMEDY = "defaults changed; make the file again with: python -m lmrl_bench.algorithms.defaults"
BUILT_IN = sorted(json.loads(FILE.read_text()))


def test_the_file_is_what_the_classes_say():
    built_in = {name for name in ALGORITHMS if "lmrl_bench." in ALGORITHMS.get(name).__module__}
    assert set(BUILT_IN) == built_in, REMEDY
    for name in BUILT_IN:
        assert with_defaults(name, {}) == class_defaults(name), f"{name}: {REMEDY}"


def test_traits_are_those_of_the_classes():
    for name in BUILT_IN:
        algorithm, traits = ALGORITHMS.get(name), traits_of(name)
        assert traits.model_dump() == class_traits(name), f"{name}: {REMEDY}"
        assert traits.filters_tokens == issubclass(algorithm, FilteredPPO | TopP)
        assert traits.trains == (not issubclass(algorithm, NoTraining))
        assert traits.spends_tokens == issubclass(algorithm, TextAlgorithm)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if traits_of(name).trains])
def test_given_fields_lie_over_the_defaults(name):
    given = {"learning_rate": 1}
    given |= {} if name == "sft" else {"kl": {"coefficient": 0, "horizon": 9}}
    config_class = ALGORITHMS.get(name).config_class
    expected = config_class.model_validate(given).model_dump(mode="json")
    found = with_defaults(name, given)
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


def test_what_leaderboards_expect_is_what_runs_resolve_to():
    for cell in [cell for name in leaderboard_names() for cell in cells(read_leaderboard(name))]:
        if cell.seed == 0:
            task = load_task(cell.task)
            checked, unchecked = (f(task, cell.located) for f in (resolve, resolve_unchecked))
            assert unchecked.digest() == checked.digest()


def test_an_algorithm_of_another_package_is_asked_for_its_class(monkeypatch):
    monkeypatch.setitem(ALGORITHMS._objects, "theirs", ALGORITHMS.get("trpo"))
    assert with_defaults("theirs", {"gamma": 0.5})["max_kl"] == class_defaults("trpo")["max_kl"]
    with pytest.raises(ConfigError, match="unknown algorithm 'trpoo'; did you mean 'trpo'"):
        with_defaults("trpoo", {})
