"""The rest of `test_metrics_oracle.py`: `evaluate` modules, BERTScore and diversity on random
strings, and completions that are equal to a reference or empty.

`evaluate` gets its modules from a hub. The ones here compute what the hub's `sacrebleu`, `chrf`, `ter` and
`rouge` do, through the same libraries, so that both directions of the bridge have something to be equal to.
"""

from itertools import groupby

import bert_score
import evaluate
import numpy as np
import pytest
import sacrebleu
from datasets import Features, Value
from datasets import Sequence as ManyOf
from fixtures.encoders import POSITIONS, WORDS, write_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nltk.util import ngrams
from rouge_score.rouge_scorer import RougeScorer

from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric

pytestmark = pytest.mark.usefixtures("speedups")
COLUMNS = {"predictions": Value("string"), "references": ManyOf(Value("string"))}
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

word = st.one_of(
    st.sampled_from(
        ["the", "Cat", "cats", "run", "ß", "日本", "😀", "e\u0301", "é", ".", ",", "-"]
    ),
    st.text(max_size=4),
)
text = st.lists(word, max_size=10).map(" ".join)
reference = text.filter(lambda value: value.strip())


@st.composite
def pairs(draw, count=2):
    """Completions with `count` references each; some completions are a reference itself, or empty."""
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        references = draw(st.lists(reference, min_size=count, max_size=count))
        rows.append((draw(st.one_of(text, st.sampled_from([*references, ""]))), references))
    return rows


class Corpus(evaluate.Metric):
    """A module of one corpus value, in memory."""

    def __init__(self, name, compute):
        self._function = compute
        super().__init__(config_name=name, keep_in_memory=True)

    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=Features(COLUMNS)
        )

    def _compute(self, predictions, references):
        return {"score": self._function(predictions, references)}


def transposed(references):
    return [list(column) for column in zip(*references, strict=True)]


def rouge(name):
    scorer = RougeScorer([name], use_stemmer=False)
    return lambda completions, references: [
        scorer.score_multi(list(r), h)[name].fmeasure
        for h, r in zip(completions, references, strict=True)
    ]


MODULES = {
    "bleu": lambda h, r: sacrebleu.corpus_bleu(h, transposed(r)).score,
    "chrf": lambda h, r: sacrebleu.corpus_chrf(h, transposed(r)).score,
    "ter": lambda h, r: sacrebleu.corpus_ter(h, transposed(r)).score,
    "rouge-1": rouge("rouge1"),
    "rouge-2": rouge("rouge2"),
    "rouge-l": rouge("rougeL"),
}


@pytest.fixture(scope="module", params=MODULES)
def three_ways(request, speedups):
    """Ours, the module behind our bridge, and ours as a module."""
    ours = make_metric(request.param, {"stemmer": False} if "rouge" in request.param else {})
    module = Corpus(request.param, MODULES[request.param])
    return ours, make_metric("evaluate", {"module": module, "key": "score"}), ours.as_evaluate()


@EXAMPLES
@given(rows=pairs())
def test_evaluate_modules_equal_ours_in_both_directions(three_ways, rows):
    ours, wrapped, as_module = three_ways
    completions, references = map(list, zip(*rows, strict=True))
    samples = [Sample(str(i), "", tuple(r)) for i, r in enumerate(references)]
    expected = np.mean(MODULES[ours.name](completions, references))
    result = as_module.compute(predictions=completions, references=references)
    own = ours.score(completions, samples)
    for value in (own.value, wrapped.score(completions, samples).value, result[ours.name]):
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-12)
    np.testing.assert_array_equal(result["per_sample"], own.per_sample)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def bertscore(encoder, speedups):
    """Ours and the library's, on the same encoder."""
    oracle = bert_score.BERTScorer(
        model_type=encoder, num_layers=2, device="cpu", use_fast_tokenizer=True
    )
    oracle._tokenizer.model_max_length = POSITIONS
    return make_metric("bertscore-minilm", {"model": encoder, "num_layers": 2}), oracle


some_word = st.sampled_from([*WORDS, "xyzzy", "日本", "😀", "Straße", "é"])
phrase = st.lists(some_word, min_size=1, max_size=8).map(" ".join)


@EXAMPLES
@given(
    rows=st.lists(st.tuples(phrase, phrase, phrase, st.booleans()), min_size=1, max_size=3),
    with_empty=st.booleans(),
)
def test_bertscore_random_unicode_identical_and_empty(bertscore, rows, with_empty):
    ours, oracle = bertscore
    completions = [one if same else other for other, one, _, same in rows] + [""] * with_empty
    references = [[one, two] for _, one, two, _ in rows] + [["the cat", "a dog"]] * with_empty
    samples = [Sample(str(i), "", tuple(r)) for i, r in enumerate(references)]
    expected = [
        max(float(oracle.score([h], [t])[2]) for t in r) if h else 0.0
        for h, r in zip(completions, references, strict=True)
    ]
    result = ours.score(completions, samples)
    np.testing.assert_allclose(result.per_sample, expected, atol=1e-5)
    for value, (*_, same) in zip(result.per_sample, rows, strict=False):
        assert not same or value == pytest.approx(1.0, abs=1e-5)


def words_of(completion):
    """Runs of letters, digits and underscores, character by character."""
    runs = groupby(completion.lower(), key=lambda sign: sign.isalnum() or sign == "_")
    return ["".join(run) for is_word, run in runs if is_word]


@EXAMPLES
@given(completions=st.lists(text, min_size=1, max_size=5), n=st.integers(1, 3))
def test_distinct_random(completions, n):
    grams = [list(ngrams(words_of(completion), n)) for completion in completions]
    every = [gram for row in grams for gram in row]
    samples = [Sample(str(i), "", ("x",)) for i in range(len(completions))]
    result = make_metric("distinct", {"n": n}).score(completions, samples)
    assert result.value == pytest.approx(len(set(every)) / max(len(every), 1))
    expected = [len(set(row)) / len(row) if row else 0.0 for row in grams]
    np.testing.assert_allclose(result.per_sample, expected)
