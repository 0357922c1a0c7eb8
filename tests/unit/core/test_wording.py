"""Small parts of messages."""

from __future__ import annotations

import pytest

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.core.wording import counted, reason_of, short_repr
from lmrl_bench.models import names


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_000, "12,000 rows")]
)
def test_things_are_counted_in_english(number, text):
    assert counted(number, "row") == text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("  \n one"), "one"),
        (ValueError(), "ValueError"),
        (OSError(" \n "), "OSError"),
    ],
)
def test_an_error_without_a_message_is_named_by_its_class(error, reason):
    assert reason_of(error) == reason


def test_a_library_that_raises_without_a_message_is_reported(monkeypatch):
    def cached_file(*_args, **_options):
        raise OSError

    monkeypatch.setattr("transformers.utils.hub.cached_file", cached_file)
    with pytest.raises(PolicyError, match="the hub reports: OSError"):
        names.resolve_model("nobody/nothing")


def test_a_long_value_is_cut():
    assert short_repr("x" * 100) == "'" + "x" * 56 + "..."
    assert short_repr([1, 2]) == "[1, 2]"
