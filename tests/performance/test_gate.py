"""Selection of the valid rounds."""

import pytest
from fixtures.rounds import a_round
from harness.gate import disturbance, median_probe
from harness.side import Probe, foreign_share

USUAL = Probe(24.0, 3.0)


def test_a_round_that_had_its_core_counts():
    assert disturbance(a_round(wall=2.0, cpu=1.93), USUAL) is None


def test_a_round_that_waited_for_its_core_does_not():
    assert disturbance(a_round(wall=2.0, cpu=1.9), USUAL) == "had 95% of a core"


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("slow", "name"), [(Probe(31.0, 3.0), "matmul"), (Probe(24.0, 4.0), "add")]
)
def test_a_slow_probe_on_either_side_does_not(place, slow, name):
    assert name in (disturbance(a_round(**{place: slow}), USUAL) or "")


def test_the_usual_probe_is_the_median_of_both_sides():
    rounds = [
        a_round(before=Probe(20.0, 2.0), after=Probe(24.0, 3.0)),
        a_round(before=Probe(90.0, 9.0), after=Probe(25.0, 3.5)),
    ]
    assert median_probe(rounds) == (24.5, 3.25)


def test_foreign_share_leaves_out_our_own_seconds(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert foreign_share(2.0, 1.5, 100.0, 105.5) == pytest.approx(4.0 / 8.0)
    assert foreign_share(2.0, 1.5, 100.0, 101.4) == 0.0  # ticks are coarse
    assert foreign_share(2.0, 1.5, None, None) is None
