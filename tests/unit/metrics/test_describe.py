"""`metric show` and `reward show`: every argument is described, and every example runs."""

import shutil
from pathlib import Path

import fixtures
import numpy as np
import pytest
import yaml
from fixtures.runs import call
from test_learned import build_model, build_tokenizer

import lmrl_bench
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import METRICS, make_metric
from lmrl_bench.metrics.describe import describe
from lmrl_bench.rewards import REWARDS, RewardBatch, make_reward
from lmrl_bench.tasks.spec import ComponentSpec, RewardSpec

COMPLETIONS = ["3 cats", "positive"]
SAMPLES = [Sample(f"s{row}", "p", ("3",), {"concepts": ["cat"]}) for row in range(2)]
LABELED = [Sample(f"s{row}", "p", ("positive",)) for row in range(2)]
FIXTURES = Path(next(iter(fixtures.__path__)))


@pytest.fixture
def folder(tmp_path, encoder, causal, evaluate_cache):
    """A task folder with what the examples name."""
    build_model("bert").save_pretrained(tmp_path / "models" / "judge")
    build_tokenizer(special=True).save_pretrained(tmp_path / "models" / "judge")
    shutil.copytree(encoder, tmp_path / "minilm")
    shutil.copytree(causal, tmp_path / "nano-causal")
    shutil.copy(FIXTURES / "word_overlap" / "word_overlap.py", tmp_path)
    return tmp_path


MODELS = {
    "bertscore-minilm": {"model": "minilm"},
    "classifier": {"max_tokens": 32},
    "perplexity": {"model": "nano-causal"},
}


@pytest.mark.parametrize("name", METRICS.names())
def test_every_argument_is_described_and_every_example_runs(folder, name):
    found = describe(name, METRICS.get(name), "metrics")
    assert found.summary.endswith(".")
    assert all(argument.description for argument in found.arguments), found.arguments
    given = ComponentSpec.model_validate(yaml.safe_load(found.example)["metrics"]["others"][0])
    metric = make_metric(given.name, given.args | MODELS.get(name, {}), folder)
    samples = LABELED if name == "accuracy" else SAMPLES
    assert np.isfinite(metric.score(COMPLETIONS, samples).value)
    assert found.needs == sorted(METRICS.get(name).needs)


@pytest.mark.parametrize("name", sorted({*METRICS, *REWARDS} - {"msttr"}))
def test_every_example_of_a_reward_runs(folder, name):
    found = describe(name, REWARDS.get(name) if name in REWARDS else METRICS.get(name), "reward")
    spec = yaml.safe_load(found.example)["reward"]
    spec["terms"][0]["args"] = spec["terms"][0].get("args", {}) | MODELS.get(name, {})
    reward = make_reward(RewardSpec.model_validate(spec), folder)
    samples = LABELED if name == "accuracy" else SAMPLES
    rows = RewardBatch(samples, COMPLETIONS, np.array([3, 2]), np.array([True, False]))
    scores = reward(rows).scores
    assert np.isfinite(scores).all()
    assert (np.abs(scores) <= 1).all()


def test_the_commands(capsys):
    listed = call(capsys, "metric", "list", "--json").json
    assert [row["name"] for row in listed] == METRICS.names()
    shown = call(capsys, "metric", "show", "rouge-l", "--json").json
    assert [argument["name"] for argument in shown["arguments"]] == ["stemmer", "references"]
    assert shown["arguments"][1]["type"] == "best or mean"
    assert (shown["bounds"], shown["needs"]) == ([0, 1], ["references"])
    text = call(capsys, "metric", "show", "length").out
    assert "neither is better" in text
    assert "reads of a sample: nothing" in text
    assert call(capsys, "metric", "show", "length", "--json").json["bounds"] == [0, None]
    assert [row["name"] for row in call(capsys, "reward", "list", "--json").json] == REWARDS.names()
    assert "- {name: length-penalty" in call(capsys, "reward", "show", "length-penalty").out
    assert "scale = true" in call(capsys, "reward", "show", "chrf").out
    for kind in ("metric", "reward"):
        wrong = call(capsys, kind, "show", "chrff")
        assert wrong.code == 2
        assert "did you mean 'chrf'?" in wrong.err


def test_a_function_is_described_by_its_docstring():
    def short(completions, samples, limit: int = 5):
        """1 if an answer is short.

        Args:
            limit: Most words that are short.
        """
        return [len(text.split()) <= limit for text in completions]

    found = describe("short", short, "reward")
    assert found.summary == "1 if an answer is short."
    assert [a.description for a in found.arguments if a.name == "limit"] == [
        "Most words that are short."
    ]
    rows = RewardBatch(SAMPLES, COMPLETIONS, np.array([3, 2]), np.array([True, False]))
    assert lmrl_bench.make_reward(short)(rows).scores.tolist() == [1, 1]
    assert lmrl_bench.make_metric(short, {"limit": 1}).score(COMPLETIONS, SAMPLES).value == 0.5
