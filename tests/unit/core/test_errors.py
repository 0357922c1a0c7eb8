"""Errors have exit codes, and hints name the nearest match."""

import inspect

import pytest

from lmrl_bench.core import errors
from lmrl_bench.core.errors import LmrlBenchError, nearest


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pp0", "; did you mean 'ppo'?"),
        ("tokns", "; did you mean 'tokens'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_nearest(name, hint):
    assert nearest(name, ["ppo", "trpo", "tokens"]) == hint


def test_nearest_of_nothing():
    assert nearest("ppo", []) == ""


def test_users_errors_exit_with_2_and_failed_checks_with_3():
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    users = [c for c in classes if issubclass(c, LmrlBenchError)]
    assert {c.__name__ for c in users if c.exit_code != 2} == {"VerificationError"}
    assert errors.VerificationError.exit_code == 3
    assert [c.__name__ for c in classes if c not in users] == ["DivergedError"]
    assert all(c.__doc__ for c in classes)
