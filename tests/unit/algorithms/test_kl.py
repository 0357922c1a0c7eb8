"""The KL coefficient, against the equation written out (pitfall C6)."""

import pytest
from pydantic import ValidationError

from lmrl_bench.algorithms.kl import KLConfig, KLController


def test_fixed_without_a_target():
    controller = KLController(KLConfig(coefficient=0.3))
    controller.update(100.0, episodes=64)
    assert controller.coefficient == 0.3


def test_adaptive_sequence():
    controller = KLController(KLConfig(coefficient=0.2, target=6.0, horizon=640))
    expected = 0.2
    # far above the target, far below, slightly above, on it
    for kl, error in [(60.0, 0.2), (0.0, -0.2), (6.6, 0.1), (6.0, 0.0)]:
        controller.update(kl, episodes=64)
        expected *= 1.0 + 0.1 * error
        assert controller.coefficient == pytest.approx(expected, rel=1e-12)


def test_state_is_taken_up():
    controller = KLController(KLConfig(coefficient=0.2, target=1.0))
    controller.update(3.0, episodes=64)
    other = KLController(controller.config)
    other.load_state_dict(controller.state_dict())
    assert other.coefficient == controller.coefficient != 0.2


def test_a_target_with_a_zero_coefficient_is_refused():
    with pytest.raises(ValidationError, match="must not start at 0"):
        KLConfig(coefficient=0.0, target=1.0)
