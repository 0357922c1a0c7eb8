"""The contract of every metric: names, bounds, direction, odd texts, and what is refused."""

import math
import subprocess
import sys

import numpy as np
import pytest

from lmrl_bench.core.errors import ConfigError, MetricError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import METRICS, make_metric

PLAIN = [
    "bleu", "chrf", "ter", "rouge-1", "rouge-2", "rouge-l", "meteor-exact-stem",
    "distinct-1", "distinct-2", "msttr", "length", "exact-match", "accuracy", "f1", "json-valid",
]  # fmt: skip
ALL = [*PLAIN, "bertscore-minilm", "perplexity"]
WITH_REFERENCES = [name for name in ALL if "references" in METRICS.get(name).needs]
ODD = [
    "",
    " \n",
    "cat",
    "the cat sat on the mat .",
    "the the the the",
    "Ünï→😀 日本語",
    "?!…",
    "\x00",
]


@pytest.fixture
def make(encoder, causal):
    arguments = {"bertscore-minilm": {"model": encoder}, "perplexity": {"model": causal}}
    return lambda name: make_metric(name, arguments.get(name))


def sample(*references, prompt="a prompt", name="row-7"):
    return Sample(name, prompt, references)


@pytest.mark.parametrize("name", ALL)
def test_name_signature_and_bounds(make, name):
    metric = make(name)
    assert metric.name == name
    before = metric.signature
    assert "/" not in before
    assert "\n" not in before
    result = metric.score(ODD, [sample("the cat sat on the mat .", "日本語 😀")] * len(ODD))
    assert metric.signature == before
    low, high = metric.bounds
    assert low - 1e-9 <= result.value <= high + 1e-9
    assert math.isfinite(result.value)
    if result.per_sample is not None:
        assert result.per_sample.shape == (len(ODD),)
        assert result.per_sample.dtype == np.float64
        assert np.isfinite(result.per_sample).all()


@pytest.mark.parametrize("name", ALL)
def test_refuses_ragged_and_empty_batches(make, name):
    metric = make(name)
    with pytest.raises(MetricError, match=f"'{name}': 2 completions for 1 samples"):
        metric.score(["a", "b"], [sample("a")])
    with pytest.raises(MetricError, match="no completions"):
        metric.score([], [])


@pytest.mark.parametrize("name", WITH_REFERENCES)
@pytest.mark.parametrize("references", [(), ("",), ("fine", " \n")])
def test_refuses_an_empty_reference(make, name, references):
    with pytest.raises(
        MetricError, match=f"'{name}': sample 'row-8' has no reference or an empty one"
    ):
        make(name).score(["a", "b"], [sample("a"), sample(*references, name="row-8")])


@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_the_reference_is_best_and_the_empty_completion_worst(make, name):
    metric = make(name)
    gold = "the cat sat on the mat ."
    completions = [gold, "the dog ran on the mat .", ""]
    rows = metric.score(completions, [sample(gold)] * 3).per_sample
    ordered = rows if metric.higher_is_better else -rows
    assert ordered[0] > ordered[1] >= ordered[2]
    best = metric.bounds[1] if metric.higher_is_better else metric.bounds[0]
    assert rows[0] == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge-1", "rouge-l", "bertscore-minilm"])
def test_one_identical_word_is_perfect(make, name):
    metric = make(name)
    rows = metric.score(["cat"], [sample("cat")]).per_sample
    assert rows[0] == pytest.approx(metric.bounds[1], abs=1e-4)


@pytest.mark.parametrize("name", [name for name in ALL if name != "msttr"])
def test_a_row_is_independent_of_its_batch_mates(make, name):
    metric = make(name)
    completions = ["the cat", "a dog ran fast on the mat", "", "cat . not good"]
    samples = [sample("a cat"), sample("dog", "the dog ran"), sample("is bad"), sample("good")]
    together = metric.score(completions, samples).per_sample
    pairs = zip(completions, samples, strict=True)
    alone = [metric.score([text], [row]).per_sample[0] for text, row in pairs]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_every_name_imports():
    for name in METRICS:
        metric = METRICS.get(name)  # the plug-ins of other tests' tasks may be there, too
        assert metric.__doc__ or not metric.__module__.startswith("lmrl_bench.")


def test_importing_the_registries_loads_no_heavy_library():
    code = (
        "import sys, lmrl_bench.metrics, lmrl_bench.rewards, lmrl_bench.models.fingerprints;"
        "print({'torch', 'transformers', 'nltk', 'evaluate'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ConfigError, match="unknown metric 'rouge-L'; did you mean 'rouge-l'"):
        make_metric("rouge-L")


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (
            "bleu",
            {"tokenzie": "13a"},
            "'bleu': unknown argument 'tokenzie'; did you mean 'tokenize'",
        ),
        ("bleu", {"tokenize": "14a"}, "'tokenize' is '14a': Input should be '13a'"),
        ("chrf", {"word_order": -1}, "word_order at least 0"),
        ("rouge-1", {"references": "worst"}, "should be 'best' or 'mean'"),
        ("distinct", {}, "'distinct': argument 'n' is missing"),
        ("distinct", {"n": 0}, "at least 1"),
        ("distinct-1", {"n": 2}, "unknown argument 'n' .allowed: none."),
        ("msttr", {"segment": 0}, "at least 1"),
        ("meteor-exact-stem", {"alpha": 2.0}, "must be in"),
    ],
)
def test_wrong_arguments(name, args, message):
    with pytest.raises(MetricError, match=message):
        make_metric(name, args)


def test_several_wrong_arguments_are_shown_together():
    with pytest.raises(MetricError, match=r"'x'.*argument 'beta' is 'y'"):
        make_metric("chrf", {"x": 1, "beta": "y"})


def test_options_stand_in_the_signature():
    assert "tok:char" in make_metric("bleu", {"tokenize": "char"}).signature
    assert "nw:2" in make_metric("chrf", {"word_order": 2}).signature
    assert "beta:3" in make_metric("chrf", {"beta": 3}).signature
    assert "stemmer:no" in make_metric("rouge-1", {"stemmer": False}).signature
    assert make_metric("distinct", {"n": 4}).name == "distinct-4"


def test_relative_model_is_taken_from_the_task_folder(tmp_path, causal, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "judge").symlink_to(causal)
    monkeypatch.chdir("/")
    metric = make_metric("perplexity", {"model": "models/judge"}, tmp_path)
    assert metric.score(["a"], [sample("a")]).value > 1


def test_what_a_metric_reads_and_its_direction():
    assert make_metric("length").higher_is_better is None
    assert make_metric("length").needs == frozenset()
    assert make_metric("ter").higher_is_better is False
    assert make_metric("chrf").needs == {"references"}
    assert make_metric("concept-coverage").needs == {"meta"}


def test_prepare_changes_nothing():
    metric = make_metric("rouge-l", {"stemmer": True})
    rows = [sample("running cats"), sample("dogs")]
    before = metric.score(["cats running", "dog"], rows)
    metric.prepare(rows)
    after = metric.score(["cats running", "dog"], rows)
    np.testing.assert_array_equal(before.per_sample, after.per_sample)
