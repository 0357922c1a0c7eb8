"""Every metric against another party's implementation, on fixed and on random strings."""

import math
import random

import bert_score
import numpy as np
import pytest
import sacrebleu
import torch
from fixtures.encoders import POSITIONS, WORDS, write_causal, write_encoder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from nltk.tokenize import wordpunct_tokenize
from nltk.translate.meteor_score import meteor_score
from nltk.util import ngrams
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.chrf import CHRF
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric

pytestmark = pytest.mark.usefixtures("speedups")
COMPLETIONS = [
    "The cat sat on the mat.",
    "",
    "cats running quickly, running!",
    "Ein Hund läuft über die Straße – 日本語のテスト 😀",
    "it",
    "the the the the the the the",
    "A completely different sentence, with nothing in common & some <tags>",
]
REFERENCES = [
    ("The cat sat on the mat.",),
    ("something",),
    ("a cat runs quick", "cats were running quickly"),
    ("Ein Hund lief über eine Straße – 日本のテスト 😀", "Hunde laufen"),
    ("it", "that", "this one"),
    ("the cat the dog",),
    ("Orthogonal text.",),
]
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)

# Few words and letters, so that random texts overlap; also any Unicode.
word = st.one_of(
    st.sampled_from(["the", "Cat", "cats", "running", "runs", "a", "ß", "日本", ".", ",", "-"]),
    st.text(max_size=4),
)
text = st.lists(word, max_size=12).map(" ".join)
reference = text.filter(lambda value: value.strip())
pairs = st.lists(
    st.tuples(text, st.lists(reference, min_size=1, max_size=3)), min_size=1, max_size=4
)


def samples(references):
    return [Sample(str(i), "prompt", tuple(row)) for i, row in enumerate(references)]


def columns(references):
    most = max(map(len, references))
    return [[row[i] if i < len(row) else None for row in references] for i in range(most)]


def check(metric, completions, references, corpus, sentence):
    result = metric.score(completions, samples(references))
    assert result.value == pytest.approx(corpus, rel=1e-12, abs=1e-12)
    expected = [sentence(*pair) for pair in zip(completions, references, strict=True)]
    np.testing.assert_allclose(result.per_sample, expected, rtol=1e-12, atol=1e-12)


def check_bleu(completions, references, **options):
    check(
        make_metric("bleu", options),
        completions,
        references,
        sacrebleu.corpus_bleu(completions, columns(references), **options).score,
        lambda h, r: sacrebleu.sentence_bleu(h, list(r), use_effective_order=True, **options).score,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tokenize": "char"},
        {"lowercase": True},
        {"smooth_method": "add-k"},
        {"smooth_method": "floor"},
    ],
)
def test_bleu_fixed(options):
    check_bleu(COMPLETIONS, REFERENCES, **options)


@EXAMPLES
@given(pairs)
@example([("the the the the Cat", ["the Cat runs ."]), ("a Cat", ["a Cat"])])  # n-grams are clipped
def test_bleu_random(rows):
    check_bleu(*map(list, zip(*rows, strict=True)))


# What tokenizers look at, and white space of every kind: tokens are found word by word here.
marks = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "a",
                "Ab",
                "1",
                "23",
                ".",
                ",",
                "-",
                "'",
                "&",
                "&quot;",
                "&amp;",
                "<skipped>",
                "(",
                "Σ",
                "ß",
            ]
        ),
        st.sampled_from(["\n", "-\n", " ", "\t", "\xa0", "\u2003", "\x1c", "\x85", "\u200b"]),
    ),
    max_size=30,
).map("".join)
marked = st.lists(
    st.tuples(marks, st.lists(marks.filter(lambda value: value.strip()), min_size=1, max_size=1)),
    min_size=1,
    max_size=4,
)


@settings(EXAMPLES, max_examples=200)
@given(rows=marked, lowercase=st.booleans())
def test_tokens_found_word_by_word(rows, lowercase):
    completions, references = map(list, zip(*rows, strict=True))
    check_bleu(completions, references, lowercase=lowercase)
    chrf = CHRF(lowercase=lowercase)
    check(
        make_metric("chrf", {"lowercase": lowercase}),
        completions,
        references,
        chrf.corpus_score(completions, columns(references)).score,
        lambda h, r: chrf.sentence_score(h, list(r)).score,
    )
    for name in ROUGE:
        check_rouge(name, completions, references, stemmer=True)


def check_chrf(completions, references, **options):
    check(
        make_metric("chrf", options),
        completions,
        references,
        sacrebleu.corpus_chrf(completions, columns(references), **options).score,
        lambda h, r: sacrebleu.sentence_chrf(h, list(r), **options).score,
    )


@pytest.mark.parametrize("options", [{}, {"word_order": 2}, {"beta": 1, "char_order": 3}])
def test_chrf_fixed(options):
    check_chrf(COMPLETIONS, REFERENCES, **options)


@EXAMPLES
@given(pairs)
def test_chrf_random(rows):
    check_chrf(*map(list, zip(*rows, strict=True)), word_order=2)


def check_ter(completions, references, **options):
    check(
        make_metric("ter", options),
        completions,
        references,
        sacrebleu.corpus_ter(completions, columns(references), **options).score,
        lambda h, r: sacrebleu.sentence_ter(h, list(r), **options).score,
    )


@pytest.mark.parametrize("options", [{}, {"case_sensitive": True}, {"normalized": True}])
def test_ter_fixed(options):
    check_ter(COMPLETIONS, REFERENCES, **options)


@EXAMPLES
@given(pairs)
def test_ter_random(rows):
    check_ter(*map(list, zip(*rows, strict=True)))


ROUGE = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL"}


def check_rouge(name, completions, references, stemmer):
    scorer = RougeScorer([ROUGE[name]], use_stemmer=stemmer)
    rows = list(zip(completions, references, strict=True))
    best = [scorer.score_multi(r, h)[ROUGE[name]].fmeasure for h, r in rows]
    mean = [np.mean([scorer.score(t, h)[ROUGE[name]].fmeasure for t in r]) for h, r in rows]
    for rule, expected in (("best", best), ("mean", mean)):
        metric = make_metric(name, {"stemmer": stemmer, "references": rule})
        result = metric.score(completions, samples(references))
        np.testing.assert_allclose(result.per_sample, expected, rtol=1e-12)
        assert result.value == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("name", ROUGE)
@pytest.mark.parametrize("stemmer", [True, False])
def test_rouge_fixed(name, stemmer):
    check_rouge(name, COMPLETIONS, REFERENCES, stemmer)


@pytest.mark.parametrize("name", ROUGE)
@settings(EXAMPLES, max_examples=30)
@given(rows=pairs, stemmer=st.booleans())
def test_rouge_random(name, rows, stemmer):
    check_rouge(name, *map(list, zip(*rows, strict=True)), stemmer)


class NoWordNet:
    def synsets(self, word):
        return []


def check_meteor(completions, references, **options):
    result = make_metric("meteor-exact-stem", options).score(completions, samples(references))
    expected = [
        meteor_score(
            [wordpunct_tokenize(t) for t in r],
            wordpunct_tokenize(h),
            wordnet=NoWordNet(),
            stemmer=PorterStemmer(),
            **options,
        )
        for h, r in zip(completions, references, strict=True)
    ]
    np.testing.assert_allclose(result.per_sample, expected, rtol=1e-12)
    assert result.value == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "beta": 1.0, "gamma": 0.2}])
def test_meteor_fixed(options):
    check_meteor(COMPLETIONS, REFERENCES, **options)


@EXAMPLES
@given(pairs)
def test_meteor_random(rows):
    check_meteor(*map(list, zip(*rows, strict=True)))


def test_meteor_closed_form():
    # Six matches in one chunk; then five of six words in two chunks, precision = recall = 5/6.
    cases = {
        "the cat sat on the mat": 1 - 0.5 / 6**3,
        "the cat was on the mat": 5 / 6 * (1 - 0.5 * (2 / 5) ** 3),
        "dogs": 0.0,
    }
    metric = make_metric("meteor-exact-stem")
    result = metric.score(list(cases), samples([["the cat sat on the mat"]] * len(cases)))
    np.testing.assert_allclose(result.per_sample, list(cases.values()), rtol=1e-12)
    stems = metric.score(["cats"], samples([["cat"]])).value
    assert stems == pytest.approx(0.5)  # a stem match: one word, one chunk


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct(n):
    completions = ["a b a b a", "a b c", "", "c"]
    grams = [list(ngrams(completion.split(), n)) for completion in completions]
    every = [gram for row in grams for gram in row]
    result = make_metric("distinct", {"n": n}).score(completions, samples([["x"]] * 4))
    assert result.value == pytest.approx(len(set(every)) / len(every))
    expected = [len(set(row)) / len(row) if row else 0.0 for row in grams]
    np.testing.assert_allclose(result.per_sample, expected)


def test_msttr_closed_form():
    # Segments of three: "a a b" 2/3, "c d e" 1, "f f f" 1/3; the rest "x" is left out.
    metric = make_metric("msttr", {"segment": 3})
    result = metric.score(["A a, b c", "d e f", "f f x"], samples([["x"]] * 3))
    assert result.value == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)
    assert result.details == {"segments": 3.0, "words": 10.0}
    assert metric.score(["a a b", ""], samples([["x"]] * 2)).value == pytest.approx(2 / 3)
    assert metric.score(["a a"], samples([["x"]])).value == pytest.approx(1 / 2)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def random_texts(count, longest, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("layer", [None, 1, 2])
def test_bertscore(encoder, layer):
    oracle = bert_score.BERTScorer(
        model_type=encoder, num_layers=layer or 3, device="cpu", use_fast_tokenizer=True
    )
    oracle._tokenizer.model_max_length = POSITIONS
    completions = [*random_texts(12, 20, 1), "", "the cat", "xyzzy"]
    references = [
        [a, b] for a, b in zip(random_texts(15, 10, 2), random_texts(15, 20, 3), strict=True)
    ]
    references[13] = ["the cat"]
    metric = make_metric(
        "bertscore-minilm", {"model": encoder, "num_layers": layer, "batch_size": 4}
    )
    result = metric.score(completions, samples(references))
    # One pair at a time: in a batch the library counts padding as a match of cosine 0.
    expected = [
        max(float(oracle.score([h], [t])[2]) for t in r) if h else 0.0
        for h, r in zip(completions, references, strict=True)
    ]
    np.testing.assert_allclose(result.per_sample, expected, atol=1e-5)
    assert result.per_sample[12] == 0.0
    assert result.per_sample[13] == pytest.approx(1.0, abs=1e-5)
    assert result.value == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return write_causal(tmp_path_factory.mktemp("causal"))


def test_perplexity(causal):
    network = AutoModelForCausalLM.from_pretrained(causal)
    tokenizer = AutoTokenizer.from_pretrained(causal)
    rows = [("the cab", " on a tin"), ("a", "in"), ("", "then the ink is on"), ("the", "")]
    prompts, completions = zip(*rows, strict=True)
    nats, counts = [], []
    for prompt, completion in rows:
        context = tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id]
        scored = tokenizer(completion)["input_ids"] or [tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(context) + scored])
        with torch.no_grad():
            loss = network(input_ids=torch.tensor([context + scored]), labels=labels).loss
        nats.append(float(loss))
        counts.append(len(scored))
    result = make_metric("perplexity", {"model": causal, "batch_size": 3}).score(
        completions, [Sample(str(i), prompt, ()) for i, prompt in enumerate(prompts)]
    )
    np.testing.assert_allclose(result.per_sample, nats, rtol=1e-5)
    assert result.value == pytest.approx(math.exp(np.dot(nats, counts) / sum(counts)), rel=1e-5)
    assert result.details["tokens"] == sum(counts)
    assert result.details["empty_completions"] == 1
