"""Fixtures of the comparisons with other people's code."""

import pytest


@pytest.fixture(scope="module", params=["1", "0"], ids=["fast", "plain"])
def speedups(request):
    """Runs the tests of a module with the speedups and without them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMRL_BENCH_SPEEDUPS", request.param)
        yield
