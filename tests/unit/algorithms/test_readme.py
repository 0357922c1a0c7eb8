"""The example of the README is an algorithm that works."""

import re
from pathlib import Path

import pytest
from fixtures import training

import lmrl_bench.algorithms
from lmrl_bench.algorithms import ALGORITHMS


def test_the_example_learns(monkeypatch):
    readme = Path(lmrl_bench.algorithms.__file__).with_name("README.md").read_text("utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {"__name__": "example"}
    exec(compile(source, "README.md", "exec"), names)
    monkeypatch.setattr(
        ALGORITHMS, "_objects", {**ALGORITHMS._objects, "example": names["MedianReinforce"]}
    )
    monkeypatch.setitem(training.SMALL, "example", {"episodes_per_iteration": 32})
    rows = []
    algorithm = training.make_algorithm(
        "example", learning_rate=1e-2, kl={"coefficient": 0.0}, total_tokens=32 * 8 * 5
    )
    algorithm.learn(after_iteration=rows.append)
    assert rows[-1].rollout.score > rows[0].rollout.score + 0.2
    assert rows[0].update.max_logprob_difference < 1e-5


def test_every_algorithm_is_in_the_table():
    readme = Path(lmrl_bench.algorithms.__file__).with_name("README.md").read_text("utf-8")
    for name in ALGORITHMS:
        assert f"| `{name}` |" in readme, name
    with pytest.raises(Exception, match="did you mean 'ppo'"):
        ALGORITHMS.get("ppoo")
