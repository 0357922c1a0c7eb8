"""Both directions of the bridge to `evaluate`, with a local script and with objects, no network."""

from pathlib import Path
from typing import ClassVar

import datasets
import evaluate
import numpy as np
import pytest

from lmrl_bench.core.errors import MetricError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric

pytestmark = pytest.mark.usefixtures("evaluate_cache")
FIXTURES = Path(__file__).parents[2] / "fixtures"
ROWS = [Sample("r0", "p0", ("the cat sat",)), Sample("r1", "p1", ("a dog ran",))]
COMPLETIONS = ["the dog sat", "a cat"]


class Longest(evaluate.Metric):
    """In memory; takes several references; one number for the corpus."""

    columns = datasets.Features(
        {"predictions": datasets.Value("string"), "references": [datasets.Value("string")]}
    )

    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=self.columns
        )

    def _compute(self, predictions, references):
        return {"length": max(max(map(len, texts)) for texts in references), "words": "many"}


def test_local_script():
    metric = make_metric("evaluate", {"script": "word_overlap", "key": "rows"}, FIXTURES)
    result = metric.score(COMPLETIONS, ROWS)
    np.testing.assert_allclose(result.per_sample, [2 / 3, 1 / 2])
    assert result.value == pytest.approx(7 / 12)
    assert metric.name == "evaluate-word_overlap-rows"
    assert "script:" in metric.signature
    assert str(FIXTURES) not in metric.signature


def test_corpus_value_and_per_sample_on_demand():
    args = {"script": "word_overlap/word_overlap.py", "key": "overlap", "options": {"scale": 2.0}}
    assert make_metric("evaluate", args, FIXTURES).score(COMPLETIONS, ROWS).per_sample is None
    result = make_metric("evaluate", args | {"per_sample": True}, FIXTURES).score(COMPLETIONS, ROWS)
    np.testing.assert_allclose(result.per_sample, [4 / 3, 1.0])
    assert result.value == pytest.approx(7 / 6)


def test_object_with_several_references():
    metric = make_metric(
        "evaluate", {"module": Longest(), "key": "length", "bounds": [0, 99], "name": "longest"}
    )
    samples = [Sample("r0", "", ("one", "three")), Sample("r1", "", ("x",))]
    assert metric.score(["a", "b"], samples).value == 5
    assert (metric.name, metric.bounds) == ("longest", (0.0, 99.0))


def test_messages(tmp_path):
    with pytest.raises(MetricError, match="either `script` or `module`"):
        make_metric("evaluate", {"key": "x"})
    with pytest.raises(MetricError, match=r"no script at 'nowhere\.py'"):
        make_metric("evaluate", {"key": "x", "script": "nowhere.py"})
    (tmp_path / "broken.py").write_text("raise RuntimeError('on purpose')\n")
    with pytest.raises(MetricError, match="cannot load the script"):
        make_metric("evaluate", {"key": "x", "script": "broken.py"}, tmp_path)
    script = {"script": "word_overlap"}
    with pytest.raises(MetricError, match="no key 'overlp'; did you mean 'overlap'"):
        make_metric("evaluate", {"key": "overlp", **script}, FIXTURES).score(COMPLETIONS, ROWS)
    with pytest.raises(MetricError, match="neither a number"):
        make_metric("evaluate", {"key": "note", **script}, FIXTURES).score(COMPLETIONS, ROWS)
    several = [Sample("r9", "", ("a", "b"))]
    with pytest.raises(MetricError, match="sample 'r9' has 2 references"):
        make_metric("evaluate", {"key": "rows", **script}, FIXTURES).score(["a"], several)


def test_refuses_modules_that_do_not_compare_texts():
    class Numbers(Longest):
        columns = datasets.Features(
            {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
        )

    with pytest.raises(MetricError, match="both texts"):
        make_metric("evaluate", {"key": "x", "module": Numbers()})


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter", "rouge-l", "meteor-exact-stem"])
def test_ours_as_evaluate_metric(name):
    metric = make_metric(name)
    ours = metric.as_evaluate()
    assert isinstance(ours, evaluate.Metric)
    expected = metric.score(COMPLETIONS, ROWS)
    for references in ([s.references[0] for s in ROWS], [list(s.references) for s in ROWS]):
        result = ours.compute(predictions=COMPLETIONS, references=references)
        assert result[name] == pytest.approx(expected.value)
        np.testing.assert_allclose(result["per_sample"], expected.per_sample)
    ours.add_batch(predictions=COMPLETIONS[:1], references=["the cat sat"])
    ours.add_batch(predictions=COMPLETIONS[1:], references=["a dog ran"])
    assert ours.compute()[name] == pytest.approx(expected.value)


def test_columns_are_those_that_the_metric_needs(causal):
    assert make_metric("length").as_evaluate().compute(predictions=["a b", "c"])["length"] == 1.5
    metric = make_metric("perplexity", {"model": causal})
    result = metric.as_evaluate().compute(predictions=COMPLETIONS, prompts=["p0", "p1"])
    assert result["perplexity"] == pytest.approx(metric.score(COMPLETIONS, ROWS).value)


def test_there_and_back_again():
    metric = make_metric("chrf")
    wrapped = make_metric("evaluate", {"module": metric.as_evaluate(), "key": "per_sample"})
    np.testing.assert_allclose(
        wrapped.score(COMPLETIONS, ROWS).per_sample, metric.score(COMPLETIONS, ROWS).per_sample
    )


class Returns(Longest):
    """Gives what it is told."""

    result: ClassVar = {}

    def _compute(self, predictions, references):
        if callable(self.result):
            return self.result(predictions)
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"x": None}, "neither a number nor a list of 2"),
        ({"x": "0.5"}, "neither a number nor a list of 2"),
        ({"x": ["0.5", "1"]}, "returned '0.5' for sample 'row-0'"),
        ({"x": [0.5, None]}, "returned None for sample 'row-1'"),
        ({"x": [0.9, 0.1]}, "neither a number nor a list of 1 numbers"),
        (
            lambda texts: {}["label"],
            r"test_external_metrics\.py:\d+: KeyError: 'label' in the module",
        ),
    ],
)
def test_what_a_module_returns_is_not_believed(result, message, monkeypatch):
    """Two precisions of a corpus are not the values of two completions."""
    monkeypatch.setattr(Returns, "result", staticmethod(result) if callable(result) else result)
    metric = make_metric("evaluate", {"key": "x", "module": Returns()})
    samples = [Sample(f"row-{row}", "", ("a",)) for row in range(2)]
    with pytest.raises(MetricError, match=message):
        metric.score(["a", "b"], samples)


def test_a_metric_of_meta_is_not_an_evaluate_metric():
    with pytest.raises(MetricError, match="reads the meta field of samples"):
        make_metric("concept-coverage").as_evaluate()
