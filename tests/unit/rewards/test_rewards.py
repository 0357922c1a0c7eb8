"""Metrics as rewards, penalties, and their weighted sum."""

import math

import numpy as np
import pytest

from lmrl_bench.core.errors import MetricError, RewardError, RewardNotFiniteError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import make_metric
from lmrl_bench.metrics.base import Metric, MetricResult
from lmrl_bench.rewards import (
    CompositeReward,
    MetricReward,
    RewardBatch,
    RewardFunction,
    RewardOutput,
    Term,
    make_reward,
)
from lmrl_bench.rewards.penalties import LengthPenalty, RepetitionPenalty
from lmrl_bench.tasks.spec import RewardSpec


def batch(completions=("the cat sat", "a dog", ""), lengths=(4, 3, 1), terminated=(1, 0, 1)):
    samples = [Sample(f"s{i}", "p", ("the cat sat", "a cat")) for i in range(len(completions))]
    return RewardBatch(
        samples, list(completions), np.array(lengths, np.int64), np.array(terminated, np.bool_)
    )


def spec(*terms, **rest):
    return RewardSpec.model_validate({"terms": list(terms), **rest})


class Fixed(Metric):
    """Gives what it is told."""

    name = "fixed"
    signature = "fixed"

    def __init__(self, values, bounds=(0.0, 10.0), higher_is_better=True):
        self.values, self.bounds, self.higher_is_better = values, bounds, higher_is_better

    def score(self, completions, samples):
        rows = None if self.values is None else np.array(self.values[: len(completions)], float)
        return MetricResult(0.0, rows)


class Given(RewardFunction):
    """Gives what it is told, as a reward."""

    signature = "given"

    def __init__(self, scores, name="given", tokens=None):
        self.scores, self.name, self.tokens, self.prepared = scores, name, tokens, []

    def __call__(self, rows):
        return RewardOutput(np.array(self.scores, float), token_rewards=self.tokens)

    def prepare(self, samples):
        self.prepared += samples


@pytest.mark.parametrize(
    ("terms", "needs"),
    [
        (["repetition-penalty"], set()),
        (["chrf"], {"references"}),
        (["repetition-penalty", "concept-coverage"], {"meta"}),
        (["chrf", "concept-coverage"], {"references", "meta"}),
    ],
)
def test_what_a_reward_reads_of_a_sample(terms, needs):
    assert make_reward(spec(*({"name": name} for name in terms))).needs == needs


def test_a_metric_without_a_direction_is_not_turned_round():
    reward = make_reward(spec({"name": "length", "args": {"scale": [0, 4]}}))
    np.testing.assert_allclose(reward(batch()).scores, [0.75, 0.5, 0.0])
    assert reward.signature.endswith("sign:+]")


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_percentages_become_fractions(name):
    rows = batch()
    metric = make_metric(name)
    expected = metric.score(rows.completions, rows.samples).per_sample / 100
    np.testing.assert_allclose(MetricReward(metric)(rows).scores, np.clip(expected, 0, 1))


def test_ter_is_turned_round_and_ends_at_zero():
    rows = batch(["the cat sat", "the dog", "one two three four five six seven"])
    ter = make_metric("ter").score(rows.completions, rows.samples).per_sample
    assert ter[2] > 100
    scores = MetricReward(make_metric("ter"))(rows).scores
    np.testing.assert_allclose(scores, np.maximum(0, 1 - ter / 100))
    assert scores[0] == 1
    assert scores[2] == 0


@pytest.mark.parametrize(
    ("scale", "higher", "expected"),
    [
        (True, True, [0.0, 0.25, 1.0]),
        (True, False, [1.0, 0.75, 0.0]),
        (False, True, [-1.0, 2.5, 12.0]),
        (False, False, [1.0, -2.5, -12.0]),
        ((2.0, 3.0), True, [0.0, 0.5, 1.0]),
    ],
)
def test_scale_and_direction(scale, higher, expected):
    reward = MetricReward(Fixed([-1.0, 2.5, 12.0], higher_is_better=higher), scale)
    np.testing.assert_allclose(reward(batch()).scores, expected)
    assert reward.name == "fixed"


def test_ranges_that_do_not_fit():
    with pytest.raises(RewardError, match=r"no finite bounds .*scale: \[low, high\]"):
        MetricReward(make_metric("length"))
    with pytest.raises(RewardError, match="first number must be smaller"):
        MetricReward(make_metric("length"), (3.0, 3.0))
    with pytest.raises(RewardError, match="no finite bounds"):
        MetricReward(make_metric("length"), (0.0, math.inf))


def test_corpus_metric_is_not_a_reward():
    with pytest.raises(RewardError, match="'msttr' exists only for a corpus"):
        MetricReward(make_metric("msttr"))(batch())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_names_its_sample(value):
    with pytest.raises(RewardError, match=r"'fixed' is .* for sample 's1'"):
        MetricReward(Fixed([1.0, value, 1.0]))(batch())
    with pytest.raises(RewardError, match=r"'given' .*: returned .* for sample 's2'"):
        CompositeReward([Term(Given([1.0, 1.0, value]), clip=(0.0, 1.0))])(batch())


@pytest.mark.parametrize(
    ("mode", "expected"), [("beyond", [-0.2, -0.1, 0.0]), ("distance", [-0.2, -0.1, -0.1])]
)
def test_length_penalty(mode, expected):
    scores = LengthPenalty(2, 0.1, mode)(batch()).scores
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_penalties_are_not_negative(value):
    with pytest.raises(RewardError, match="finite and not negative"):
        LengthPenalty(1, value)


@pytest.mark.parametrize(
    ("completion", "arguments", "expected"),
    [
        ("", {}, 0.0),
        ("good", {}, 0.0),
        ("good film", {}, 0.0),
        ("a good film and a fine cast", {}, 0.0),
        ("a b a b a b", {}, -(0.6 - 0.2) / 0.8),  # 5 pairs, 2 of them new
        ("Good, good! GOOD.", {"value": 2.0}, -2.0 * (0.5 - 0.2) / 0.8),
        ("a b a", {"n": 1, "allowed": 0.0}, -1 / 3),
        ("so " * 101, {"allowed": 0.0}, -0.99),
    ],
)
def test_repetition_penalty(completion, arguments, expected):
    scores = RepetitionPenalty(**arguments)(batch((completion,), (9,), (1,))).scores
    np.testing.assert_allclose(scores, [expected])


@pytest.mark.parametrize(
    "arguments", [{"value": -1.0}, {"allowed": 1.0}, {"allowed": math.nan}, {"n": 0}]
)
def test_repetition_penalty_refuses(arguments):
    (name,) = arguments
    with pytest.raises(RewardError, match=f"'repetition-penalty': {name} is"):
        RepetitionPenalty(**arguments)


def test_composite_sums_weighted_terms_and_clips():
    first = Term(Given([1.0, 5.0, -5.0], "a"), 2.0, (-1.0, 2.0))
    second = Term(Given([1.0, 1.0, 1.0], "b"), -0.5)
    output = CompositeReward([first, second], (-2.0, 3.0))(batch())
    np.testing.assert_allclose(output.components["a"], [2.0, 4.0, -2.0])
    np.testing.assert_allclose(output.components["b"], [-0.5, -0.5, -0.5])
    np.testing.assert_allclose(output.scores, [1.5, 3.0, -2.0])
    assert output.token_rewards is None


def test_terms_of_one_name_are_numbered():
    reward = CompositeReward(
        [Term(Given([1.0] * 3)), Term(Given([2.0] * 3)), Term(Given([0.0] * 3))]
    )
    assert list(reward(batch()).components) == ["given", "given-2", "given-3"]


def test_token_rewards_are_weighted_and_summed():
    tokens = np.arange(6.0).reshape(3, 2)
    dense = Given([0.0] * 3, tokens=tokens)
    output = CompositeReward([Term(dense, 2.0), Term(Given([1.0] * 3)), Term(dense, -1.0)])(batch())
    np.testing.assert_allclose(output.token_rewards, tokens)
    with pytest.raises(RewardError, match="remove the clip"):
        CompositeReward([Term(dense, clip=(0.0, 1.0))])(batch())
    with pytest.raises(RewardError, match="is nan for sample 's0'"):
        CompositeReward([Term(Given([0.0] * 3, tokens=tokens * np.nan))])(batch())
    with pytest.raises(RewardError, match="token rewards of shape"):
        CompositeReward([Term(Given([0.0] * 3, tokens=tokens[0]))])(batch())


def test_empty_batch():
    reward = make_reward(
        spec({"name": "bleu"}, {"name": "length-penalty", "args": {"target": 3, "per_token": 1}})
    )
    output = reward(batch((), (), ()))
    assert output.scores.shape == (0,)
    assert {name: part.shape for name, part in output.components.items()} == {
        "bleu": (0,),
        "length-penalty": (0,),
    }


def test_wrong_shapes():
    with pytest.raises(RewardError, match="3 completions, 3 samples, 2 lengths"):
        CompositeReward([Term(Given([1.0] * 3))])(batch(lengths=(1, 2)))
    with pytest.raises(RewardError, match=r"scores of shape \(2,\), expected \(3,\)"):
        CompositeReward([Term(Given([1.0] * 2))])(batch())


def test_wrong_weights_and_bounds():
    with pytest.raises(RewardError, match="at least one term"):
        CompositeReward([])
    with pytest.raises(RewardError, match="weight is nan"):
        CompositeReward([Term(Given([1.0]), math.nan)])
    with pytest.raises(RewardError, match="'given': clip is"):
        CompositeReward([Term(Given([1.0]), clip=(1.0, 0.0))])
    with pytest.raises(RewardError, match="the whole reward: clip is"):
        CompositeReward([Term(Given([1.0]))], (math.nan, 0.0))


def test_make_reward_from_a_specification():
    reward = make_reward(
        spec(
            {"name": "rouge-1", "args": {"stemmer": False}, "weight": 0.75},
            {"name": "length", "args": {"scale": [0, 10]}, "weight": 0.25},
            {"name": "length-penalty", "args": {"target": 2, "per_token": 0.1}},
            clip=[-0.25, 1.0],
        )
    )
    output = reward(batch())
    np.testing.assert_allclose(output.components["rouge-1"], [0.75, 0.75 * 0.5, 0.0])
    np.testing.assert_allclose(output.components["length"], [0.075, 0.05, 0.0])
    np.testing.assert_allclose(output.scores, [0.825 - 0.2, 0.375 + 0.05 - 0.1, 0.0])
    for part in ("0.75*[rouge1|", "scale:0..10", "length-penalty|beyond:2", "|clip:-0.25..1"):
        assert part in reward.signature


def test_each_row_is_independent_of_its_batch_mates():
    names = ["bleu", "chrf", "ter", "rouge-2", "rouge-l", "meteor-exact-stem", "distinct-2"]
    terms = [{"name": name} for name in names]
    terms.append({"name": "length-penalty", "args": {"target": 2, "per_token": 0.1}})
    reward = make_reward(spec(*terms))
    whole = batch()
    together = reward(whole).scores
    for row in range(len(whole)):
        alone = RewardBatch(
            whole.samples[row : row + 1], whole.completions[row : row + 1],
            whole.lengths[row : row + 1], whole.terminated[row : row + 1],
        )  # fmt: skip
        assert reward(alone).scores[0] == pytest.approx(together[row], abs=1e-12)
    np.testing.assert_array_equal(reward(whole).scores, together)


def test_prepare_reaches_every_term():
    first, second = Given([1.0]), Given([1.0])
    CompositeReward([Term(first), Term(second)]).prepare(["sample"])
    assert first.prepared == second.prepared == ["sample"]


@pytest.mark.parametrize(
    ("term", "error", "message"),
    [
        ({"name": "blue"}, RewardError, "unknown reward or metric 'blue'; did you mean 'bleu'"),
        ({"name": "bleu", "args": {"x": 1}}, MetricError, "unknown argument 'x'"),
        ({"name": "bleu", "args": {"scale": "big"}}, RewardError, "give true, false or"),
        ({"name": "length-penalty"}, RewardError, "'target' is missing; argument 'per_token' is"),
        ({"name": "repetition-penalty", "args": {"vale": 1}}, RewardError, "did you mean 'value'"),
    ],
)
def test_make_reward_messages(term, error, message):
    with pytest.raises(error, match=message):
        make_reward(spec(term))


def test_a_clip_does_not_hide_an_infinite_sum():
    reward = CompositeReward([Term(Given([2e38] * 3), 10.0)], clip=(-1, 1))
    with pytest.raises(RewardNotFiniteError, match=r"'reward' is .*e\+39, too large for single"):
        reward(batch())


class Telling(Given):
    """Gives what it is told, with facts."""

    def __init__(self, info, name="telling"):
        super().__init__([0.0, 1.0, 2.0], name)
        self.info = info

    def __call__(self, rows):
        return RewardOutput(np.array(self.scores), info=self.info)


def test_info_goes_through_a_composite_under_the_terms_names():
    first = Telling({"error": ["A", None, "B"], "passed": np.array([1, 2, 3])})
    whole = CompositeReward([Term(first, 0.0), Term(Given([0.0] * 3)), Term(first, clip=(0, 1))])
    info = whole(batch()).info
    assert info["telling/error"] == ("A", None, "B")
    assert info["telling-2/passed"] == (1, 2, 3)
    assert set(map(type, info["telling/passed"])) == {int}
    assert len(info) == 4


def test_a_metric_says_more_than_its_value():
    class Explained(Fixed):
        def score(self, completions, samples):
            result = super().score(completions, samples)
            return MetricResult(0.0, result.per_sample, info={"why": ["x", "y", "z"]})

    assert MetricReward(Explained([1.0, 2.0, 3.0]))(batch()).info == {"why": ("x", "y", "z")}


def test_a_plain_function_may_return_a_whole_output():
    def parses(completions):
        return RewardOutput([1, True, 0.0], info={"error": ["", "é" * 2000, "\ud800\0"]})

    output = make_reward(parses)(batch())
    assert output.scores.tolist() == [1.0, 1.0, 0.0]
    first, long, odd = output.info["parses/error"]
    assert first == ""
    assert len(long) == 1000
    assert long.endswith("é…")
    assert odd == "\\ud800\\x00"
    assert output.scores.dtype == np.float64


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"error": ["a"]}, r"info\['error'\] has 1 values for 3 completions; give one for each"),
        ({"error": "abc"}, r"info\['error'\] is 'abc'; give a list"),
        ({"a b": [1, 2, 3]}, "info has the name 'a b'; a name is at most 64 letters"),
        ({"error": [1, {}, 3]}, r"info\['error'\] is {} for sample 's1'; give a text"),
        ({"error": [1, 2, math.nan]}, r"info\['error'\] is nan for sample 's2'"),
        ([("error", [1, 2, 3])], "info is .*; give a mapping"),
        ({f"n{i}": [1, 2, 3] for i in range(33)}, "info has 33 names; give at most 32"),
    ],
)
def test_info_that_no_record_can_hold(info, reason):
    with pytest.raises(RewardError, match=rf"'telling' \(.*test_rewards.py:\d+\): {reason}"):
        CompositeReward([Term(Telling(info))])(batch())
